"""The trial of rates finds where the loss falls fastest and stops where it explodes."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch

from triage.errors import ConfigurationError, DataError, NotWritten
from triage.learn import rates
from triage.learn.cache import pictures
from triage.learn.data import read_films
from triage.learn.rates import find_rate, plot, steepest
from triage.learn.recipe import read_recipe
from triage.learn.sampling import Drawer
from triage.learn.train import try_rates


def test_the_steepest_rate_is_the_one_on_the_slope():
    rates = list(np.logspace(-5, 0, 51))
    losses = [2 - 1 / (1 + (0.003 / rate) ** 3) for rate in rates]
    assert steepest(rates, losses) == pytest.approx(0.003, rel=0.3)


def test_a_trial_stops_when_the_loss_explodes_and_draws_its_plot(make_set, make_recipe, tmp_path):
    films = read_films(make_set())
    drawer = Drawer(films, pictures(films, tmp_path / "cache"), read_recipe(make_recipe()))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(32 * 32, 7))
    trial = find_rate(network, drawer, torch.device("cpu"), low=1e-5, high=100.0, steps=40)
    assert 3 <= len(trial.rates) < 40
    assert 1e-5 <= trial.best <= max(trial.rates)
    plot(trial, tmp_path / "new" / "rates.png")
    assert (tmp_path / "new" / "rates.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(NotWritten, match=r"rates\.png can't be written"):
        plot(trial, tmp_path / "file" / "rates.png")


def test_a_trial_learns_as_the_first_stage_does(make_set, make_recipe, tmp_path):
    stage = 'size = 32\nfilms = 8\nrate = 0.001\nlearn = "head"\nloss = { gate_weight = 0.0 }\n'
    films = read_films(make_set())
    recipe = read_recipe(make_recipe(stages=f"[[stages]]\n{stage}", weight_decay=0.0))
    drawer = Drawer(films, pictures(films, tmp_path / "cache"), recipe)
    torch.manual_seed(0)
    layers = [("body", torch.nn.Linear(32 * 32, 8)), ("_fc", torch.nn.Linear(8, 7))]
    network = torch.nn.Sequential(OrderedDict([("flat", torch.nn.Flatten()), *layers]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    find_rate(network, drawer, torch.device("cpu"), steps=4)
    after = network.state_dict()
    assert torch.equal(after["body.weight"], before["body.weight"])
    # the gate's output costs nothing in this stage
    assert torch.equal(after["_fc.weight"][-1], before["_fc.weight"][-1])
    assert not torch.equal(after["_fc.weight"][:-1], before["_fc.weight"][:-1])


def test_two_trials_of_a_recipe_are_one(make_set, make_recipe, tmp_path, monkeypatch):
    recipe, data, drawn = make_recipe(dropout=0.5), make_set(), []
    monkeypatch.setattr(rates, "plot", lambda trial, target: drawn.append(trial))
    monkeypatch.setattr(rates, "find_rate", partial(find_rate, steps=4))
    for _ in range(2):
        torch.rand(1)
        given = {"device": "cpu", "cache": tmp_path / "cache", "leave_out": ["south"]}
        best = try_rates(recipe, data, tmp_path / "runs", tmp_path / "rates.png", **given)
        assert best == drawn[-1].best
    assert drawn[0].losses == pytest.approx(drawn[1].losses, rel=1e-4)
    with pytest.raises(DataError, match="no source 'nowhere'"):
        try_rates(recipe, data, tmp_path, tmp_path / "rates.png", device="cpu", leave_out=["nowhere"])
    with pytest.raises(ConfigurationError, match="'tpu'"):
        try_rates(recipe, data, tmp_path, tmp_path / "rates.png", device="tpu")


def test_a_trial_has_nothing_to_go_on_with(make_recipe, tmp_path, command):
    given = ["--data", tmp_path, "--resume", "--find-rate", "rates.png"]
    code, _, error = command("train", make_recipe(), *given)
    assert code == 2
    assert "leave --resume out" in error
