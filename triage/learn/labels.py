"""The labels that films may have, and what each means to the two heads of the network."""

from __future__ import annotations

from triage.domain.finding import CLASSES
from triage.errors import DataError

#: What a network answers: the classes, then the gate.
OUTPUTS = len(CLASSES) + 1
#: Bacterial or viral, nobody knows which: a label that names a set of classes.
UNSPECIFIED = "pneumonia_unspecified"
NOT_FRONTAL = "not_frontal"
#: Shown to the gate as a film that must not pass; counted in no figure but one of its own (rows.gate).
UNLABELLED = "unlabelled"

#: Every label, in the order of its code: 0-5 the classes, then 6 and 7.
LABELS: tuple[str, ...] = (*CLASSES, UNSPECIFIED, NOT_FRONTAL, UNLABELLED)
CODE_UNSPECIFIED = LABELS.index(UNSPECIFIED)
CODE_NOT_FRONTAL = LABELS.index(NOT_FRONTAL)
CODE_UNLABELLED = LABELS.index(UNLABELLED)

NORMAL = CLASSES.index("normal")
BACTERIAL = CLASSES.index("bacterial_pneumonia")
VIRAL = CLASSES.index("viral_pneumonia")
COVID = CLASSES.index("covid19")
TB = CLASSES.index("tuberculosis")
OTHER = CLASSES.index("other")

#: The folder names of the well-known sets, lower case, and the labels that they stand for.
_FOLDERS = {
    "normal": "normal",
    "bacteria": "bacterial_pneumonia",
    "bacterial pneumonia": "bacterial_pneumonia",
    "virus": "viral_pneumonia",
    "viral pneumonia": "viral_pneumonia",
    "pneumonia": UNSPECIFIED,
    "covid": "covid19",
    "covid19": "covid19",
    "covid-19": "covid19",
    "tb": "tuberculosis",
    "tuberculosis": "tuberculosis",
    "turberculosis": "tuberculosis",
    "lung_opacity": "other",
    "other": "other",
    "other findings": "other",
}


def code_of(label: str, where: str) -> int:
    """Return a label's code; `where` names the file or row for the sentence.

    Raises:
        DataError: the label is not known.
    """
    try:
        return LABELS.index(label)
    except ValueError:
        msg = f"{where} has the label '{label}', which is not known; known: {', '.join(LABELS)}."
        raise DataError(msg) from None


def label_of_folder(folder: str, file: str) -> str:
    """Return the label of a class folder such as `NORMAL`, `PNEUMONIA` or `TURBERCULOSIS`.

    In a folder PNEUMONIA the file's own name tells bacterial from viral where it says so.

    Raises:
        DataError: the folder's name is no class.
    """
    label = _label_of(folder, file)
    if label is None:
        msg = f"The folder '{folder}' is no class that is known; known: {', '.join(sorted(_FOLDERS))}."
        raise DataError(msg)
    return label


def label_of_row(word: str, file: str) -> str:
    """Return the label that a table gives a film, where it may be named as a class folder is too.

    A word that is neither comes back as it is, for `code_of` to refuse.
    """
    return word if word in LABELS else _label_of(word, file) or word


def _label_of(name: str, file: str) -> str | None:
    lowered = name.lower()
    label = _FOLDERS.get(lowered) or (lowered if lowered in LABELS else None)
    if label == UNSPECIFIED and "bacteria" in file.lower():
        return "bacterial_pneumonia"
    if label == UNSPECIFIED and "virus" in file.lower():
        return "viral_pneumonia"
    return label
