"""The header of an opened object as the domain knows it, without identities of the patient."""

from __future__ import annotations

from datetime import date, datetime

from pydicom.dataset import Dataset

from triage.assess.attributes import first_item, text
from triage.assess.source import Source
from triage.domain.header import Header

_EMPTY = Header("", "", "", "", "")


def header_of(source: Source) -> Header:
    """Return what the view decision needs; absent and unreadable attributes are empty."""
    dataset = source.dataset
    return Header(
        study_uid=_plain(dataset, "StudyInstanceUID"),
        series_uid=_plain(dataset, "SeriesInstanceUID"),
        sop_instance_uid=_plain(dataset, "SOPInstanceUID"),
        sop_class_uid=_plain(dataset, "SOPClassUID"),
        transfer_syntax_uid=source.transfer_syntax,
        modality=text(dataset, "Modality"),
        patient_age=text(dataset, "PatientAge") or _age(dataset),
        body_part=text(dataset, "BodyPartExamined"),
        anatomic_region=_code(dataset, "AnatomicRegionSequence"),
        view_position=text(dataset, "ViewPosition"),
        view_code=_code(dataset, "ViewCodeSequence"),
        patient_position=text(dataset, "PatientPosition"),
        presentation_intent=text(dataset, "PresentationIntentType"),
        quality_control_image=text(dataset, "QualityControlImage"),
        species=text(dataset, "PatientSpeciesDescription"),
    )


def empty_header() -> Header:
    """Return the header of a picture file, which has none."""
    return _EMPTY


def _age(dataset: Dataset) -> str:
    """Return the whole years from birth to the study as a Patient Age; "" where a date is missing."""
    born, taken = (_day(dataset, keyword) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is None or taken is None or taken < born:
        return ""
    years = taken.year - born.year - ((taken.month, taken.day) < (born.month, born.day))
    return f"{min(years, 999):03d}Y"


def _day(dataset: Dataset, keyword: str) -> date | None:
    try:
        return datetime.strptime(text(dataset, keyword), "%Y%m%d").date()  # noqa: DTZ007 a day has no zone
    except ValueError:
        return None


def _plain(dataset: Dataset, keyword: str) -> str:
    return text(dataset, keyword)[:64]


def _code(dataset: Dataset, keyword: str) -> str:
    """Return the Code Value of a sequence's first item."""
    item = first_item(dataset, keyword)
    return "" if item is None else text(item, "CodeValue")
