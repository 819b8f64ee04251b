"""The figures by source, view, age band and sex: an average hides who is served badly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from triage.assess.view import age_years
from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.data import FilmRow, Mask
from triage.learn.labels import NORMAL
from triage.learn.measures import auroc, rounded
from triage.learn.quality import line
from triage.learn.rows import CALIBRATION, Figures, Judgement, diseased

_BANDS = ((0, 6), (6, 18), (18, 40), (40, 60), (60, 80), (80, 130))
#: Films that a group has at least; a class in it is told from the others where as many are of it, and not.
_FEW = 20


def age_band(film: FilmRow) -> str:
    """Return the band of years that a film's patient falls into; an age is years, or as in DICOM (`006M`)."""
    try:
        years = age_years(film.age) or float(film.age.rstrip("Yy "))
    except ValueError:
        return "unknown"
    for low, high in _BANDS:
        if low <= years < high:
            return f"{low}-{high - 1}"
    return "unknown"


GROUPS: dict[str, Callable[[FilmRow], str]] = {
    "source": lambda film: film.source,
    "view": lambda film: film.view or "unknown",
    "age": age_band,
    "sex": lambda film: film.sex or "unknown",
}


def by_group(judgement: Judgement) -> dict[str, dict[str, Figures]]:
    """Return the figures of every group of at least 20 films: any disease, and the classes."""
    frontal = judgement.judged.take(judgement.judged.films.frontal)
    found: dict[str, dict[str, Figures]] = {}
    for name, read in GROUPS.items():
        values = frontal.films.column(read)
        found[name] = {
            str(value): _figures(frontal.take(values == value), judgement.any_disease)
            for value, count in zip(*np.unique(values, return_counts=True), strict=True)
            if count >= _FEW
        }
    return found


def _figures(part: Answers, threshold: float) -> Figures:
    figures = diseased(part, threshold)
    truth = part.films.codes != NORMAL
    if _enough(truth) and len(truth) >= CALIBRATION:
        figures["slope"] = rounded(line(truth, part.diseased)[0])
    classes = _classes(part.take(part.films.codes < len(CLASSES)))
    return figures | ({"classes": classes} if classes else {})


def _classes(single: Answers) -> Figures:
    """Return the area of each class against the others, or none where too few films are of it or of them."""
    areas = {
        name: rounded(auroc(truth, single.classes[:, code])) if _enough(truth) else None
        for code, name in enumerate(CLASSES)
        for truth in [single.films.codes == code]
    }
    if all(area is None for area in areas.values()):
        return {}
    counts = np.bincount(single.films.codes, minlength=len(CLASSES)).tolist()
    return {"n": len(single.films), "films": dict(zip(CLASSES, counts, strict=True)), **areas}


def _enough(truth: Mask) -> bool:
    return bool(truth.sum() >= _FEW <= (~truth).sum())
