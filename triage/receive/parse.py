"""From the bytes of a data set to a `Header`, or to the status and sentence of a refusal.

A sender's success means that we can say whose the object is and that it is all there: an empty or
cut data set is refused here, before anything is acknowledged.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any, Literal

from pydicom.datadict import tag_for_keyword

from triage.domain.header import Family, Header, family
from triage.receive import text
from triage.receive.elements import Raw, Walk, Walked
from triage.receive.source import DeflatedSource, FileSource
from triage.receive.verdict import Refused, Status

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED})

#: PS3.5 9.1, and no sign that a path, a query or a page could be built with.
_UID = re.compile(r"[0-9][0-9.]{0,63}")
#: Pixels beyond this multiple of what the header says (and this many bytes) are a trap for whoever decodes.
_SURPLUS, _SPARE = 16, 1 << 20
_WHOLE = re.compile(r"[+-]?[0-9]{1,10}")


def is_uid(value: str) -> bool:
    """Return whether a text is a UID that we are willing to keep."""
    return _UID.fullmatch(value) is not None


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


_CODE, _MEANING = _tag("CodeValue"), _tag("CodeMeaning")
_VIEW, _REGION, _REQUEST = (
    _tag("ViewCodeSequence"),
    _tag("AnatomicRegionSequence"),
    _tag("RequestAttributesSequence"),
)
_PRIORITY = _tag("RequestedProcedurePriority")

#: Fields of `Header` that are one attribute at the top of the data set, and the longest text kept of each.
_TEXTS = {
    "modality": ("Modality", 16),
    "patient_id": ("PatientID", 256),
    "patient_id_issuer": ("IssuerOfPatientID", 256),
    "patient_name": ("PatientName", 324),
    "patient_birth_date": ("PatientBirthDate", 16),
    "patient_sex": ("PatientSex", 16),
    "patient_age": ("PatientAge", 16),
    "accession_number": ("AccessionNumber", 64),
    "study_date": ("StudyDate", 16),
    "study_time": ("StudyTime", 32),
    "study_description": ("StudyDescription", 1024),
    "institution_name": ("InstitutionName", 1024),
    "body_part": ("BodyPartExamined", 64),
    "view_position": ("ViewPosition", 64),
    "patient_position": ("PatientPosition", 64),
    "presentation_intent": ("PresentationIntentType", 64),
    "quality_control_image": ("QualityControlImage", 16),
    "species": ("PatientSpeciesDescription", 64),
}
_TEXT_TAGS = {name: (_tag(keyword), limit) for name, (keyword, limit) in _TEXTS.items()}
_UIDS = {
    name: _tag(keyword)
    for name, keyword in {
        "study_uid": "StudyInstanceUID",
        "series_uid": "SeriesInstanceUID",
        "sop_instance_uid": "SOPInstanceUID",
        "sop_class_uid": "SOPClassUID",
    }.items()
}
_NUMBERS = {
    keyword: _tag(keyword)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
}
_CHARSET, _PHOTOMETRIC = _tag("SpecificCharacterSet"), _tag("PhotometricInterpretation")
_STUDY_PRIORITY = 0x0032000C  # retired Study Priority ID

WANTED = frozenset(
    [(0, tag) for tag, _ in _TEXT_TAGS.values()]
    + [(0, tag) for tag in (*_UIDS.values(), *_NUMBERS.values())]
    + [(0, tag) for tag in (_CHARSET, _PHOTOMETRIC, _PRIORITY, _STUDY_PRIORITY)]
    + [(_VIEW, _CODE), (_REGION, _CODE), (_REGION, _MEANING), (_REQUEST, _PRIORITY)]
)


@dataclass(frozen=True)
class Claim:
    """What the sender said about the object outside of it: in the C-STORE command, or in the file's meta."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def read_header(descriptor: int, offset: int, claim: Claim, begins: bytes = b"") -> Header:
    """Return the header of the data set that begins at `offset` of an open file, and with `begins`.

    Raises:
        Refused: it can't be understood or is not complete (0xC000), or is not what was claimed (0xA900).
    """
    file = FileSource(descriptor, offset, begins)
    if file.ended():
        raise Refused(Status.UNREADABLE, "The data set is empty.")
    deflated = claim.transfer_syntax_uid == DEFLATED
    walk = Walk(
        DeflatedSource(file) if deflated else file,
        implicit=claim.transfer_syntax_uid == IMPLICIT_LE,
        big_endian=claim.transfer_syntax_uid == EXPLICIT_BE,
        wanted=WANTED,
    )
    try:
        found = walk.run()
    except zlib.error:
        raise Refused(Status.UNREADABLE, "The deflated data set can't be inflated.") from None
    fields = _Fields(found, big_endian=claim.transfer_syntax_uid == EXPLICIT_BE)
    _check_identity(fields, claim)
    _check_pixels(fields, claim)
    return fields.header(claim)


class _Fields:
    """The values of a walk, put into words and numbers."""

    def __init__(self, found: Walked, *, big_endian: bool) -> None:
        self.found = found
        self._order: Literal["big", "little"] = "big" if big_endian else "little"
        self._encodings = text.encodings(self._bytes(0, _CHARSET))

    def _bytes(self, parent: int, tag: int) -> bytes:
        raw = self.found.values.get((parent, tag))
        return raw.value if raw else b""

    def word(self, tag: int, parent: int = 0, limit: int = 64) -> str:
        return text.clean(self._bytes(parent, tag).decode("latin-1"), limit)

    def uid(self, tag: int) -> str:
        # Only the padding that the standard knows is taken off: what is inside must be digits and dots.
        return self._bytes(0, tag).decode("latin-1").rstrip("\0 ").lstrip(" ")

    def number(self, keyword: str, default: int) -> int:
        raw = self.found.values.get((0, _NUMBERS[keyword]))
        if raw is None or not raw.value:
            return default
        if raw.vr in (b"IS", b"DS") or keyword == "NumberOfFrames":
            return self._whole(raw, default)
        return int.from_bytes(raw.value[:4] if raw.vr in (b"UL", b"SL") else raw.value[:2], self._order)

    @staticmethod
    def _whole(raw: Raw, default: int) -> int:
        said = raw.value.decode("latin-1").strip("\0 ")
        return int(said) if _WHOLE.fullmatch(said) else default

    def header(self, claim: Claim) -> Header:
        known: dict[str, Any] = {
            name: text.decode(
                self._bytes(0, tag), self._encodings, person=name == "patient_name", limit=limit
            )
            for name, (tag, limit) in _TEXT_TAGS.items()
        }
        priority = self.word(_PRIORITY) or self.word(_PRIORITY, _REQUEST) or self.word(_STUDY_PRIORITY)
        uids: dict[str, Any] = {name: self.uid(tag) for name, tag in _UIDS.items()}
        return Header(
            **uids,
            **known,
            transfer_syntax_uid=claim.transfer_syntax_uid,
            requested_priority=priority,
            view_code=self.word(_CODE, _VIEW),
            anatomic_region=self.word(_CODE, _REGION) or self.word(_MEANING, _REGION),
        )


_NAMES = {
    "sop_class_uid": "SOP Class UID (0008,0016)",
    "sop_instance_uid": "SOP Instance UID (0008,0018)",
    "study_uid": "Study Instance UID (0020,000D)",
    "series_uid": "Series Instance UID (0020,000E)",
}


def _check_identity(fields: _Fields, claim: Claim) -> None:
    """Demand the four UIDs, and that they are those of the command (PS3.4 B.2.3, status A9xx)."""
    if not fields.found.values:
        raise Refused(Status.UNREADABLE, "The bytes are no DICOM data set: none of its attributes is there.")
    for name, title in _NAMES.items():
        value = fields.uid(_UIDS[name])
        if not value:
            raise Refused(Status.MISMATCH, f"{title} is absent or empty.")
        if not is_uid(value):
            raise Refused(Status.MISMATCH, f"{title} is not a UID.")
    if fields.uid(_UIDS["sop_class_uid"]) != claim.sop_class_uid:
        raise Refused(Status.MISMATCH, "The SOP Class UID of the data set is not the one of the request.")
    if fields.uid(_UIDS["sop_instance_uid"]) != claim.sop_instance_uid:
        raise Refused(Status.MISMATCH, "The SOP Instance UID of the data set is not the one of the request.")


def _check_pixels(fields: _Fields, claim: Claim) -> None:
    """Refuse a radiograph whose native pixels are fewer than its own header says: it was cut on its way."""
    found = fields.found
    if claim.transfer_syntax_uid not in NATIVE or found.pixel_bytes is None:
        return
    if family(claim.sop_class_uid) is Family.OTHER:
        return
    if found.encapsulated:
        raise Refused(Status.UNREADABLE, "The pixel data is in fragments, the transfer syntax is not.")
    due = expected_bytes(fields)
    if found.pixel_bytes < due:
        msg = f"The pixel data is cut short: {found.pixel_bytes} bytes of the {due} that Rows x Columns need."
        raise Refused(Status.UNREADABLE, msg)
    if due and found.pixel_bytes > _SURPLUS * due + _SPARE:
        msg = f"The pixel data is {found.pixel_bytes} bytes where Rows x Columns need {due}."
        raise Refused(Status.UNREADABLE, msg)


def expected_bytes(fields: _Fields) -> int:
    """Return the bytes that native pixels need at least; 0 where the header does not say."""
    bits = fields.number("BitsAllocated", 0)
    samples = fields.number("SamplesPerPixel", 1)
    frames = max(fields.number("NumberOfFrames", 1), 1)
    total = (fields.number("Rows", 0) * fields.number("Columns", 0) * samples * frames * bits + 7) // 8
    if fields.word(_PHOTOMETRIC).startswith(("YBR_FULL_422", "YBR_PARTIAL_42")):
        return total * 2 // 3
    return total
