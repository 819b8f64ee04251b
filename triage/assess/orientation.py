"""Films that were stored turned over: Patient Orientation says how to set them upright."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from triage.assess.attributes import values
from triage.assess.errors import PixelError
from triage.assess.film import Words
from triage.domain.finding import NotEvaluated

_SIDEWAYS, _DOWN = frozenset("LR"), frozenset("FH")


def upright(words: Words, dataset: Dataset, quirks: list[str]) -> Words:
    """Return the film as it is read: the patient's right on the left, the head up (PS3.3 C.7.6.1.1.1).

    Patient Orientation names where a row and a column lead to: L and F when all is right. Other frontal
    ones are turned; one that leads to front or back is a lateral, and raises PixelError. An empty or
    strange value changes nothing.
    """
    directions = [str(value).strip().upper()[:1] for value in values(dataset, "PatientOrientation")]
    if len(directions) != 2:
        return words
    row, column = directions
    if "A" in (row, column) or "P" in (row, column):
        sentence = "Patient Orientation says that the film is a lateral."
        raise PixelError(NotEvaluated.NOT_FRONTAL, sentence)
    if row in _DOWN and column in _SIDEWAYS:
        words, row, column = words.T, column, row
        quirks.append("orientation-turned")
    if row not in _SIDEWAYS or column not in _DOWN:
        return words
    if row == "R":
        words = words[:, ::-1]
        quirks.append("orientation-mirrored")
    if column == "H":
        words = words[::-1]
        quirks.append("orientation-upside-down")
    return np.ascontiguousarray(words)
