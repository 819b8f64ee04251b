"""DICOM films judged as the service judges them: the same classifier from the file to the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
    found = []
    for row in films.rows:
        found.append(_judge(classifier, films.root / row.file))
        step(1)
    reasons = Counter(one.assessment.reason.value for one in found if one.assessment.reason is not None)
    classes = np.full((len(films), len(CLASSES)), np.nan)
    known = np.array([one.prepared is not None for one in found], np.bool_)
    for place in np.flatnonzero(known):
        classes[place] = _classes(model, engine, found[place])
    gate = np.array([_gate(model, one) for one in found])
    return Served(Answers(films, classes, gate), known, _pictures(found), dict(reasons))


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


def _classes(model: Model, engine: Infers, one: Judged) -> npt.NDArray[np.float64]:
    """Return the class probabilities, also of a film that the gate stopped."""
    assert one.prepared is not None
    return model.scale.classes(engine.infer(one.prepared[None]))[0]


def _pictures(found: Sequence[Judged]) -> npt.NDArray[np.uint8]:
    """Return the films as uint8 [N, 224, 224], black where there are no pixels."""
    pictures = np.zeros((len(found), KEPT, KEPT), np.uint8)
    for place, one in enumerate(found):
        if one.film is not None:
            pictures[place] = as_kept(one.film)
    return pictures
