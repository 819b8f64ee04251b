"""The figures by source, view, age band and sex: an average hides who is served badly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from triage.assess.view import age_years
from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.data import FilmRow, Mask
from triage.learn.labels import NORMAL
from triage.learn.measures import Row, rounded
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


def per_class(single: Answers, least: int = 1) -> dict[str, Figures]:
    """Return the areas of every class against the others, over films of one class each.

    A class is left out unless `least` films are of it, and as many are not; `films` says how many are.
    """
    found = {}
    for code, name in enumerate(CLASSES):
        truth = single.films.codes == code
        if _enough(truth, least):
            row = Row(single.films.patients)
            row.row["films"] = int(truth.sum())
            row.area(truth, single.classes[:, code])
            found[name] = row.row
    return found


def _figures(part: Answers, threshold: float) -> Figures:
    figures = diseased(part, threshold)
    truth = part.films.codes != NORMAL
    if _enough(truth, _FEW) and len(truth) >= CALIBRATION:
        figures["slope"] = rounded(line(truth, part.diseased)[0])
    classes = per_class(part.take(part.films.codes < len(CLASSES)), _FEW)
    return figures | ({"classes": classes} if classes else {})


def _enough(truth: Mask, least: int) -> bool:
    return bool(truth.sum() >= least <= (~truth).sum())
