"""Data sets for tests of the receive room, made element by element."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Mapping

from pydicom.datadict import dictionary_VR, tag_for_keyword

from triage.domain.header import Header
from triage.receive.parse import EXPLICIT_LE, Claim, read_header

CR = "1.2.840.10008.5.1.4.1.1.1"
SR = "1.2.840.10008.5.1.4.1.1.88.33"
_LONG = {"OB", "OW", "SQ", "UN", "UT"}


def element(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    """Return one explicit little endian element; `length` may lie."""
    value += (b"\0" if vr in ("UI", "OB", "OW", "UN") else b" ") * (len(value) % 2)
    said = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in _LONG:
        return head + struct.pack("<HL", 0, said) + value
    return head + struct.pack("<H", said & 0xFFFF) + value


def film(
    extra: Mapping[str, object] | None = None, *, pixels: bytes | None = None, drop: tuple[str, ...] = ()
) -> bytes:
    """Return the data set of a tiny CR film; `extra` changes attributes, `drop` leaves some out."""
    values: dict[str, object] = {
        "SOPClassUID": CR,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "CR",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700101",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 8,
        "Columns": 8,
        "BitsAllocated": 16,
        **(extra or {}),
    }
    parts = {}
    for keyword, value in values.items():
        if keyword in drop:
            continue
        tag = tag_for_keyword(keyword)
        assert tag is not None
        vr = dictionary_VR(tag)
        raw = (
            struct.pack("<H", value)
            if vr == "US"
            else value
            if isinstance(value, bytes)
            else str(value).encode()
        )
        parts[tag] = element(tag, vr, raw)
    body = b"".join(parts[tag] for tag in sorted(parts))
    return body + element(0x7FE00010, "OW", bytes(128) if pixels is None else pixels)


def claim(instance: str = "1.2.3.4", sop_class: str = CR, syntax: str = EXPLICIT_LE) -> Claim:
    """Return what a sender says of `film()`."""
    return Claim(sop_class, instance, syntax)


def read(data: bytes, said: Claim | None = None) -> Header:
    """Return the header of bytes, read through a file as the service does."""
    with tempfile.TemporaryFile() as file:
        file.write(b"meta" + data)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return read_header(file.fileno(), 4, said or claim())
