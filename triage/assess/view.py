"""Frontal or not, chest or not: what the header says, weighed against what the pixels show.

The header is often empty and sometimes wrong, so it rarely decides alone: it moves the bar that the
learned gate has to clear. Only what no pixel can contradict (another species, a quality control image,
another modality) keeps a film from the model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from triage.domain.finding import NotEvaluated
from triage.domain.header import Header, unjudged_reason

#: SNOMED CT codes of CID 4010 (PS3.16): PA, AP, frontal; and the laterals.
_FRONTAL_CODES = frozenset({"272479007", "399348003", "399033003", "R-10202", "R-10206", "R-10214"})
_LATERAL_CODES = frozenset({"399173006", "399198007", "399067008", "R-10236", "R-10232"})
_FRONTAL_VIEWS = frozenset({"PA", "AP", "FRONTAL", "PA AXIAL", "AP AXIAL"})
_LATERAL_VIEWS = frozenset(
    {"LL", "RL", "LATERAL", "LAT", "LLAT", "RLAT", "L LAT", "R LAT", "LEFT LATERAL", "RIGHT LATERAL"}
)
#: Substrings of Body Part Examined that mean the chest, in the languages that modalities speak.
_CHEST_WORDS = ("CHEST", "THORAX", "LUNG", "RIB", "TORAX", "TÓRAX", "POUMON", "BRUST", "PULMO", "STERNUM")
_CHEST_CODES = frozenset({"51185008", "816094009", "39607008", "T-D3000", "T-28000"})
#: Radiography; an empty modality is common in secondary captures.
_FILM_MODALITIES = frozenset({"CR", "DX", "DR", "RG", "XC", ""})
#: Captures of anything: a film only when body part or view says so.
_ANY_MODALITIES = frozenset({"OT", "SC"})
_HUMAN = frozenset({"", "HOMO SAPIENS", "HUMAN", "MAN"})
#: What the gate must reach to overrule a header that contradicts it.
CONFIDENT = 0.99

_AGE = re.compile(r"(\d{3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


@dataclass(frozen=True)
class Opinion:
    """What a header says of view and body part: True, False, or None where it is silent."""

    frontal: bool | None
    chest: bool | None
    #: Set when the header alone keeps the film from the model.
    reason: NotEvaluated | None = None
    sentence: str = ""


@dataclass(frozen=True)
class Verdict:
    """What header and gate say together; `disagreement` names a header that was overruled."""

    reason: NotEvaluated | None
    sentence: str
    disagreement: str = ""


def opinion(header: Header, minimum_age: float = 0.0) -> Opinion:
    """Return the header's opinion; `minimum_age` in years is the site's limit, 0 for none."""
    frontal, chest = _frontal(header), _chest(header)
    reason, sentence = _excluded(header, frontal, chest, minimum_age)
    return Opinion(frontal, chest, reason, sentence)


def weigh(said: Opinion, gate: float, threshold: float) -> Verdict:
    """Return whether a film goes on, from the header's opinion and the gate's probability 0..1.

    The gate decides against its threshold; where the header contradicts it must be confident.
    """
    against = said.frontal is False or said.chest is False
    needed = max(threshold, CONFIDENT) if against else threshold
    if gate >= needed:
        return Verdict(None, "", "header-view" if against else "")
    if said.frontal is False:
        return Verdict(
            NotEvaluated.NOT_FRONTAL,
            "The header says that the film is a lateral, and the picture does not contradict it.",
        )
    if said.chest is False:
        return Verdict(
            NotEvaluated.NOT_CHEST,
            "The header names another body part, and the picture does not contradict it.",
        )
    return Verdict(
        NotEvaluated.NOT_FRONTAL,
        "The picture does not look like a frontal chest film.",
        "pixels-view" if said.frontal else "",
    )


def age_years(text: str) -> float | None:
    """Return a Patient Age (PS3.5 6.2, AS) in years, None when it is not in its form."""
    match = _AGE.fullmatch(text.strip().upper())
    return int(match[1]) * _YEARS[match[2]] if match else None


def _frontal(header: Header) -> bool | None:
    # some archives write the view into Patient Position (0018,5100)
    views = {_letters(header.view_position), _letters(header.patient_position)}
    if header.view_code in _LATERAL_CODES or views & _LATERAL_VIEWS:
        return False
    if header.view_code in _FRONTAL_CODES or views & _FRONTAL_VIEWS:
        return True
    return None


def _letters(view: str) -> str:
    return " ".join(re.sub(r"[^A-Z ]", "", view.upper()).split())


def _chest(header: Header) -> bool | None:
    if header.anatomic_region.upper() in _CHEST_CODES:
        return True
    body_part = header.body_part.upper()
    if not body_part:
        return None
    return any(word in body_part for word in _CHEST_WORDS)


def _excluded(
    header: Header, frontal: bool | None, chest: bool | None, minimum_age: float
) -> tuple[NotEvaluated | None, str]:
    """Return why the header alone keeps a film from the model, if it does."""
    if header.sop_class_uid:
        reason = unjudged_reason(header)
        if reason is not None:
            return reason, _CLASS_SENTENCES.get(reason, "The object is no chest radiograph.")
    modality = header.modality.upper()
    named = frontal is True or chest is True
    if modality not in _FILM_MODALITIES and not (modality in _ANY_MODALITIES and named):
        return (
            NotEvaluated.NOT_CR_DX,
            f"The object is of modality {_safe(modality)}, not a radiograph of the chest.",
        )
    if header.species.upper() not in _HUMAN:
        return NotEvaluated.NOT_CHEST, "The patient is not human."
    if header.quality_control_image.upper() == "YES":
        return NotEvaluated.SITE_EXCLUDED, "The film is marked as a quality control image."
    age = age_years(header.patient_age)
    if minimum_age > 0 and age is not None and age < minimum_age:
        return NotEvaluated.PEDIATRIC, f"The patient is younger than {minimum_age:g} years."
    return None, ""


_CLASS_SENTENCES = {
    NotEvaluated.NOT_CR_DX: "The object is of a class that is no CR, DX or secondary capture.",
    NotEvaluated.FOR_PROCESSING: "The film is raw data for processing, not for presentation.",
}


def _safe(text: str) -> str:
    """Return a code string as it may be shown: what is not a code is not repeated."""
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else "unknown"
