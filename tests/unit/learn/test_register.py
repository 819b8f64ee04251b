"""The register of runs: a line a stage, with what was set and what it gave, also of old and broken runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from triage.errors import DataError
from triage.learn.cache import pictures
from triage.learn.data import read_films
from triage.learn.labels import CODE_NOT_FRONTAL
from triage.learn.recipe import Augment, Loss, read_recipe
from triage.learn.register import lines, trial_table
from triage.learn.runs import Run
from triage.learn.validate import look

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_STAGES = """
[[stages]]
size = 32
films = 100
rate = 0.003
learn = "head"
[[stages]]
size = 64
films = 60
rate = 1e-4
learn = 2
[[stages]]
size = 96
films = 30
rate = 1e-5
augment = { brightness = 0.5 }
"""
_FIGURES = {"any_disease": 0.9, "gate": 0.8, "accuracy": 0.7, "macro_f1": 0.6}


@pytest.fixture
def run(make_recipe, tmp_path) -> Run:
    """A run of three stages that has ended the first and looked at `val` once in the second."""
    nothing = "\n".join(f"{name} = 0.0" for name in Augment.model_fields)
    recipe = read_recipe(make_recipe(stages=_STAGES, extra=f"[augment]\n{nothing}"))
    run = Run(tmp_path / "runs" / "tiny-1")
    run.begin(recipe, "d" * 64, _NOW)
    run.note(train_films=[40, 40, 20])
    run.stage_weights(1, 32).touch()
    figures = _FIGURES | {"val_loss": 0.5, "precision": 0.75}
    none_called = figures | {"precision": None}
    run.record(
        [
            {"stage": 1, "size": 32, "seen": 48, "minutes": 1.0, "loss": 2.0} | figures,
            {"stage": 1, "size": 32, "seen": 96, "minutes": 2.5, "loss": 1.5} | figures,
            {"stage": 2, "size": 64, "seen": 140, "minutes": 6.0, "loss": 1.0} | none_called,
        ]
    )
    return run


def _columns(table: str, *names: str) -> list[tuple[str, ...]]:
    heads, *rows = (line.split() for line in table.splitlines())
    return [tuple(row[heads.index(name)] for name in names) for row in rows]


def test_every_stage_has_a_line_with_its_settings_and_its_last_look(run):
    table = trial_table(run.folder.parent)
    assert _columns(table, "run", "stage", "state", "network", "films", "drawn", "epochs") == [
        ("tiny-1", "1", "finished", "densenet121", "40", "96", "2.4"),
        ("tiny-1", "2", "running", "densenet121", "40", "40", "1.0"),
    ]
    assert _columns(table, "size", "learns", "rate", "changes", "min") == [
        ("32", "head", "0.003", "off", "2.5"),
        ("64", "2", "0.0001", "off", "3.5"),
    ]
    assert _columns(table, "loss", "val", "any", "f1", "acc", "prec") == [
        ("1.500", "0.500", "0.900", "0.600", "0.700", "0.750"),
        ("1.000", "0.500", "0.900", "0.600", "0.700", "-"),
    ]


def test_a_run_that_broke_off_before_a_stage_s_first_look_has_a_line_for_it(run):
    run.stage_weights(2, 64).touch()
    run.note(state="failed")
    table = trial_table(run.folder.parent)
    assert _columns(table, "stage", "state", "drawn", "size", "changes", "loss", "min")[1:] == [
        ("2", "finished", "40", "64", "off", "1.000", "3.5"),
        ("3", "failed", "-", "96", "on", "-", "-"),
    ]
    run.record([])
    assert _columns(trial_table(run.folder.parent), "stage", "state", "size") == [("1", "failed", "32")]


def test_what_an_old_run_does_not_know_is_a_dash(run):
    run.record([{"stage": 1, "size": 32, "seen": 96, "loss": 1.5} | _FIGURES])
    facts = {"recipe": "tiny", "state": "finished", "minutes": 3.0}
    (run.folder / "run.json").write_text(json.dumps(facts))
    names = ("stage", "state", "films", "drawn", "epochs", "val", "any", "prec", "min")
    assert _columns(trial_table(run.folder.parent), *names) == [
        ("1", "finished", "-", "96", "-", "-", "0.900", "-", "-")
    ]
    (run.folder / "settings.json").write_text('{"name": "tiny", "key_of_another_version": 1}')
    assert _columns(trial_table(run.folder.parent), *names, "size", "network") == [
        ("1", "finished", "-", "-", "-", "-", "0.900", "-", "-", "32", "-")
    ]
    run.record([])
    assert _columns(trial_table(run.folder.parent), "run", "stage", "state") == [("tiny-1", "-", "finished")]


def test_metrics_that_can_not_be_read_are_named(run):
    (run.folder / "metrics.jsonl").write_text("{half a line")
    with pytest.raises(DataError, match=r"metrics\.jsonl can't be read .* remove that run's folder"):
        trial_table(run.folder.parent)


def test_a_script_gets_the_same_as_json(run, tmp_path, command):
    root = str(run.folder.parent)
    code, out, _ = command("runs", "--runs", root, "--json")
    first, second = json.loads(out)
    assert code == 0
    assert (first["any_disease"], first["changes"], first["minutes"]) == (0.9, False, 2.5)
    assert (second["stage"], second["learns"], second["precision"]) == (2, 2, None)
    assert [first, second] == lines(run.folder.parent)
    assert json.loads(command("runs", "--runs", str(tmp_path / "none"), "--json")[1]) == []
    code, out, error = command("runs", "--runs", root, "--json", "--table")
    assert (code, out) == (2, "")
    assert "leave --table out" in error


class Says:
    """An engine that gives the logits it is told, whatever it sees."""

    def __init__(self, logits: np.ndarray) -> None:
        self._left = logits

    def infer(self, batch: np.ndarray) -> np.ndarray:
        said, self._left = self._left[: len(batch)], self._left[len(batch) :]
        return said


def test_a_look_measures_the_loss_of_the_labels_and_the_precision_of_any_disease(make_set, tmp_path):
    films = read_films(make_set(labels=("normal", "covid19", "not_frontal")))
    val = np.flatnonzero(films.splits == "val")
    codes = films.codes[val]
    frontal = codes < CODE_NOT_FRONTAL
    logits = np.random.default_rng(0).normal(0, 2, (len(val), 7)).astype(np.float32)
    settings = Loss(smoothing=0, gate_weight=0)
    asked = np.ones(len(films), bool)
    found, _ = look(Says(logits), films, pictures(films, tmp_path / "cache"), 32, asked, settings)
    own = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits[frontal, :6]), torch.from_numpy(codes[frontal])
    )
    assert found["val_loss"] == pytest.approx(float(own), rel=1e-5)
    likelihood = np.exp(logits[:, :6]) / np.exp(logits[:, :6]).sum(axis=1, keepdims=True)
    called = frontal & (likelihood[:, 0] <= 0.5)
    assert found["precision"] == pytest.approx((codes[called] != 0).mean())
    healthy = np.where(np.arange(7) == 0, 9, 0) * np.ones((len(val), 1), np.float32)
    found, _ = look(
        Says(healthy.astype(np.float32)), films, pictures(films, tmp_path / "cache"), 32, asked, settings
    )
    assert np.isnan(found["precision"])
