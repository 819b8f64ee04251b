"""Measures with intervals: point values by scikit-learn, 95 % intervals by a bootstrap over patients.

A resample is a weight for every film (how often its patient was drawn), so that all resamples of a
measure are one matrix product instead of a loop over the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

RESAMPLES = 1000
_SEED = 20_240

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Resamples:
    """Patients drawn with replacement; `weights` [B, n] counts how often each film was drawn."""

    patients: npt.NDArray[np.str_]
    count: int = RESAMPLES

    @cached_property
    def weights(self) -> npt.NDArray[np.float32]:
        """Return the weights of the films, float32 [B, n]; the same for the same patients."""
        _, index = np.unique(self.patients, return_inverse=True)
        people = int(index.max()) + 1
        drawn = np.random.default_rng(_SEED).multinomial(people, np.full(people, 1 / people), self.count)
        return drawn[:, index].astype(np.float32)


def interval(values: Floats) -> Interval | None:
    """Return the middle 95 % of the resampled values that exist, or None if fewer than half do."""
    finite = values[np.isfinite(values)]
    if len(finite) * 2 < len(values):
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def auroc(truth: Bools, score: Floats) -> float:
    """Return the area under the ROC curve, or NaN where only one class is there."""
    if truth.all() or not truth.any():
        return float("nan")
    return float(roc_auc_score(truth, score))


def auprc(truth: Bools, score: Floats) -> float:
    """Return the average precision, or NaN where no film is positive."""
    return float(average_precision_score(truth, score)) if truth.any() else float("nan")


def auroc_resampled(truth: Bools, score: Floats, weights: npt.NDArray[np.float32]) -> Floats:
    """Return the area under the ROC curve of every resample; ties count half."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_weights = weights[:, order].astype(np.float64)
    positive = np.add.reduceat(sorted_weights * truth[order], starts, axis=1)
    negative = np.add.reduceat(sorted_weights * ~truth[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - 0.5 * negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * below).sum(axis=1) / pairs


def confusion(truth: Ints, answer: Ints, classes: int) -> Ints:
    """Return counts [classes, classes]: rows are the truth, columns the answer."""
    return np.bincount(truth * classes + answer, minlength=classes * classes).reshape(classes, classes)


def confusion_resampled(truth: Ints, answer: Ints, classes: int, weights: npt.NDArray[np.float32]) -> Floats:
    """Return the confusion of every resample, [B, classes, classes]."""
    cells = np.zeros((len(truth), classes * classes), np.float32)
    cells[np.arange(len(truth)), truth * classes + answer] = 1
    return (weights @ cells).astype(np.float64).reshape(-1, classes, classes)


def rates(matrix: npt.NDArray[np.float64]) -> dict[str, Floats]:
    """Return accuracy, balanced accuracy, macro F1 and per class f1, recall and precision.

    `matrix` is [..., classes, classes]; a class without films counts neither in balanced accuracy nor in
    macro F1, and its own figures are NaN.
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    true, answered = matrix.sum(axis=-1), matrix.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hit / true
        precision = np.where(true + answered > 0, hit / np.maximum(answered, 1e-12), np.nan)
        f1 = 2 * hit / (true + answered)
        f1 = np.where(true > 0, f1, np.nan)
        accuracy = hit.sum(axis=-1) / matrix.sum(axis=(-2, -1))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": _mean(recall),
        "macro_f1": _mean(f1),
        "f1": f1,
        "recall": recall,
        "precision": precision,
    }


def _mean(values: Floats) -> Floats:
    there = np.isfinite(values)
    return np.where(there, values, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def rounded(value: float) -> float | None:
    """Return a figure as the JSON shows it: four digits, nothing where there is none."""
    return round(float(value), 4) if np.isfinite(value) else None


class Row:
    """One row of figures over some films; `row` is what the JSON shows."""

    def __init__(self, patients: npt.NDArray[np.str_]) -> None:
        self.row: dict[str, object] = {"n": len(patients)}
        self._resamples = Resamples(patients)

    def put(self, key: str, value: float, resampled: Floats | None = None) -> None:
        """Add a figure and its interval as `<key>_ci`."""
        self.row[key] = rounded(value)
        if resampled is not None and self.row[key] is not None:
            self.row[f"{key}_ci"] = interval(resampled)

    def area(self, truth: Bools, score: Floats, key: str = "auroc") -> None:
        """Add the area under the ROC curve."""
        value = auroc(truth, score)
        resampled = auroc_resampled(truth, score, self._resamples.weights) if np.isfinite(value) else None
        self.put(key, value, resampled)

    def answers(
        self, truth: Ints, answer: Ints, names: Sequence[str], wanted: Sequence[str], each: Sequence[str] = ()
    ) -> None:
        """Add overall figures named in `wanted` and per class figures named in `each` as `f1_covid19`."""
        point = rates(confusion(truth, answer, len(names)).astype(np.float64))
        many = rates(confusion_resampled(truth, answer, len(names), self._resamples.weights))
        for key in wanted:
            self.put(key, float(point[key]), many[key])
        for key in each:
            for index, name in enumerate(names):
                if np.isfinite(point[key][index]):
                    self.put(f"{key}_{name}", float(point[key][index]), many[key][:, index])

    def binary(self, truth: Bools, answer: Bools, wanted: Sequence[str]) -> None:
        """Add figures of a yes-or-no answer: accuracy, precision, recall, f1, sensitivity, specificity."""
        point = _binary(confusion(truth.astype(np.int64), answer.astype(np.int64), 2).astype(np.float64))
        many = _binary(
            confusion_resampled(truth.astype(np.int64), answer.astype(np.int64), 2, self._resamples.weights)
        )
        for key in wanted:
            self.put(key, float(point[key]), many[key])


def _binary(matrix: Floats) -> dict[str, Floats]:
    everything = rates(matrix)
    return {
        "accuracy": everything["accuracy"],
        "precision": everything["precision"][..., 1],
        "recall": everything["recall"][..., 1],
        "sensitivity": everything["recall"][..., 1],
        "specificity": everything["recall"][..., 0],
        "f1": everything["f1"][..., 1],
    }


def most_confused(truth: Ints, answer: Ints, names: Sequence[str], count: int = 5) -> list[list[object]]:
    """Return the pairs (truth, answer, films) that are confused most, worst first."""
    matrix = confusion(truth, answer, len(names))
    pairs = [
        [names[i], names[j], int(matrix[i, j])]
        for i in range(len(names))
        for j in range(len(names))
        if i != j and matrix[i, j]
    ]
    return sorted(pairs, key=lambda pair: (-int(str(pair[2])), str(pair[0]), str(pair[1])))[:count]
