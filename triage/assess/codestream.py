"""Encapsulated Pixel Data read without decoding: fragments, dimensions, and whether the end is there.

Everything here looks at bytes only, so that a header of 65535 x 65535 or a cut stream is refused before
any decoder sees it (PS3.5 A.4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from triage.assess.errors import PixelError
from triage.domain.finding import NotEvaluated

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_EOI = b"\xff\xd9"
#: Start-of-frame markers of JPEG and JPEG-LS (ISO 10918-1 table B.1, ISO 14495-1 C.1): not DHT, JPG, DAC.
_FRAME_MARKERS = frozenset(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})


@dataclass(frozen=True)
class Geometry:
    """What a codestream says of itself: rows, columns, components, bits of a sample, signedness."""

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False


def frame_bytes(payload: memoryview) -> bytes | memoryview:
    """Return the one frame of encapsulated Pixel Data, its fragments joined; raise PixelError when cut.

    The Basic Offset Table (first item) is skipped. A missing Sequence Delimitation Item is forgiven when
    the last fragment is whole.
    """
    fragments: list[memoryview] = []
    position, first = 0, True
    while position + 8 <= len(payload):
        group, element, length = struct.unpack_from("<HHI", payload, position)
        tag = group << 16 | element
        if tag == _SEQUENCE_END:
            break
        if tag != _ITEM:
            raise _undecodable("The encapsulated pixels are not made of items.")
        position += 8
        if length == 0xFFFFFFFF or position + length > len(payload):
            raise _undecodable("The compressed pixels are cut short.")
        if not first and length:
            fragments.append(payload[position : position + length])
        first = False
        position += length
    if not fragments:
        raise PixelError(NotEvaluated.NO_PIXELS, "The object holds no compressed frame.")
    return fragments[0] if len(fragments) == 1 else b"".join(fragments)


def jpeg_geometry(frame: bytes | memoryview) -> Geometry:
    """Return the geometry of a JPEG or JPEG-LS stream that is whole; raise PixelError otherwise."""
    data = bytes(frame[:2])
    if data != b"\xff\xd8":
        raise _undecodable("The compressed pixels are not a JPEG stream.")
    position = 2
    geometry: Geometry | None = None
    while True:
        marker, position = _next_marker(frame, position)
        if marker == 0xDA:
            break
        if marker in _STANDALONE:
            continue
        if marker == 0xD9 or position + 2 > len(frame):
            raise _undecodable("The JPEG stream ends before its pixels.")
        (length,) = struct.unpack_from(">H", frame, position)
        if marker in _FRAME_MARKERS:
            if length < 8 or position + length > len(frame):
                raise _undecodable("The JPEG stream's frame header is broken.")
            precision, rows, columns, components = struct.unpack_from(">BHHB", frame, position + 2)
            geometry = Geometry(rows, columns, components, precision)
        position += max(length, 2)
    if geometry is None:
        raise _undecodable("The JPEG stream has no frame header.")
    _demand_end(frame, position)
    return geometry


def _next_marker(frame: bytes | memoryview, position: int) -> tuple[int, int]:
    size = len(frame)
    while position + 1 < size:
        if frame[position] == 0xFF and frame[position + 1] not in (0x00, 0xFF):
            return frame[position + 1], position + 2
        position += 1
    raise _undecodable("The JPEG stream ends before its pixels.")


def j2k_geometry(frame: bytes | memoryview) -> Geometry:
    """Return the geometry of a JPEG 2000 or HTJ2K codestream (ISO 15444-1 A.5.1), JP2 boxes or not."""
    head = bytes(frame[:4096])
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 45 > len(frame):
        raise _undecodable("The compressed pixels are not a JPEG 2000 stream.")
    width, height, left, top = struct.unpack_from(">IIII", frame, start + 8)
    components, depth = struct.unpack_from(">HB", frame, start + 40)
    _demand_end(frame, start)
    return Geometry(height - top, width - left, components, (depth & 0x7F) + 1, bool(depth & 0x80))


def _demand_end(frame: bytes | memoryview, after: int) -> None:
    """Refuse a stream without its end marker: decoders would fill in what is missing, without a word.

    FF D9 cannot occur inside entropy-coded data, so any of them after the first scan is the end.
    """
    tail = bytes(frame[max(after, len(frame) - 65536) :])
    if _EOI not in tail:
        raise _undecodable("The compressed pixels are cut short: their end marker is missing.")


def rle_segments(frame: bytes | memoryview, expected: int) -> list[memoryview]:
    """Return the byte planes of an RLE frame (PS3.5 G.3); raise PixelError unless there are `expected`."""
    if len(frame) < 64:
        raise _undecodable("The RLE frame is shorter than its header.")
    count, *offsets = struct.unpack_from("<16I", frame, 0)
    if count != expected:
        raise PixelError(
            NotEvaluated.BAD_GEOMETRY,
            f"The RLE frame has {count} segments where the header's bits and samples ask for {expected}.",
        )
    bounds = [*offsets[:count], len(frame)]
    if bounds[0] < 64 or any(low >= high for low, high in pairwise(bounds)):
        raise _undecodable("The RLE frame's offsets are broken.")
    view = memoryview(frame)
    return [view[low:high] for low, high in pairwise(bounds)]


def _undecodable(sentence: str) -> PixelError:
    return PixelError(NotEvaluated.UNDECODABLE, sentence)
