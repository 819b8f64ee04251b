"""What a peer's answer to a C-STORE means for the sender (PS3.4 B.2.3, PS3.7 Annex C)."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What to do after an answer."""

    #: The peer has the object.
    STORED = "stored"
    #: The peer has an object of that UID and kept its own.
    DUPLICATE = "duplicate"
    #: Not now: try again later.
    LATER = "later"
    #: Not this object: another try will hardly help.
    REFUSED = "refused"


#: First and last status of each range; the first row that fits counts.
_TABLE: tuple[tuple[int, int, Verdict, str], ...] = (
    (0x0000, 0x0000, Verdict.STORED, "stored"),
    (0xB000, 0xBFFF, Verdict.STORED, "stored with a warning"),
    (0x0111, 0x0111, Verdict.DUPLICATE, "the peer has an object of that UID already"),
    (0xA700, 0xA7FF, Verdict.LATER, "the peer is out of resources"),
    (0x0122, 0x0122, Verdict.REFUSED, "the peer does not take that SOP class"),
    (0x0124, 0x0124, Verdict.REFUSED, "the peer does not authorise us"),
    (0x0110, 0x0110, Verdict.REFUSED, "the peer failed to process the object"),
    (0xA900, 0xA9FF, Verdict.REFUSED, "the peer says that the data set does not match its SOP class"),
    (0xC000, 0xCFFF, Verdict.REFUSED, "the peer can't understand the object"),
)


def verdict(status: int) -> Verdict:
    """Return what a C-STORE status asks of the sender; an unknown one is a refusal."""
    return next((meant for low, high, meant, _ in _TABLE if low <= status <= high), Verdict.REFUSED)


def sentence(status: int) -> str:
    """Return a status in words, with its number."""
    said = next((words for low, high, _, words in _TABLE if low <= status <= high), "an unknown status")
    return f"{said} (0x{status:04X})"
