"""Whether an object belongs to the patient whose study its Study Instance UID names."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEPARATORS = re.compile(r"[\s^=]+")


@dataclass(frozen=True)
class Person:
    """What identifies a patient in an object or in a study row; empty where it is not known."""

    patient_id: str
    issuer: str
    birth_date: str
    name: str


def differ(one: Person, other: Person) -> bool:
    """Return whether two records may not be merged.

    Values that contradict each other are two patients. Where an ID is missing only the same name, with no
    contradicting birth date, makes them one: an empty value never matches a stranger's.
    """
    if _contradict(one.birth_date, other.birth_date) or _contradict(one.issuer, other.issuer):
        return True
    if one.patient_id and other.patient_id:
        return one.patient_id != other.patient_id
    return _letters(one.name) != _letters(other.name)


def _contradict(one: str, other: str) -> bool:
    return bool(one) and bool(other) and one != other


def _letters(name: str) -> str:
    return _SEPARATORS.sub(" ", name.split("=", maxsplit=1)[0]).strip().casefold()
