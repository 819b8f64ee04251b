"""Measures with intervals: 95 % by a bootstrap over patients, point values by the libraries.

Areas and the Brier score are scikit-learn's, calibration errors torchmetrics'.

A resample is a weight for every film (how often its patient was drawn), so that all resamples of a
measure are one matrix product instead of a loop over the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

RESAMPLES = 1000
#: Equal parts of probability over which a calibration error is taken.
BINS = 10
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
        return _drawn(int(index.max()) + 1, self.count)[:, index]


@lru_cache(maxsize=8)
def _drawn(people: int, count: int) -> npt.NDArray[np.float32]:
    """Return how often each of some people is drawn, [count, people]; many rows are of the same people."""
    draw = np.random.default_rng(_SEED)
    return draw.multinomial(people, np.full(people, 1 / people), count).astype(np.float32)


def interval(values: Floats) -> Interval | None:
    """Return the middle 95 % of the resampled values that exist, or None if fewer than half do."""
    finite = values[np.isfinite(values)]
    if len(finite) * 2 < len(values):
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return round(float(low), 6), round(float(high), 6)


def auroc(truth: Bools, score: Floats) -> float:
    """Return the area under the ROC curve, or NaN where only one class is there."""
    if truth.all() or not truth.any():
        return float("nan")
    return float(roc_auc_score(truth, score))


def auprc(truth: Bools, score: Floats) -> float:
    """Return the average precision, or NaN where no film is positive."""
    return float(average_precision_score(truth, score)) if truth.any() else float("nan")


@dataclass(frozen=True)
class Ranking:
    """Films from the highest score down: diseased and others from each score on, in every resample [B, m]."""

    hits: Floats
    alarms: Floats

    def auroc(self) -> Floats:
        """Return the area under the ROC curve of every resample; ties count half."""
        steps = np.diff(self.alarms, axis=1, prepend=0)
        before = self.hits - 0.5 * np.diff(self.hits, axis=1, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (steps * before).sum(axis=1) / (self.hits[:, -1] * self.alarms[:, -1])

    def auprc(self) -> Floats:
        """Return the average precision of every resample."""
        precision = self.hits / np.maximum(self.hits + self.alarms, 1e-12)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.diff(self.hits, axis=1, prepend=0) * precision).sum(axis=1) / self.hits[:, -1]

    def sensitivity_at(self, specificity: float) -> Floats:
        """Return the best sensitivity of every resample at no less than a specificity."""
        allowed = (self.alarms <= (1 - specificity) * self.alarms[:, -1:] + 1e-9).sum(axis=1)
        best = np.take_along_axis(self.hits, np.maximum(allowed - 1, 0)[:, None], axis=1)[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(allowed > 0, best, 0) / self.hits[:, -1]

    def specificity_at(self, sensitivity: float) -> Floats:
        """Return the best specificity of every resample at no less than a sensitivity."""
        first = (self.hits < sensitivity * self.hits[:, -1:] - 1e-9).sum(axis=1)
        least = np.take_along_axis(self.alarms, first[:, None], axis=1)[:, 0]
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - least / self.alarms[:, -1]


def ranking(truth: Bools, score: Floats, weights: npt.NDArray[np.float32]) -> Ranking:
    """Return the films in the order of their scores, in every resample."""
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) < 0])
    drawn = weights[:, order]

    def until(of: Bools) -> Floats:
        return np.add.reduceat(drawn * of, starts, axis=1).cumsum(axis=1, dtype=np.float64)

    return Ranking(until(truth[order]), until(~truth[order]))


def ece(truth: Bools, probability: Floats) -> float:
    """Return the expected calibration error: how far what is said lies from what is seen, on average."""
    # a second of imports, which learning has no need of
    from torchmetrics.functional.classification import binary_calibration_error

    said, seen = torch.from_numpy(probability), torch.from_numpy(truth.astype(np.int64))
    return float(binary_calibration_error(said, seen, n_bins=BINS))


def ece_resampled(truth: Bools, probability: Floats, weights: npt.NDArray[np.float32]) -> Floats:
    """Return the expected calibration error of every resample."""
    which = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    off = np.zeros((len(truth), BINS), np.float32)
    off[np.arange(len(truth)), which] = truth - probability
    return np.abs(weights @ off).sum(axis=1) / weights.sum(axis=1)


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
    """Return a figure as the JSON shows it, nothing where there is none.

    Six digits: what is shown with three of them is rounded once.
    """
    return round(float(value), 6) if np.isfinite(value) else None


class Row:
    """One row of figures over some films; `row` is what the JSON shows."""

    def __init__(self, patients: npt.NDArray[np.str_]) -> None:
        self.row: dict[str, object] = {"n": len(patients)}
        self._resamples = Resamples(patients)

    def put(
        self, key: str, value: float, resampled: Floats | None = None, among: Bools | None = None
    ) -> None:
        """Add a figure and its interval as `<key>_ci`.

        `among` are the films of which it is a share: of none and of all of them every resample says the same,
        so the interval is the exact binomial one, of their patients.
        """
        self.row[key] = rounded(value)
        if resampled is None or self.row[key] is None:
            return
        if among is not None and among.any() and value in {0.0, 1.0}:
            people = len(np.unique(self._resamples.patients[among]))
            exact = binomtest(people if value else 0, people).proportion_ci()
            self.row[f"{key}_ci"] = (round(exact.low, 6), round(exact.high, 6))
        else:
            self.row[f"{key}_ci"] = interval(resampled)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """Return how often each film was drawn in each resample, for figures made elsewhere."""
        return self._resamples.weights

    def area(self, truth: Bools, score: Floats) -> None:
        """Add the areas under the ROC curve and under that of precision and recall."""
        if truth.all() or not truth.any():
            self.put("auroc", float("nan"))
            self.put("auprc", float("nan"))
            return
        many = ranking(truth, score, self.weights)
        self.put("auroc", auroc(truth, score), many.auroc())
        self.put("auprc", auprc(truth, score), many.auprc())

    def calibration(self, truth: Bools, probability: Floats) -> None:
        """Add Brier score and expected calibration error."""
        squares = ((truth - probability) ** 2).astype(np.float32)
        brier = (self.weights @ squares) / self.weights.sum(axis=1)
        self.put("brier", float(brier_score_loss(truth, probability)), brier)
        self.put("ece", ece(truth, probability), ece_resampled(truth, probability, self.weights))

    def share(self, key: str, hit: Bools, among: Bools) -> None:
        """Add the share of some films that are hit, where there are any."""
        if among.any():
            with np.errstate(invalid="ignore", divide="ignore"):
                many = (self.weights @ (hit & among)) / (self.weights @ among)
            self.put(key, float(hit[among].mean()), many.astype(np.float64), among)

    def answers(
        self, truth: Ints, answer: Ints, names: Sequence[str], wanted: Sequence[str], each: Sequence[str] = ()
    ) -> None:
        """Add overall figures named in `wanted` and per class figures named in `each` as `f1_covid19`."""
        point = rates(confusion(truth, answer, len(names)).astype(np.float64))
        many = rates(confusion_resampled(truth, answer, len(names), self.weights))
        for key in wanted:
            self.put(key, float(point[key]), many[key])
        for key in each:
            for index, name in enumerate(names):
                if np.isfinite(point[key][index]):
                    among = truth == index if key == "recall" else None
                    self.put(f"{key}_{name}", float(point[key][index]), many[key][:, index], among)

    def binary(self, truth: Bools, answer: Bools, wanted: Sequence[str]) -> None:
        """Add figures of a yes-or-no answer: accuracy, precision, recall, f1, sensitivity, specificity."""
        yes, said = truth.astype(np.int64), answer.astype(np.int64)
        point = _binary(confusion(yes, said, 2).astype(np.float64))
        many = _binary(confusion_resampled(yes, said, 2, self.weights))
        of = {"recall": truth, "sensitivity": truth, "specificity": ~truth, "precision": answer}
        for key in wanted:
            self.put(key, float(point[key]), many[key], of.get(key))


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
