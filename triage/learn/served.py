"""DICOM films judged as the service judges them: the same classifier from the file to the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from triage.assess.classifier import Classifier, Judged
from triage.assess.engine import Engine
from triage.assess.prepare import KEPT
from triage.assess.registry import Model
from triage.assess.source import is_dicom
from triage.domain.finding import CLASSES, Outcome
from triage.errors import DataError
from triage.learn.answers import Answers, Infers
from triage.learn.cache import as_kept
from triage.learn.data import Films, Mask


@dataclass(frozen=True)
class Served:
    """Answers to films, which of them have classes, the films as grey pictures, and why some have no answer.

    A film that the service refuses before it looks at the pixels has no classes, and 0 for the gate.
    """

    answers: Answers
    known: Mask
    pictures: npt.NDArray[np.uint8]
    not_evaluated: dict[str, int]


def has_dicom(films: Films) -> bool:
    """Return whether a film of a set is a DICOM object."""
    return any(is_dicom(films.root / row.file) for row in films.rows)


def serve(model: Model, engine: Infers, films: Films, step: Callable[[int], None] = lambda _: None) -> Served:
    """Return what the service would say of each film, and what it is made from; `step` hears of each film.

    Raises:
        DataError: a file can't be read.
    """
    classifier = Classifier(model, cast("Engine", engine))
    classes = np.full((len(films), len(CLASSES)), np.nan)
    gate, known = np.zeros(len(films)), np.zeros(len(films), np.bool_)
    pictures = np.zeros((len(films), KEPT, KEPT), np.uint8)
    reasons: Counter[str] = Counter()
    for place, row in enumerate(films.rows):
        # of a film only what is small is kept: there may be thousands of them
        one = _judge(classifier, films.root / row.file)
        if one.film is not None and one.classes is not None:
            classes[place], known[place] = one.classes, True
            pictures[place] = as_kept(one.film)
        if one.assessment.reason is not None:
            reasons[one.assessment.reason.value] += 1
        gate[place] = _gate(model, one)
        step(1)
    return Served(Answers(films, classes, gate), known, pictures, dict(reasons))


def _judge(classifier: Classifier, path: Path) -> Judged:
    try:
        return classifier.judge_file(path)
    except OSError as error:
        msg = f"{path} can't be read: {error.strerror}."
        raise DataError(msg) from None


def _gate(model: Model, one: Judged) -> float:
    """Return the gate's probability, moved to the side of its threshold on which the service came down.

    What the header says counts there too.
    """
    said = one.assessment.frontal or 0.0
    if one.assessment.outcome is Outcome.NOT_EVALUATED:
        return min(said, float(np.nextafter(model.gate, -1)))
    return max(said, model.gate)
