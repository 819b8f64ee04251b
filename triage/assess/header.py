"""The header of an opened object as the domain knows it, without identities of the patient."""

from __future__ import annotations

from pydicom.dataset import Dataset

from triage.assess.attributes import first_item, number, text
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
        patient_age=text(dataset, "PatientAge"),
        body_part=text(dataset, "BodyPartExamined"),
        anatomic_region=_code(dataset, "AnatomicRegionSequence"),
        view_position=text(dataset, "ViewPosition"),
        view_code=_code(dataset, "ViewCodeSequence"),
        patient_position=text(dataset, "PatientPosition"),
        presentation_intent=text(dataset, "PresentationIntentType"),
        quality_control_image=text(dataset, "QualityControlImage"),
        species=text(dataset, "PatientSpeciesDescription"),
        rows=int(number(dataset, "Rows") or 0),
        columns=int(number(dataset, "Columns") or 0),
        has_pixels=True,
    )


def empty_header() -> Header:
    """Return the header of a picture file, which has none."""
    return _EMPTY


def _plain(dataset: Dataset, keyword: str) -> str:
    return text(dataset, keyword)[:64]


def _code(dataset: Dataset, keyword: str) -> str:
    """Return the Code Value of a sequence's first item."""
    item = first_item(dataset, keyword)
    return "" if item is None else text(item, "CodeValue")
