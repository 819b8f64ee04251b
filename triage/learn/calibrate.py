"""Scale and thresholds, all from `val`: nothing here ever sees the films of `test`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from triage.assess.registry import Thresholds
from triage.assess.scale import Scale
from triage.domain.finding import CLASSES, Finding
from triage.learn.answers import Answers, answers_of
from triage.learn.data import Films
from triage.learn.labels import BACTERIAL, CODE_UNLABELLED, CODE_UNSPECIFIED, NORMAL, VIRAL
from triage.learn.measures import confusion, rates

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

#: A missed disease is the disaster: from the high threshold on at least this share of the diseased is found.
SENSITIVITY = 0.97
#: The grey zone below it reaches down to this share.
GREY_SENSITIVITY = 0.985
#: A finding is present where its precision on `val` reaches this, absent where this share is found above.
FINDING_PRECISION = 0.80
FINDING_RECALL = 0.95
#: ... but at least this share of the films without the finding is called absent.
FINDING_SPECIFICITY = 0.90
#: Share of the frontal films of `val` that must pass the gate.
GATE_RECALL = 0.998
#: Resamples of `val` over which what is best for an F1 is averaged, and the steps in which a shift is sought.
_RESAMPLES = 12
_STEPS = (0.4, 0.2, 0.1)
_FURTHEST = 3.0


@dataclass(frozen=True)
class Calibration:
    """All that model.toml says beyond the weights."""

    scale: Scale
    gate: float
    any_disease: Thresholds
    findings: dict[Finding, Thresholds]


def temperature_of(films: Films, values: npt.NDArray[np.float32]) -> float:
    """Return the temperature that makes the class probabilities of frontal films most likely."""
    codes, logits = films.codes[films.frontal], values[films.frontal]

    def loss(log_temperature: float) -> float:
        likelihood = _likelihood(Scale(float(np.exp(log_temperature))).classes(logits), codes)
        return float(-np.log(np.clip(likelihood, 1e-9, 1)).mean())

    return round(float(np.exp(minimize_scalar(loss, bounds=(-1.6, 1.6), method="bounded").x)), 4)


def _likelihood(classes: Floats, codes: npt.NDArray[np.int64]) -> Floats:
    single = np.where(codes < len(CLASSES), codes, NORMAL)
    own = classes[np.arange(len(codes)), single]
    return np.where(codes == CODE_UNSPECIFIED, classes[:, BACTERIAL] + classes[:, VIRAL], own)


def shift_of(films: Films, values: npt.NDArray[np.float32], temperature: float) -> tuple[float, ...]:
    """Return what to add to the logits of the diseases, so that their shares in training do not decide
    which one is named; the probability of any disease does not change (`Scale.shift`).

    It is what makes the macro F1 of the six classes best, since each class counts there however rare it is;
    averaged over resamples of the films, since the best for these very films is too good to be true.
    """
    chosen = films.frontal & (films.codes < len(CLASSES))
    logits, codes = values[chosen], films.codes[chosen]
    draw = np.random.default_rng(0)
    found = []
    for _ in range(_RESAMPLES):
        some = draw.integers(0, len(codes), len(codes))
        found.append(_climb(logits[some], codes[some], temperature))
    return tuple(round(float(value), 4) for value in np.mean(found, axis=0))


def _climb(logits: npt.NDArray[np.float32], codes: npt.NDArray[np.int64], temperature: float) -> Floats:
    """Return the shift to which no single step in one class is an improvement."""

    def macro_f1(shift: Floats) -> float:
        classes = Scale(temperature, shift=tuple(shift)).classes(logits)
        matrix = confusion(codes, classes.argmax(axis=1), len(CLASSES)).astype(np.float64)
        return float(rates(matrix)["macro_f1"])

    best = np.zeros(len(Finding))
    height = macro_f1(best)
    for step in _STEPS:
        moved = True
        while moved:
            moved = False
            for index, way in itertools.product(range(len(Finding)), (step, -step)):
                tried = best.copy()
                tried[index] += way
                reached = macro_f1(tried)
                if reached > height + 1e-4 and abs(tried[index]) <= _FURTHEST:
                    best, height, moved = tried, reached, True
    return best


def gate_temperature_of(films: Films, values: npt.NDArray[np.float32]) -> float:
    """Return the temperature that makes the gate's probabilities most likely."""
    truth, scores = films.frontal, values[:, -1].astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = np.where(truth, scores, -scores) / np.exp(log_temperature)
        return float(np.logaddexp(0, -scaled).mean())

    return round(float(np.exp(minimize_scalar(loss, bounds=(-1.0, 1.6), method="bounded").x)), 4)


def threshold_for(scores: Floats, share: float) -> float:
    """Return the largest threshold that at least `share` of the scores reach."""
    if not len(scores):
        return 0.5
    ordered = np.sort(scores)
    missed = int(np.floor((1 - share) * len(ordered) + 1e-9))
    return float(ordered[min(missed, len(ordered) - 1)])


def threshold_of_precision(truth: Bools, scores: Floats, precision: float) -> float:
    """Return the smallest threshold from which on the precision is reached, or the best there is."""
    order = np.argsort(-scores, kind="stable")
    reached = np.cumsum(truth[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(reached >= precision)
    at = good[-1] if len(good) else int(np.argmax(reached))
    return float(scores[order][at])


def threshold_of_f1(truth: Bools, scores: Floats) -> float:
    """Return the threshold of the best F1, as the mean in log odds over resamples of the films.

    The best for these very films is too good to be true: on halves of `val` that were kept back the F1 of
    tuberculosis was .954 by it and .959 by the mean.
    """
    draw = np.random.default_rng(0)
    found = []
    for _ in range(_RESAMPLES):
        some = draw.integers(0, len(truth), len(truth))
        if truth[some].any():
            found.append(_best_for_f1(truth[some], scores[some]))
    return float(expit(logit(np.clip(found or _best_for_f1(truth, scores), 1e-6, 1 - 1e-6)).mean()))


def _best_for_f1(truth: Bools, scores: Floats) -> float:
    """Return the middle of the gap at which the F1 is best."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    at = int(np.argmax(f1))
    following = scores[order][at + 1] if at + 1 < len(order) else 0.0
    return float((scores[order][at] + following) / 2)


def calibration_of(films: Films, values: npt.NDArray[np.float32]) -> Calibration:
    """Return scale and operating points from the logits [N, 7] of the films of `val`."""
    temperature = temperature_of(films, values)
    scale = Scale(temperature, gate_temperature_of(films, values), shift_of(films, values, temperature))
    return calibrate(answers_of(films, values, scale), scale)


def calibrate(answers: Answers, scale: Scale) -> Calibration:
    """Return the operating points from the answers to `val`, made on this scale."""
    labelled = answers.take(answers.films.codes < CODE_UNLABELLED)
    gate = _gate(labelled)
    frontal = labelled.take(labelled.films.frontal)
    diseased = frontal.films.codes != NORMAL
    high = threshold_for(frontal.diseased[diseased], SENSITIVITY)
    low = threshold_for(frontal.diseased[diseased], GREY_SENSITIVITY)
    single = frontal.take(frontal.films.codes < len(CLASSES))
    findings = {finding: _finding(single, finding) for finding in Finding}
    return Calibration(scale, gate, _limits(low, high), findings)


def _gate(labelled: Answers) -> float:
    """Return the gate's threshold: GATE_RECALL of the frontal films pass, and as few others as can be.

    Every threshold between the two that meet there rejects the same films; the middle in log odds is taken,
    and never more than the frontal films allow.
    """
    frontal = labelled.films.frontal
    ceiling = threshold_for(labelled.gate[frontal], GATE_RECALL)
    others = labelled.gate[~frontal & (labelled.gate < ceiling)]
    ends = np.clip([others.max() if len(others) else ceiling, ceiling], 1e-6, 1 - 1e-6)
    return _down(min(expit(logit(ends).mean()), ceiling, 0.9999))


def _finding(single: Answers, finding: Finding) -> Thresholds:
    index = CLASSES.index(finding)
    truth, scores = single.films.codes == index, single.classes[:, index]
    if not truth.any():
        return Thresholds(0.2, 0.5)
    right = threshold_of_precision(truth, scores, FINDING_PRECISION)
    found = threshold_for(scores[truth], FINDING_RECALL)
    low = max(min(right, found), float(np.quantile(scores[~truth], FINDING_SPECIFICITY)))
    # a class that stands apart in `val` is right from hardly any probability on: it waits for more, since
    # films of elsewhere don't stand apart so
    return _limits(low, max(right, found))


def _limits(low: float, high: float) -> Thresholds:
    high = _down(min(high, 0.9999))
    return Thresholds(_down(min(low, high)), high)


def _down(value: float) -> float:
    """Return a threshold as model.toml writes it: four digits, and never above the film that it stands on."""
    return float(Decimal(float(value)).quantize(Decimal("0.0001"), ROUND_FLOOR))
