"""Figures agree with scikit-learn, and their intervals with a bootstrap done the slow way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score
from torchmetrics.functional.classification import (
    binary_calibration_error,
    binary_sensitivity_at_specificity,
    binary_specificity_at_sensitivity,
)

from triage.learn.measures import (
    Resamples,
    Row,
    confusion,
    confusion_resampled,
    ece_resampled,
    interval,
    most_confused,
    ranking,
    rates,
)
from triage.learn.quality import _lines


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


def test_resampled_figures_are_those_of_the_repeated_films(films):
    truth, score, patients = films
    score = (score + 0.01) / 1.4
    weights = Resamples(patients, 8).weights
    found = ranking(truth, score, weights)
    odds = np.log(score / (1 - score))
    slopes, intercepts = _lines(truth, odds, weights, 1.0, 0.0)
    told = zip(
        found.auroc(), found.auprc(), ece_resampled(truth, score, weights), slopes, intercepts, strict=True
    )
    for weight, (roc, precision, error, slope, intercept) in zip(weights.astype(int), told, strict=True):
        rows = np.repeat(np.arange(len(truth)), weight)
        assert roc == pytest.approx(roc_auc_score(truth[rows], score[rows]))
        assert precision == pytest.approx(average_precision_score(truth[rows], score[rows]))
        said, seen = torch.from_numpy(score[rows]), torch.from_numpy(truth[rows].astype(int))
        assert error == pytest.approx(float(binary_calibration_error(said, seen, n_bins=10)), abs=1e-6)
        line = LogisticRegression(C=1e9, tol=1e-8).fit(odds[rows, None], truth[rows])
        assert slope == pytest.approx(line.coef_[0, 0], abs=1e-3)
        assert intercept == pytest.approx(line.intercept_[0], abs=1e-3)


@pytest.mark.parametrize("level", [0.33, 0.8, 0.97])
def test_fixed_points_are_torchmetrics(films, level):
    truth, score, _ = films
    found = ranking(truth, score, np.ones((1, len(truth)), np.float32))
    said, seen = torch.from_numpy(score / 2), torch.from_numpy(truth.astype(int))
    sensitivity, _ = binary_sensitivity_at_specificity(said, seen, level)
    specificity, _ = binary_specificity_at_sensitivity(said, seen, level)
    assert found.sensitivity_at(level)[0] == pytest.approx(float(sensitivity))
    assert found.specificity_at(level)[0] == pytest.approx(float(specificity))


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
    row.calibration(truth, score / 1.3)
    row.binary(truth, score > 0.6, ("sensitivity", "precision"))
    for key in ("auroc", "auprc", "brier", "ece", "sensitivity", "precision"):
        low, high = row.row[f"{key}_ci"]
        assert low < row.row[key] < high, key
    assert row.row["n"] == 120


def test_few_films_that_are_all_right_or_all_wrong_are_no_certainty():
    patients = np.array(["a", "a", "b", "c", "d", "e"])
    among, hit = np.array([True] * 5 + [False]), np.array([True] * 5 + [False])
    row = Row(patients)
    row.share("all", hit, among)
    row.share("none", ~hit, among)
    row.binary(among, hit, ("sensitivity", "specificity", "precision", "f1"))
    # the five films are of four patients
    exact = [binomtest(hits, 4).proportion_ci() for hits in (4, 0)]
    assert row.row["all_ci"] == row.row["sensitivity_ci"] == row.row["precision_ci"]
    assert row.row["all_ci"] == pytest.approx((exact[0].low, 1), abs=1e-6)
    assert row.row["none_ci"] == pytest.approx((0, exact[1].high), abs=1e-6)
    assert row.row["specificity_ci"] == pytest.approx((0.025, 1))


def test_a_rate_that_films_cannot_tell_is_nothing():
    row = Row(np.array(["a", "b", "c"]))
    row.area(np.array([True, True, True]), np.array([0.1, 0.2, 0.3]))
    assert row.row["auroc"] is None


def test_the_most_confused_pair_comes_first():
    pairs = most_confused(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 0]), ("a", "b", "c"))
    assert pairs == [["a", "b", 2], ["a", "c", 1], ["b", "a", 1]]
