"""Figures of the any-disease answer beyond its area: fixed points, predictive values, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from triage.learn.measures import BINS, Row, ece_resampled, ranking, rounded

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Patients = npt.NDArray[np.str_]
Figures = dict[str, Any]

_LEVELS = (0.80, 0.90, 0.95, 0.97, 0.99)
_PREVALENCES = (0.01, 0.05, 0.10)
#: Steps of Newton's method; from the fit to all films a resample's is reached in four or five.
_STEPS = 8


def trade_offs(truth: Bools, score: Floats, patients: Patients) -> dict[str, Figures]:
    """Return, for some levels, the sensitivity at that specificity and the reverse."""
    if truth.all() or not truth.any():
        return {}
    once = ranking(truth, score, np.ones((1, len(truth)), np.float32))
    many = ranking(truth, score, Row(patients).weights)
    found = {}
    for level in _LEVELS:
        row = Row(patients)
        row.put("sensitivity_at_specificity", once.sensitivity_at(level)[0], many.sensitivity_at(level))
        row.put("specificity_at_sensitivity", once.specificity_at(level)[0], many.specificity_at(level))
        found[f"{level:.2f}"] = row.row
    return found


def predictive_values(truth: Bools, answer: Bools, patients: Patients) -> dict[str, Figures]:
    """Return what a positive and a negative answer are worth at prevalences of 1, 5 and 10 %."""
    if truth.all() or not truth.any():
        return {}
    weights = np.concatenate([np.ones((1, len(truth)), np.float32), Row(patients).weights]).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = weights @ (truth & answer) / (weights @ truth)
        specificity = weights @ (~truth & ~answer) / (weights @ ~truth)
        found = {}
        for prevalence in _PREVALENCES:
            hits, rest = sensitivity * prevalence, specificity * (1 - prevalence)
            row = Row(patients)
            for key, values in (
                ("ppv", hits / (hits + (1 - prevalence) - rest)),
                ("npv", rest / (rest + prevalence - hits)),
            ):
                row.put(key, values[0], values[1:])
            found[f"{prevalence:.2f}"] = row.row
    return found


def calibration(truth: Bools, probability: Floats, patients: Patients) -> Figures:
    """Return Brier score, expected calibration error, slope and intercept, and the reliability curve."""
    if truth.all() or not truth.any():
        return {}
    row = Row(patients)
    row.calibration(truth, probability)
    slope, intercept = line(truth, probability)
    slopes, intercepts = _lines(truth, _odds(probability), row.weights, slope, intercept)
    row.put("slope", slope, slopes)
    row.put("intercept", intercept, intercepts)
    curve = reliability(truth, probability)
    row.row["reliability"] = [[rounded(said), rounded(seen), n] for said, seen, n in curve]
    return row.row


def line(truth: Bools, probability: Floats) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of the truth on the odds; 1 and 0 are perfect."""
    found = LogisticRegression(C=1e9).fit(_odds(probability)[:, None], truth)
    return float(found.coef_[0, 0]), float(found.intercept_[0])


def _odds(probability: Floats) -> Floats:
    """Return the logarithms of the odds."""
    return np.asarray(logit(np.clip(probability, 1e-6, 1 - 1e-6)), np.float64)


def _lines(
    truth: Bools, odds: Floats, weights: npt.NDArray[np.float32], slope: float, intercept: float
) -> tuple[Floats, Floats]:
    """Return slope and intercept of the logistic regression of every resample, by Newton's method."""
    slopes, intercepts = np.full(len(weights), slope), np.full(len(weights), intercept)
    short = odds.astype(np.float32)
    powers = np.stack([np.ones_like(short), short, short**2], axis=1)
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            fitted = np.outer(slopes, odds).astype(np.float32) + intercepts.astype(np.float32)[:, None]
            fitted = expit(fitted)
            up = (weights * (truth - fitted)) @ powers[:, :2]
            bend = (weights * fitted * (1 - fitted)) @ powers
            flat = bend[:, 0] * bend[:, 2] - bend[:, 1] ** 2
            intercepts = intercepts + (bend[:, 2] * up[:, 0] - bend[:, 1] * up[:, 1]) / flat
            slopes = slopes + (bend[:, 0] * up[:, 1] - bend[:, 1] * up[:, 0]) / flat
    return slopes, intercepts


def class_calibration(codes: npt.NDArray[np.int64], classes: Floats, patients: Patients) -> Figures:
    """Return how far the probability of the named class lies from how often it is the right one."""
    from torchmetrics.functional.classification import multiclass_calibration_error

    if not len(codes):
        return {}
    row = Row(patients)
    count = classes.shape[1]
    error = multiclass_calibration_error(torch.from_numpy(classes), torch.from_numpy(codes), count, BINS)
    right, said = classes.argmax(axis=1) == codes, classes.max(axis=1)
    row.put("ece", float(error), ece_resampled(right, said, row.weights))
    return row.row


def reliability(truth: Bools, probability: Floats) -> list[tuple[float, float, int]]:
    """Return for each tenth of probability that has films: mean said, share seen, films."""
    which = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    found = []
    for index in range(BINS):
        mine = which == index
        if mine.any():
            found.append((float(probability[mine].mean()), float(truth[mine].mean()), int(mine.sum())))
    return found
