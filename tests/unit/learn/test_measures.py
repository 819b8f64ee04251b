"""Figures agree with scikit-learn, and their intervals with a bootstrap done the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from triage.learn.measures import (
    Resamples,
    Row,
    auroc_resampled,
    confusion,
    confusion_resampled,
    interval,
    most_confused,
    rates,
)


@pytest.fixture
def films():
    rng = np.random.default_rng(1)
    truth = rng.random(120) < 0.4
    score = np.round(truth * 0.3 + rng.random(120), 1)  # many ties
    patients = np.array([f"p{number}" for number in rng.integers(0, 50, 120)])
    return truth, score, patients


def test_a_patient_is_drawn_with_all_films_or_none(films):
    _, _, patients = films
    weights = Resamples(patients, 20).weights
    for patient in np.unique(patients):
        assert (np.ptp(weights[:, patients == patient], axis=1) == 0).all()


def test_resampled_areas_are_those_of_the_repeated_films(films):
    truth, score, patients = films
    weights = Resamples(patients, 8).weights
    found = auroc_resampled(truth, score, weights)
    for weight, area in zip(weights.astype(int), found, strict=True):
        rows = np.repeat(np.arange(len(truth)), weight)
        assert area == pytest.approx(roc_auc_score(truth[rows], score[rows]))


def test_rates_are_scikit_learns():
    rng = np.random.default_rng(2)
    truth, answer = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    found = rates(confusion(truth, answer, 4).astype(float))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, answer, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, answer))
    assert found["accuracy"] == pytest.approx((truth == answer).mean())
    once = confusion_resampled(truth, answer, 4, np.ones((1, 200), np.float32))
    assert (once[0] == confusion(truth, answer, 4)).all()


def test_an_interval_holds_the_middle_of_the_resamples():
    assert interval(np.arange(1001) / 1000) == (0.025, 0.975)
    assert interval(np.full(10, np.nan)) is None


def test_a_row_shows_each_rate_with_its_interval(films):
    truth, score, patients = films
    row = Row(patients)
    row.area(truth, score)
    row.binary(truth, score > 0.6, ("sensitivity", "precision"))
    for key in ("auroc", "sensitivity", "precision"):
        low, high = row.row[f"{key}_ci"]
        assert low < row.row[key] < high
    assert row.row["n"] == 120


def test_a_rate_that_films_cannot_tell_is_nothing():
    row = Row(np.array(["a", "b", "c"]))
    row.area(np.array([True, True, True]), np.array([0.1, 0.2, 0.3]))
    assert row.row["auroc"] is None


def test_the_most_confused_pair_comes_first():
    pairs = most_confused(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0]), ("a", "b", "c"))
    assert pairs == [["a", "b", 2], ["a", "c", 1], ["b", "a", 1]]
