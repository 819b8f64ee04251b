"""What we read of an object's header, and whether the object is a film for us to judge."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from triage.domain.finding import NotEvaluated


@dataclass(frozen=True)
class Header:
    """The attributes of one DICOM object that decide where it belongs; text, never trusted.

    Absent attributes are empty strings; values are as sent, stripped of padding.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    modality: str = ""
    patient_id: str = ""
    patient_id_issuer: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    patient_age: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    institution_name: str = ""
    #: Requested Procedure Priority (0040,1003), at the top or in Request Attributes Sequence, else Study
    #: Priority ID (0032,000C).
    requested_priority: str = ""
    body_part: str = ""
    anatomic_region: str = ""
    view_position: str = ""
    view_code: str = ""
    patient_position: str = ""
    presentation_intent: str = ""
    quality_control_image: str = ""
    species: str = ""


class Family(StrEnum):
    """How an object concerns us."""

    #: CR, DX for presentation, or a secondary capture: a film that may be judged.
    FILM = "film"
    #: A radiograph class that is kept and shown but never judged (DX for processing).
    RAW_FILM = "raw_film"
    #: Everything else that an auto-route sends: kept, never judged, no place in the reading list.
    OTHER = "other"


_STORAGE = "1.2.840.10008.5.1.4.1.1."
#: CR; DX for presentation; the secondary captures that film digitisers write (PS3.4 B.5).
FILM_CLASSES = frozenset(_STORAGE + tail for tail in ("1", "1.1", "7", "7.2", "7.3", "7.4"))
RAW_FILM_CLASSES = frozenset({_STORAGE + "1.1.1"})


def family(sop_class_uid: str) -> Family:
    """Return how an object of that SOP class concerns us."""
    if sop_class_uid in FILM_CLASSES:
        return Family.FILM
    return Family.RAW_FILM if sop_class_uid in RAW_FILM_CLASSES else Family.OTHER


def unjudged_reason(header: Header) -> NotEvaluated | None:
    """Return why the class alone keeps an object from the model, or None for a film that it may see.

    Nothing else in a header is trusted enough to keep a film from the model: view and body part are
    often empty or wrong, and are weighed against the pixels later.
    """
    kind = family(header.sop_class_uid)
    if kind is Family.OTHER:
        return NotEvaluated.NOT_CR_DX
    if kind is Family.RAW_FILM or header.presentation_intent.upper() == "FOR PROCESSING":
        return NotEvaluated.FOR_PROCESSING
    return None
