"""Two processes that learn as one, and what happens when one is lost."""

from __future__ import annotations

import os

import pytest
import torch

from triage.errors import TrainingFailed
from triage.learn.together import Team, leading, processes_for


def _work(team: Team, die: bool) -> None:
    if die:
        os._exit(3)
    team.mean([torch.full((2, 3), 5.0), torch.tensor(1.0)])
    team.told((0.0, 0.0))
    team.take([torch.zeros(4)])


def test_two_processes_have_the_same_mean_and_do_as_the_first_says():
    with leading(2, _work, False) as team:
        gradient, cost = torch.arange(6.0).reshape(3, 2).T, torch.tensor(3.0)
        team.mean([gradient, cost])
        assert gradient.tolist() == [[2.5, 3.5, 4.5], [3.0, 4.0, 5.0]]
        assert float(cost) == 2.0
        assert team.told((1.0, 0.125)) == [1.0, 0.125]
        kept = torch.arange(4.0)
        team.take([kept])
        assert kept.tolist() == [0, 1, 2, 3]


def test_a_lost_process_is_a_sentence():
    with (
        pytest.raises(TrainingFailed, match="process of the training has ended"),
        leading(2, _work, True) as team,
    ):
        team.mean([torch.zeros(1)])


def test_one_process_is_a_team_of_its_own():
    with leading(1, _work, True) as team:
        assert team.leads
        value = torch.tensor(2.0)
        team.mean([value])
        assert float(value) == 2
        assert team.told((1.0,)) == [1.0]


def test_no_more_processes_than_cores_and_one_for_a_gpu(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert processes_for(2, torch.device("cpu")) == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert processes_for(2, torch.device("cpu")) == 2
    assert processes_for(2, torch.device("cuda")) == 1
