"""The trial of rates finds where the loss falls fastest and stops where it explodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triage.learn.cache import pictures
from triage.learn.data import read_films
from triage.learn.rates import find_rate, plot, steepest
from triage.learn.recipe import read_recipe
from triage.learn.sampling import Drawer


def test_the_steepest_rate_is_the_one_on_the_slope():
    rates = list(np.logspace(-5, 0, 51))
    losses = [2 - 1 / (1 + (0.003 / rate) ** 3) for rate in rates]
    assert steepest(rates, losses) == pytest.approx(0.003, rel=0.3)


def test_a_trial_stops_when_the_loss_explodes_and_draws_its_plot(make_set, make_recipe, tmp_path):
    films = read_films(make_set())
    drawer = Drawer(films, pictures(films, tmp_path / "cache"), read_recipe(make_recipe()))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 7))
    trial = find_rate(network, drawer, low=1e-5, high=100.0, steps=40)
    assert 3 <= len(trial.rates) < 40
    assert 1e-5 <= trial.best <= max(trial.rates)
    plot(trial, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
