"""The header of a source film as a clean UTF-8 copy, whatever the film's own header looks like."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydicom import config, dcmread
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import PersonName

from triage.report.errors import NoReport
from triage.report.uids import is_valid

#: Type 2 of the patient and study modules (PS3.3 C.7.1.1, C.7.2.1): absent at the source means empty here.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
#: Copied when present and well formed.
_OPTIONAL = (
    "IssuerOfPatientID",
    "PatientAge",
    "StudyDescription",
    "PhysiciansOfRecord",
    "InstitutionName",
    "TimezoneOffsetFromUTC",
)
#: The same of what a film says of itself alone.
_OF_FILM = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientOrientation",
    "ImageLaterality",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "Rows",
    "Columns",
)
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
#: Sequences of codes, and the request: copied item by item, never with what a private group hangs on them.
_FILM_CODES = ("ViewCodeSequence", "AnatomicRegionSequence")
_CODE_SEQUENCES = ("ProcedureCodeSequence", *_FILM_CODES)
_REQUEST = ("RequestedProcedureID", "RequestedProcedureDescription", "AccessionNumber")
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")

_FORMS = {
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?"),
    "CS": re.compile(r"[A-Z0-9 _]{1,16}"),
    "AS": re.compile(r"\d{3}[DWMY]"),
    "DS": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"),
}
#: UTC-12 to UTC+14 (PS3.3 C.12.1.1.8).
_OFFSET = re.compile(r"-(0\d|1[0-2])[0-5]\d|\+(0\d|1[0-4])[0-5]\d")
#: Where ISO 2022 falls back to the first character set (PS3.5 6.1.2.5.3).
_DELIMITERS = {ord(mark) for mark in "\\^="}
_LENGTHS = {"SH": 16, "LO": 64}
#: Control characters, ESC of a charset that was not declared among them, have no place in a name.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]")
#: Shown as sent whatever its length: a PACS files the report under the film's patient by it.
_IDENTITY = frozenset({"PatientID", "PatientName", "IssuerOfPatientID"})


def read_evidence(path: Path) -> Dataset:
    """Return the header of a film as a data set that is safe to copy from.

    Text is decoded by the film's own character set and will be written as UTF-8; what does not decode is
    kept readable and harmless. Type 2 attributes are there, empty where the film has none. Values that are
    no date, time, code or finite number are left out; of several where one belongs the first is kept. Names,
    however broken, never raise.

    Raises:
        NoReport: the file is no DICOM object, or its UIDs are missing or invalid.
        OSError: the file is missing, or can't be read now.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = dcmread(path, stop_before_pixels=True, force=True)
    except Exception as error:
        # An error of the system has a number; one that pydicom raises for the film's own bytes has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        msg = (
            f"A film's header can't be read ({type(error).__name__}), so it can't be referenced in a report."
        )
        raise NoReport(msg) from error
    return normalise(source)


def normalise(source: Dataset) -> Dataset:
    """Return the copy of `read_evidence` for a data set that was read already."""
    encodings = _encodings(source)
    clean = Dataset()
    for keyword in _UIDS:
        value = _texts(source, keyword, encodings)
        if len(value) != 1 or not is_valid(value[0]):
            msg = f"The {keyword} of a film is missing or invalid, so it can't be referenced in a report."
            raise NoReport(msg)
        setattr(clean, keyword, value[0])
    for keyword in (*TYPE_2, *_OPTIONAL, *_OF_FILM):
        _copy(source, clean, keyword, encodings)
    if clean.get("PatientSex") not in ("M", "F", "O"):
        clean.PatientSex = ""
    for keyword in TYPE_2:
        if keyword not in clean:
            setattr(clean, keyword, "")
    for keyword in _CODE_SEQUENCES:
        items = [code for item in _items(source, keyword) if (code := _code(item, encodings))]
        if items:
            setattr(clean, keyword, items)
    _copy_request(source, clean, encodings)
    clean.SpecificCharacterSet = "ISO_IR 192"
    return clean


def without_file(beside: Dataset, known: Mapping[str, str]) -> Dataset:
    """Return a header by which a film whose file is gone can be referenced.

    Whose it is says `beside`, the header of another film of its study. `known` are its own UIDs and what
    else is known of it by keyword; how it was taken nobody can say any more.

    Raises:
        NoReport: its UIDs are invalid.
    """
    source = deepcopy(beside)
    for keyword in (*_OF_FILM, *_FILM_CODES):
        if keyword in source:
            delattr(source, keyword)
    with config.disable_value_validation():
        for keyword, value in known.items():
            setattr(source, keyword, value)
    return normalise(source)


def _encodings(source: Dataset) -> list[str]:
    """Return Python codecs for the declared sets; undeclared text is UTF-8 where it is valid UTF-8."""
    declared = _raw(source, "SpecificCharacterSet")
    names = [] if declared is None else declared.decode("ascii", "replace").strip(" \0").split("\\")
    names = [name.strip() for name in names]
    if not any(names):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return convert_encodings(names if len(names) > 1 else names[0])
    except (LookupError, ValueError):
        return []


def _raw(source: Dataset, keyword: str) -> bytes | None:
    """Return the bytes of an element, or None when it is absent; text that is decoded already is encoded."""
    tag = Tag(keyword)
    if tag not in source:
        return None
    element = source.get_item(tag)
    value = element.value
    if isinstance(element, RawDataElement):
        return value if isinstance(value, bytes) else b""
    if isinstance(value, PersonName):
        return value.original_string if isinstance(value.original_string, bytes) else str(value).encode()
    if value is None:
        return b""
    many = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return "\\".join(str(one) for one in many).encode()


def _decode(raw: bytes, encodings: list[str]) -> str:
    if encodings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                text = decode_bytes(raw, encodings, _DELIMITERS)
            if "\ufffd" not in text:
                return text
        except (LookupError, ValueError):
            pass
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _texts(source: Dataset, keyword: str, encodings: list[str]) -> list[str]:
    """Return the values of a text element: decoded, stripped, without control characters."""
    raw = _raw(source, keyword)
    if not raw:
        return []
    text = _CONTROL.sub("", _decode(raw, encodings))
    values = [value.strip() for value in text.split("\\")]
    return values if any(values) else []


def _copy(source: Dataset, clean: Dataset, keyword: str, encodings: list[str]) -> None:
    vr = dictionary_VR(Tag(keyword))
    if vr == "US":
        number = _number(source, keyword)
        if number:
            setattr(clean, keyword, number)
        return
    values = _texts(source, keyword, encodings)
    if dictionary_VM(Tag(keyword)) == "1" and keyword not in _IDENTITY:
        values = [value for value in values if value][:1]
    form = _OFFSET if keyword == "TimezoneOffsetFromUTC" else _FORMS.get(vr)
    if form is not None and not all(form.fullmatch(value) for value in values):
        return
    if vr == "DS" and not all(math.isfinite(float(value)) for value in values):
        return
    limit = None if keyword in _IDENTITY else _LENGTHS.get(vr)
    kept = [value[:limit] for value in values]
    if kept:
        setattr(clean, keyword, kept if len(kept) > 1 else kept[0])


def _number(source: Dataset, keyword: str) -> int:
    try:
        with config.disable_value_validation():
            return int(source[keyword].value)
    except (KeyError, TypeError, ValueError, AttributeError):
        return 0


def _items(source: Dataset, keyword: str) -> Sequence[Any]:
    """Return the items of a sequence; none when it is absent or is no sequence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = source[keyword].value
    except Exception:  # noqa: BLE001 - a broken sequence raises anything; it is simply not copied
        return ()
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else ()


def _code(item: Dataset, encodings: list[str]) -> Dataset | None:
    """Return a clean code triplet, or None unless it is complete."""
    code = Dataset()
    for keyword in _CODE:
        values = _texts(item, keyword, encodings)
        if len(values) != 1:
            return None
        setattr(code, keyword, values[0][: 64 if keyword == "CodeMeaning" else 16])
    return code


def _copy_request(source: Dataset, clean: Dataset, encodings: list[str]) -> None:
    """Keep the first item of Request Attributes Sequence, as far as a report needs it."""
    for item in _items(source, "RequestAttributesSequence")[:1]:
        request = Dataset()
        for keyword in _REQUEST:
            _copy(item, request, keyword, encodings)
        if request:
            clean.RequestAttributesSequence = [request]
