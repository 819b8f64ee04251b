"""A DICOM object opened for its pixels: the few attributes that matter and the bytes of Pixel Data."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from triage.assess.attributes import UNREADABLE
from triage.assess.errors import PixelError
from triage.domain.finding import NotEvaluated

# pydicom's complaints about a value quote the value; patients must not reach the log
config.settings.reading_validation_mode = config.IGNORE

PIXEL_DATA = 0x7FE00010
_FLOAT_PIXELS = frozenset({0x7FE00008, 0x7FE00009})
_UNDEFINED = 0xFFFFFFFF
#: What a deflated object may inflate to, and by how much at most: a film deflates to a half, not a tenth.
INFLATED_LIMIT = 512 * 1024 * 1024
INFLATION_LIMIT = 200

#: The only attributes that are parsed: sequences of unknown depth elsewhere in the object stay bytes.
WANTED_TAGS: tuple[int, ...] = (
    0x00020010, 0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080020, 0x00080060, 0x00080068,
    0x00082218, 0x00100030, 0x00101010, 0x00102201,
    0x00180015, 0x00185100, 0x00185101, 0x0020000D, 0x0020000E, 0x00200020,
    0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280034,
    0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121, 0x00280300, 0x00280301,
    0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056,
    0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203,
    0x00282110, 0x00282112, 0x00283000, 0x00283010, 0x00540220, 0x20500020,
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One object ready for its pixels: parsed attributes, transfer syntax, and Pixel Data as it lies.

    `payload` is a view on the mapped file, not a copy; for encapsulated data it begins with the Basic
    Offset Table item. `little_endian` says how native words lie.
    """

    dataset: Dataset
    transfer_syntax: str
    payload: memoryview
    encapsulated: bool
    little_endian: bool = True
    keep: tuple[object, ...] = field(default=(), repr=False)


def open_source(origin: Path | str | bytes | Dataset) -> Source:
    """Open a file, the bytes of a file, or a dataset; raise PixelError for what is no object with pixels.

    Files are mapped, never read whole: a 15 MB film costs a millisecond here.
    """
    if isinstance(origin, Dataset):
        return _from_dataset(origin)
    if isinstance(origin, bytes):
        return _from_buffer(origin, len(origin))
    path = Path(origin)
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        if size == 0:
            raise PixelError(NotEvaluated.UNDECODABLE, "The file is empty.")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _from_buffer(mapped, size)


def is_dicom(path: Path | str) -> bool:
    """Return whether a file is or may be a DICOM object: by its prefix, or by its name when it has none."""
    with Path(path).open("rb") as file:
        head = file.read(132)
    pictures = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF", b"II*\0", b"MM\0*", b"BM")
    return head[128:] == b"DICM" or not head.startswith(pictures)


def _from_dataset(dataset: Dataset) -> Source:
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    if not syntax:
        implicit, little = dataset.original_encoding
        syntax = _syntax_of(bool(implicit), little is not False)
    element = dataset.get_item("PixelData")
    if element is None or not isinstance(dataset.PixelData, bytes) or not dataset.PixelData:
        raise PixelError(NotEvaluated.NO_PIXELS, "The object has no Pixel Data.")
    native = syntax in _NATIVE
    little = syntax != ExplicitVRBigEndian
    return Source(dataset, syntax, memoryview(dataset.PixelData), not native, little)


_NATIVE: Mapping[str, tuple[bool, bool]] = {
    str(ImplicitVRLittleEndian): (True, True),
    str(ExplicitVRLittleEndian): (False, True),
    str(ExplicitVRBigEndian): (False, False),
    str(DeflatedExplicitVRLittleEndian): (False, True),
}


def _syntax_of(implicit: bool, little: bool) -> str:
    if not little:
        return str(ExplicitVRBigEndian)
    return str(ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)


def _from_buffer(buffer: bytes | mmap.mmap, size: int) -> Source:
    syntax, start = _file_meta(buffer, size)
    if syntax == DeflatedExplicitVRLittleEndian:
        buffer = _inflate(buffer, start, size)
        start, size = 0, len(buffer)
    implicit, little = _NATIVE.get(syntax, (False, True))
    stream: Any = buffer if isinstance(buffer, mmap.mmap) else io.BytesIO(buffer)
    stream.seek(start)
    try:
        dataset = read_dataset(
            stream,
            is_implicit_VR=implicit,
            is_little_endian=little,
            stop_when=_at_pixels,
            specific_tags=[BaseTag(tag) for tag in WANTED_TAGS],
        )
    except (*UNREADABLE, MemoryError) as error:  # fmt: skip
        sentence = f"The object's header could not be parsed ({type(error).__name__})."
        raise PixelError(NotEvaluated.UNDECODABLE, sentence) from error
    payload, encapsulated = _pixel_element(buffer, stream.tell(), size, little)
    return Source(dataset, syntax, payload, encapsulated, little, keep=(buffer,))


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag == PIXEL_DATA or tag in _FLOAT_PIXELS


def _file_meta(buffer: bytes | mmap.mmap, size: int) -> tuple[str, int]:
    """Return the transfer syntax and where the dataset starts (PS3.10 7.1); guess both where absent."""
    if buffer[128:132] != b"DICM":
        return _guess(buffer)
    position, syntax = 132, ""
    while position + 8 <= size:
        group, element, vr, length = struct.unpack_from("<HH2sH", buffer, position)
        if group != 2:
            break
        position += 8
        if vr in (b"OB", b"UN", b"OW", b"SQ", b"UT"):
            if position + 4 > size:
                break
            (length,) = struct.unpack_from("<I", buffer, position)
            position += 4
        if element == 0x0010:
            syntax = (
                bytes(buffer[position : position + min(length, 64)]).rstrip(b"\0 ").decode("ascii", "replace")
            )
        position += length
    if not syntax or position > size:
        raise PixelError(NotEvaluated.UNDECODABLE, "The file's meta information is broken or cut short.")
    return syntax, position


def _guess(buffer: bytes | mmap.mmap) -> tuple[str, int]:
    """Take a bare dataset, as old modalities write it, for what its first element looks like."""
    head = bytes(buffer[:8])
    if len(head) == 8 and head[:2] in (b"\x08\x00", b"\x02\x00") and head[3] == 0:
        explicit = head[4:6].isalpha() and head[4:6].isupper()
        return _syntax_of(not explicit, True), 0
    raise PixelError(NotEvaluated.UNDECODABLE, "The file is not a DICOM object.")


def _inflate(buffer: bytes | mmap.mmap, start: int, size: int) -> bytes:
    """Inflate a deflated dataset (PS3.5 A.5) up to a limit that no honest film reaches."""
    limit = min(INFLATED_LIMIT, max(1 << 20, (size - start) * INFLATION_LIMIT))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(memoryview(buffer)[start:size], limit)
    except zlib.error as error:
        raise PixelError(NotEvaluated.UNDECODABLE, "The deflated object could not be inflated.") from error
    if inflater.unconsumed_tail:
        sentence = f"The deflated object inflates beyond {limit // (1 << 20)} MB."
        raise PixelError(NotEvaluated.UNDECODABLE, sentence)
    return data


def _pixel_element(
    buffer: bytes | mmap.mmap, position: int, size: int, little: bool
) -> tuple[memoryview, bool]:
    """Return the value of Pixel Data at `position` as a view, and whether it is encapsulated."""
    order = "<" if little else ">"
    if position + 8 > size:
        raise PixelError(NotEvaluated.NO_PIXELS, "The object has no Pixel Data.")
    group, element = struct.unpack_from(order + "HH", buffer, position)
    if (group << 16 | element) != PIXEL_DATA:
        raise PixelError(NotEvaluated.NO_PIXELS, "The object has no integer Pixel Data.")
    if bytes(buffer[position + 4 : position + 6]) in (b"OB", b"OW", b"UN"):
        position += 8
        if position + 4 > size:
            raise PixelError(NotEvaluated.NO_PIXELS, "The object ends where its Pixel Data should begin.")
    else:
        position += 4
    (length,) = struct.unpack_from(order + "I", buffer, position)
    position += 4
    view = memoryview(buffer)
    if length == _UNDEFINED:
        return view[position:size], True
    if length == 0:
        raise PixelError(NotEvaluated.NO_PIXELS, "The object's Pixel Data is empty.")
    return view[position : min(size, position + length)], False
