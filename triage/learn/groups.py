"""The any-disease figures by source, view, age band and sex: an average hides who is served badly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from triage.learn.data import FilmRow
from triage.learn.rows import Figures, Judgement, diseased

_BANDS = ((0, 6), (6, 18), (18, 40), (40, 60), (60, 80), (80, 130))
_FEW = 20


def age_band(film: FilmRow) -> str:
    """Return the band of years that a film's patient falls into."""
    try:
        years = float(film.age.rstrip("Yy "))
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
    """Return the any-disease figures of every group of at least 20 films."""
    frontal = judgement.judged.take(judgement.judged.films.frontal)
    found: dict[str, dict[str, Figures]] = {}
    for name, read in GROUPS.items():
        values = frontal.films.column(read)
        found[name] = {
            str(value): diseased(frontal.take(values == value), judgement.any_disease)
            for value, count in zip(*np.unique(values, return_counts=True), strict=True)
            if count >= _FEW
        }
    return found
