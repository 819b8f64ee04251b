"""What the border of a film alone tells: the figure to print beside every other.

Logistic regression on a ring of 4 pixels of the film at 40 x 40, no lungs in it. A model that is not far
above this has learnt hospitals.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from triage.assess.prepare import reduce
from triage.domain.finding import CLASSES
from triage.learn.answers import Answers
from triage.learn.data import Films, Mask
from triage.learn.labels import NORMAL

_SIDE, _RING = 40, 4


def features(pictures: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the ring of each film, float32 [len(indices), pixels of the ring]."""
    ring = np.ones((_SIDE, _SIDE), np.bool_)
    ring[_RING:-_RING, _RING:-_RING] = False
    return np.stack([reduce(pictures[index].astype(np.float32) / 255, _SIDE)[ring] for index in indices])


def lacking(films: Films) -> str:
    """Return why the border of these films can't be judged, as a sentence; nothing where it can."""
    codes = films.codes
    if len(np.unique(codes[(films.splits == "train") & (codes < len(CLASSES))])) < 2:
        return "No figures of the border alone: it learns from films of two classes in the split train."
    if not ((films.splits == "val") & films.frontal & (codes != NORMAL)).any():
        return (
            "No figures of the border alone: its thresholds come from films with a disease in the split val."
        )
    return ""


def border_answers(films: Films, pictures: npt.NDArray[np.uint8], judge: Mask) -> tuple[Answers, Answers]:
    """Return the border's answers to the films of `judge` and to `val`, learnt from `train`.

    The films must not be `lacking`.
    """
    train = np.flatnonzero((films.splits == "train") & (films.codes < len(CLASSES)))
    learnt = _fit(features(pictures, train), films.codes[train])
    return _answer(learnt, films, pictures, judge), _answer(learnt, films, pictures, films.splits == "val")


def _fit(inputs: npt.NDArray[np.float32], codes: npt.NDArray[np.int64]) -> Pipeline:
    pipeline = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.05, max_iter=600, class_weight="balanced")
    )
    return pipeline.fit(inputs, codes)


def _answer(learnt: Pipeline, films: Films, pictures: npt.NDArray[np.uint8], chosen: Mask) -> Answers:
    probabilities = np.full((int(chosen.sum()), len(CLASSES)), 1e-9)
    probabilities[:, learnt.classes_] = learnt.predict_proba(features(pictures, np.flatnonzero(chosen)))
    return Answers(films.take(chosen), probabilities, np.full(len(probabilities), 0.5))
