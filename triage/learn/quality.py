"""Figures of the any-disease answer beyond its area: fixed points, predictive values, calibration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_curve

from triage.learn.measures import rounded

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_LEVELS = (0.80, 0.90, 0.95, 0.97, 0.99)
_PREVALENCES = (0.01, 0.05, 0.10)
_BINS = 10


def trade_offs(truth: Bools, score: Floats) -> dict[str, dict[str, float | None]]:
    """Return sensitivity at fixed specificities and the reverse."""
    if truth.all() or not truth.any():
        return {}
    false, true, _ = roc_curve(truth, score)
    sensitivity = {
        f"{level:.2f}": rounded(float(true[false <= 1 - level + 1e-12].max())) for level in _LEVELS
    }
    specificity = {
        f"{level:.2f}": rounded(float(1 - false[true >= level - 1e-12].min())) for level in _LEVELS
    }
    return {"sensitivity_at_specificity": sensitivity, "specificity_at_sensitivity": specificity}


def prevalence_figures(truth: Bools, answer: Bools) -> dict[str, dict[str, float | None]]:
    """Return what a positive and a negative answer are worth at prevalences of 1, 5 and 10 %."""
    if truth.all() or not truth.any():
        return {}
    sensitivity, specificity = float(answer[truth].mean()), float((~answer[~truth]).mean())
    found = {}
    for prevalence in _PREVALENCES:
        positive = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
        negative = specificity * (1 - prevalence) + (1 - sensitivity) * prevalence
        found[f"{prevalence:.2f}"] = {
            "ppv": rounded(sensitivity * prevalence / positive) if positive else None,
            "npv": rounded(specificity * (1 - prevalence) / negative) if negative else None,
        }
    return found


def calibration_figures(truth: Bools, probability: Floats) -> dict[str, object]:
    """Return Brier score, expected calibration error, slope and intercept, and the reliability curve."""
    if truth.all() or not truth.any():
        return {}
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    line = LogisticRegression(C=1e9).fit(np.log(clipped / (1 - clipped))[:, None], truth)
    curve = reliability(truth, probability)
    error = sum(n * abs(seen - said) for said, seen, n in curve) / len(truth)
    return {
        "brier": rounded(float(brier_score_loss(truth, clipped))),
        "ece": rounded(error),
        "slope": rounded(float(line.coef_[0, 0])),
        "intercept": rounded(float(line.intercept_[0])),
        "reliability": [[rounded(said), rounded(seen), n] for said, seen, n in curve],
    }


def reliability(truth: Bools, probability: Floats) -> list[tuple[float, float, int]]:
    """Return for each tenth of probability that has films: mean said, share seen, films."""
    which = np.minimum((probability * _BINS).astype(np.int64), _BINS - 1)
    found = []
    for index in range(_BINS):
        mine = which == index
        if mine.any():
            found.append((float(probability[mine].mean()), float(truth[mine].mean()), int(mine.sum())))
    return found
