"""A model judged on a split of a set: the rows, what the border alone gives, and everything by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from triage.assess.classifier import answer_of
from triage.assess.registry import Model
from triage.domain.finding import CLASSES, Outcome
from triage.errors import DataError
from triage.learn.answers import Answers, Floats, Infers, answers_of, logits
from triage.learn.border import border_answers, lacking
from triage.learn.cache import cache_dir, pictures
from triage.learn.calibrate import SENSITIVITY, threshold_for
from triage.learn.data import Films, Mask, read_films
from triage.learn.groups import by_group, per_class
from triage.learn.labels import NORMAL, OUTPUTS
from triage.learn.progress import progress
from triage.learn.quality import calibration, class_calibration, predictive_values, trade_offs
from triage.learn.rows import Figures, Judgement, rows, strangers
from triage.learn.served import has_dicom, serve


@dataclass(frozen=True)
class Evaluation:
    """The figures as one JSON document, and what they were made from, for pictures and reports."""

    document: dict[str, object]
    judgement: Judgement
    films: Films
    pictures: npt.NDArray[np.uint8]
    #: Index in `films` of every film of `judgement.judged`.
    indices: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Split:
    """What a model says of the films of one split: `known` have classes, `everything` may have none."""

    known: Answers
    everything: Answers
    pictures: npt.NDArray[np.uint8]
    #: Index in `pictures` of every film of `known`.
    indices: npt.NDArray[np.int64]
    #: How many films the service did not judge, by reason; None where it was not asked.
    not_evaluated: dict[str, int] | None = None


def evaluate(
    model: Model,
    engine: Infers,
    data: Path,
    *,
    split: str = "test",
    cache: Path | None = None,
    border: bool = True,
    labels: Path | None = None,
    left_out: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Return all figures of a model on a split.

    Thresholds of single rows come from `val`, and such rows are left out where a set brings none; the
    any-disease threshold and the gate's are the model's own. DICOM films go through the service's classifier.
    Of the sources of `left_out`, from which the model learnt nothing, no threshold is taken either, and their
    films of the split have rows of their own.

    Raises:
        DataError: the data can't be read, or lack the split.
    """
    everything = read_films(data, labels)
    films = everything.without(left_out, keep=split)
    judge, val_mask = films.splits == split, (films.splits == "val") & ~np.isin(films.sources, left_out)
    if not judge.any():
        msg = f"{data} has no film in the split '{split}', which evaluation needs."
        raise DataError(msg)
    say(f"judging {int(judge.sum())} films of {split}")
    found = _answers(model, engine, films, judge, cache)
    say("judging the films of val, for the thresholds")
    val = found.known.take(~np.isin(found.known.films.sources, left_out))
    if split != "val":
        val = _answers(model, engine, films, val_mask, cache).known

    def rule(classes: Floats) -> Outcome:
        return answer_of(model, classes)[0]

    judgement = Judgement(found.known, val, model.any_disease.high, model.gate, rule)
    document: dict[str, object] = {
        "model": model.label,
        "model_sha256": model.sha256,
        "data_sha256": everything.digest,
        "split": split,
        **rows(judgement),
        **rows(replace(judgement, judged=found.everything), ("outcome", "gate")),
        "quality": quality(judgement),
        "groups": by_group(judgement),
    }
    if found.not_evaluated is not None:
        document["not_evaluated"] = found.not_evaluated
    if left_out:
        document["left_out"] = strangers(judgement, left_out)
    if border:
        dicom = found.not_evaluated is not None
        why_not = "No figures of the border alone: DICOM films have none." if dicom else lacking(films)
        say(why_not or "judging by the border alone")
        if not why_not:
            document["border"] = border_rows(films, pictures(films, cache_dir(cache)), judge)
    return Evaluation(document, judgement, films, found.pictures, found.indices)


def _answers(model: Model, engine: Infers, films: Films, chosen: Mask, cache: Path | None) -> _Split:
    part, indices = films.take(chosen), np.flatnonzero(chosen)
    if not len(part):
        nothing = answers_of(part, np.empty((0, OUTPUTS), np.float32))
        return _Split(nothing, nothing, np.empty((0, 0, 0), np.uint8), indices)
    if has_dicom(part):
        with progress("judging", len(part)) as step:
            served = serve(model, engine, part, step)
        grey = np.zeros((len(films), *served.pictures.shape[1:]), np.uint8)
        grey[indices] = served.pictures
        known = served.answers.take(served.known)
        return _Split(known, served.answers, grey, indices[served.known], served.not_evaluated)
    grey = pictures(films, cache_dir(cache))
    found = answer(model, engine, films, grey, indices)
    return _Split(found, found, grey, indices)


def answer(
    model: Model, engine: Infers, films: Films, grey: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]
) -> Answers:
    """Return a model's calibrated answers to the films at `indices`, from decoded pictures."""
    with progress("judging", len(indices)) as step:
        values = logits(engine, grey, indices, model.size, step)
    return answers_of(films.take(indices), values, model.scale)


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
    """Return, as rows too, every class, fixed operating points, predictive values and calibration."""
    frontal = judgement.judged.take(judgement.judged.films.frontal)
    truth, patients = frontal.films.codes != NORMAL, frontal.films.patients
    single = frontal.take(frontal.films.codes < len(CLASSES))
    calibrations = {
        "any_disease": calibration(truth, frontal.diseased, patients),
        "six_classes": class_calibration(single.films.codes, single.classes, single.films.patients),
    }
    return {
        "per_class": per_class(single),
        "trade_offs": trade_offs(truth, frontal.diseased, patients),
        "predictive_values": predictive_values(truth, frontal.diseased >= judgement.any_disease, patients),
        "calibration": {name: row for name, row in calibrations.items() if row},
    }
