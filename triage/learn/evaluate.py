"""A model judged on a split of a set: the rows, what the border alone gives, and everything by group."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triage.assess.registry import Model
from triage.errors import DataError
from triage.learn import measures
from triage.learn.answers import Answers, Infers, answers_of, logits
from triage.learn.border import border_answers
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import SENSITIVITY, threshold_for
from triage.learn.data import FilmRow, Films, read_films
from triage.learn.groups import by_group
from triage.learn.labels import NORMAL
from triage.learn.quality import calibration_figures, prevalence_figures, trade_offs
from triage.learn.rows import Figures, Judgement, rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """The figures as one JSON document, and what they were made from, for pictures and reports."""

    document: dict[str, object]
    judgement: Judgement
    films: Films
    pictures: npt.NDArray[np.uint8]
    #: Index in `films` of every film of `judgement.judged`.
    indices: npt.NDArray[np.int64]


def evaluate(
    model: Model,
    engine: Infers,
    data: Path,
    *,
    split: str = "test",
    cache: Path | None = None,
    border: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Return all figures of a model on a split; thresholds come from `val` or from the model's card.

    Raises:
        DataError: the data can't be read, or lack the split or `val`.
    """
    films = read_films(data)
    for needed in (split, "val"):
        if not (films.splits == needed).any():
            msg = f"{data} has no film in the split '{needed}', which evaluation needs."
            raise DataError(msg)
    grey = pictures(films, cache_dir(cache))
    indices = np.flatnonzero(films.splits == split)
    say(f"judging {len(indices)} films of {split}")
    judged = answer(model, engine, films, grey, indices)
    say("judging the films of val, for the thresholds")
    val = (
        judged
        if split == "val"
        else answer(model, engine, films, grey, np.flatnonzero(films.splits == "val"))
    )
    judgement = Judgement(judged, val, model.any_disease.high, model.gate)
    document: dict[str, object] = {
        "model": model.label,
        "model_sha256": model.sha256,
        "data_sha256": films.digest,
        "split": split,
        **rows(judgement),
        "quality": quality(judgement),
        "groups": by_group(judgement),
    }
    if border:
        say("judging by the border alone")
        document["border"] = border_rows(films, grey, films.splits == split)
    return Evaluation(document, judgement, films, grey, indices)


def answer(
    model: Model, engine: Infers, films: Films, grey: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]
) -> Answers:
    """Return a model's calibrated answers to the films at `indices`."""
    values = logits(engine, grey, indices, model.size)
    return answers_of(films.take(indices), values, model.temperature, model.gate_temperature)


def border_rows(
    films: Films, grey: npt.NDArray[np.uint8], judge: npt.NDArray[np.bool_]
) -> dict[str, Figures]:
    """Return the same rows for the border alone, at the same sensitivity on `val`; it has no gate."""
    judged, val = border_answers(films, grey, judge)
    frontal = val.take(val.films.frontal)
    threshold = threshold_for(frontal.diseased[frontal.films.codes != NORMAL], SENSITIVITY)
    found = rows(Judgement(judged, val, threshold, 0.0))
    found.pop("gate", None)
    return found


def quality(judgement: Judgement) -> dict[str, object]:
    """Return what goes beyond the rows: AUPRC, fixed operating points, predictive values, calibration."""
    frontal = judgement.judged.take(judgement.judged.films.frontal)
    truth = frontal.films.codes != NORMAL
    return {
        "auprc_any_disease": measures.rounded(measures.auprc(truth, frontal.diseased)),
        "per_class": per_class(frontal),
        "trade_offs": trade_offs(truth, frontal.diseased),
        "predictive_values": prevalence_figures(truth, frontal.diseased >= judgement.any_disease),
        "calibration": calibration_figures(truth, frontal.diseased),
    }


def per_class(frontal: Answers) -> dict[str, Figures]:
    """Return AUROC and AUPRC of every class against all others."""
    from triage.domain.finding import CLASSES

    single = frontal.take(frontal.films.codes < len(CLASSES))
    found = {}
    for index, name in enumerate(CLASSES):
        truth = single.films.codes == index
        row = measures.Row(single.films.column(_patient))
        row.area(truth, single.classes[:, index])
        row.put("auprc", measures.auprc(truth, single.classes[:, index]))
        found[name] = row.row
    return found


def _patient(film: FilmRow) -> str:
    return f"{film.source}:{film.patient}"
