"""The pixel chain: from a DICOM object to a film in display values, in the order of PS3.4 N.2.

decode, bits, padding, modality, VOI, percentiles, polarity, orientation. Whatever cannot be a single grey
film raises PixelError with the reason that the report will carry; what is merely wrong in the header is
survived and named in `Film.quirks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from triage.assess.attributes import number, text, values
from triage.assess.codestream import Geometry, frame_bytes
from triage.assess.colour import grey_of_palette, grey_of_samples, luminance_of_422
from triage.assess.decode import CODECS, ENCAPSULATED_UNCOMPRESSED, DecoderPool, shared_pool
from triage.assess.errors import PixelError
from triage.assess.film import Film, Words, find_field, line_through, sample_counts, scaled_table
from triage.assess.lut import Layout, Transfer, transfer
from triage.assess.orientation import upright
from triage.assess.source import Source, open_source
from triage.domain.finding import NotEvaluated

__all__ = ["Film", "PixelError", "film_of", "read_film", "read_picture"]

#: No radiograph has more pixels; a header that claims more is hostile or not a film.
MAX_PIXELS = 100_000_000
#: Smaller pictures are thumbnails or icons.
MIN_SIDE = 40
_WHOLE = (slice(None), slice(None))
_GREY = ("MONOCHROME1", "MONOCHROME2")
#: A VOI LUT that leaves fewer of the film's distinct grey values than this share is not meant for it.
_LUT_KEEPS = 0.05


@dataclass(frozen=True)
class _Shape:
    """The Image Pixel module (PS3.3 C.7.6.3) as far as the decoder needs it."""

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    layout: Layout
    planar: bool


def read_film(origin: Path | str | bytes | Dataset, pool: DecoderPool | None = None) -> Film:
    """Return the film in a DICOM file, its bytes, or a dataset.

    Uncompressed films are read in place; compressed ones are decoded by `pool` (the process's own by
    default). Raises PixelError with the reason and one plain sentence.
    """
    return film_of(open_source(origin), pool)


def film_of(source: Source, pool: DecoderPool | None = None) -> Film:
    """Return the film of an opened object; see `read_film`."""
    shape = _shape(source)
    quirks: list[str] = []
    words, shape = _words(source, shape, pool, quirks)
    if shape.photometric == "PALETTE COLOR":
        greys = grey_of_palette(source.dataset, shape.layout, words, source.little_endian)
        chain = Transfer(greys, greys, np.zeros(greys.shape, bool), ("palette",))
        inverted = False
    else:
        chain = transfer(source.dataset, shape.layout)
        inverted = _inverted(source.dataset, shape, quirks)
    counts = sample_counts(words, len(chain.values))
    table = scaled_table(_fitting(chain, counts, quirks), chain.padding, counts, inverted)
    if chain.padding.any() and counts[chain.padding].any():
        quirks.append("padding")
    words = upright(words, source.dataset, quirks)
    field = find_field(words, table)
    if field != _WHOLE:
        quirks.append("border")
    return Film(
        words=words,
        table=table,
        quirks=(*chain.quirks, *quirks),
        pixel_aspect=_pixel_aspect(source.dataset),
        field=field,
        _line=line_through(table[: int(words.max()) + 1]),
    )


def read_picture(path: Path | str) -> Film:
    """Return the film in a picture file (PNG, JPEG, WebP, TIFF, 8 or 16 bit, grey or equal channels).

    A picture carries no polarity: white is white. Raises PixelError like `read_film`.
    """
    data = np.fromfile(path, np.uint8)
    try:
        flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
        pixels = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise PixelError(
            NotEvaluated.UNDECODABLE, "The file is neither a DICOM object nor a readable picture."
        )
    rows, columns = pixels.shape[:2]
    _bounds(rows, columns)
    samples: Words = pixels.astype(pixels.dtype, copy=False)
    words = grey_of_samples(samples) if samples.ndim == 3 else samples
    greys = np.arange(1 << (8 * words.itemsize), dtype=np.float64)
    table = scaled_table(greys, np.zeros(greys.shape, bool), sample_counts(words, len(greys)), inverted=False)
    return Film(words, table, field=find_field(words, table), _line=line_through(table))


def _shape(source: Source) -> _Shape:
    """Read and check the Image Pixel module; raise PixelError for what no film has."""
    dataset = source.dataset
    rows, columns = _whole(dataset, "Rows"), _whole(dataset, "Columns")
    frames = number(dataset, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise PixelError(NotEvaluated.MULTI_FRAME, f"The object holds {int(frames)} frames, not one film.")
    _bounds(rows, columns)
    samples, allocated = _whole(dataset, "SamplesPerPixel", 1), _whole(dataset, "BitsAllocated")
    stored = _whole(dataset, "BitsStored", allocated)
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated or samples not in (1, 3):
        raise PixelError(
            NotEvaluated.BAD_GEOMETRY,
            f"A film can't have {samples} samples of {stored} bits in {allocated}.",
        )
    photometric = text(dataset, "PhotometricInterpretation") or "MONOCHROME2"
    if (samples == 1) != (photometric in (*_GREY, "PALETTE COLOR")):
        raise PixelError(
            NotEvaluated.BAD_GEOMETRY, f"{samples} samples a pixel contradict the photometric interpretation."
        )
    high_bit = min(_whole(dataset, "HighBit", stored - 1), allocated - 1)
    signed = number(dataset, "PixelRepresentation") == 1
    layout = Layout(allocated, stored, high_bit, signed, source.little_endian)
    planar = number(dataset, "PlanarConfiguration") == 1
    return _Shape(rows, columns, samples, photometric, allocated, layout, planar)


def _whole(dataset: Dataset, keyword: str, default: int = 0) -> int:
    value = number(dataset, keyword)
    return default if value is None else int(value)


def _bounds(rows: int, columns: int) -> None:
    if rows <= 0 or columns <= 0:
        raise PixelError(NotEvaluated.BAD_GEOMETRY, "The header gives the picture no rows or no columns.")
    if rows * columns > MAX_PIXELS:
        raise PixelError(NotEvaluated.BAD_GEOMETRY, f"{rows} x {columns} pixels are more than any film has.")
    if min(rows, columns) < MIN_SIDE:
        raise PixelError(NotEvaluated.TOO_SMALL, f"The picture is only {rows} x {columns} pixels.")


def _words(
    source: Source, shape: _Shape, pool: DecoderPool | None, quirks: list[str]
) -> tuple[Words, _Shape]:
    """Return the film's words [H, W] and its shape, corrected by what decoding made of it."""
    if source.encapsulated and source.transfer_syntax != ENCAPSULATED_UNCOMPRESSED:
        codec = CODECS.get(source.transfer_syntax)
        if codec is None:
            raise PixelError(
                NotEvaluated.UNDECODABLE, f"There is no decoder for transfer syntax {source.transfer_syntax}."
            )
        return _decoded(source, shape, codec, pool, quirks)
    payload = source.payload
    if source.encapsulated:
        payload = memoryview(frame_bytes(payload))
    return _native(payload, shape, source.little_endian, quirks)


def _native(payload: memoryview, shape: _Shape, little: bool, quirks: list[str]) -> tuple[Words, _Shape]:
    """View uncompressed samples in place; refuse missing bytes, note surplus ones."""
    count = shape.rows * shape.columns * shape.samples
    subsampled = shape.photometric == "YBR_FULL_422"
    if subsampled:
        count = count * 2 // 3
    size = count * shape.allocated // 8
    if len(payload) < size:
        sentence = f"The pixels are cut short: {len(payload)} of {size} bytes are there."
        raise PixelError(NotEvaluated.UNDECODABLE, sentence)
    if len(payload) > size + 1:
        quirks.append("surplus-bytes")
    word = np.dtype(f"u{shape.allocated // 8}").newbyteorder("<" if little else ">")
    flat = np.frombuffer(payload, word, count=count)
    if subsampled:
        return luminance_of_422(flat, shape.rows, shape.columns), _grey(shape)
    if shape.samples == 3:
        if shape.planar:
            samples = flat.reshape(3, shape.rows, shape.columns).transpose(1, 2, 0)
        else:
            samples = flat.reshape(shape.rows, shape.columns, 3)
        return grey_of_samples(samples, ybr=shape.photometric.startswith("YBR")), _grey(shape)
    return _narrow(flat.reshape(shape.rows, shape.columns), shape)


def _decoded(
    source: Source, shape: _Shape, codec: str, pool: DecoderPool | None, quirks: list[str]
) -> tuple[Words, _Shape]:
    """Decode a compressed frame; samples come right-aligned, so only RLE keeps the header's High Bit."""
    frame = frame_bytes(source.payload)
    precision = shape.allocated if codec in ("rle", "deflated") else shape.layout.stored_bits
    geometry = Geometry(shape.rows, shape.columns, shape.samples, precision)
    decoded = (pool or shared_pool()).decode(frame, codec, geometry)
    samples = decoded.samples
    if samples.ndim == 3:
        return grey_of_samples(samples, ybr=codec == "rle" and shape.photometric.startswith("YBR")), _grey(
            shape
        )
    if codec in ("rle", "deflated"):
        return _narrow(samples, shape)
    stored = shape.layout.stored_bits
    if not shape.layout.signed and decoded.precision is not None and samples.max() >= 1 << stored:
        quirks.append("precision")
        stored = decoded.precision
    layout = Layout(samples.itemsize * 8, stored, stored - 1, shape.layout.signed, source.little_endian)
    return _narrow(samples, _replace(shape, layout))


def _narrow(samples: npt.NDArray[np.unsignedinteger], shape: _Shape) -> tuple[Words, _Shape]:
    """Bring words to 8 or 16 bits in this machine's order; of longer values the upper 16 bits count."""
    layout = shape.layout
    if samples.itemsize <= 2:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False), shape
    wide = samples.astype(np.uint32)
    shift = max(0, layout.high_bit - layout.stored_bits + 1)
    stored = layout.stored_bits
    if stored > 16:
        shift, stored = shift + stored - 16, 16
    words = (wide >> np.uint32(shift)).astype(np.uint16)
    return words, _replace(shape, Layout(16, stored, stored - 1, layout.signed, layout.little_endian))


def _replace(shape: _Shape, layout: Layout) -> _Shape:
    return _Shape(
        shape.rows, shape.columns, shape.samples, shape.photometric, shape.allocated, layout, shape.planar
    )


def _grey(shape: _Shape) -> _Shape:
    """Return the shape of a colour object after its equal channels became one of 8 bits."""
    layout = Layout(8, 8, 7, signed=False)
    return _Shape(shape.rows, shape.columns, 1, "MONOCHROME2", 8, layout, planar=False)


def _inverted(dataset: Dataset, shape: _Shape, quirks: list[str]) -> bool:
    """Return whether lowest is white: Photometric Interpretation decides, once.

    Presentation LUT Shape says the same in other words (PS3.3 C.8.11.3.1.2); where it contradicts, it is
    the one that viewers ignore.
    """
    inverse = shape.photometric == "MONOCHROME1"
    lut_shape = text(dataset, "PresentationLUTShape")
    if lut_shape in ("IDENTITY", "INVERSE") and (lut_shape == "INVERSE") != inverse:
        quirks.append("photometric-contradiction")
    return inverse


def _fitting(chain: Transfer, counts: npt.NDArray[np.int64], quirks: list[str]) -> npt.NDArray[np.float64]:
    """Return the values after the VOI stage, or those before it when it would wipe out the film."""
    seen = np.flatnonzero((counts > 0) & ~chain.padding)
    if chain.values is chain.plain or len(seen) < 2:
        return chain.values
    before, after = len(np.unique(chain.plain[seen])), len(np.unique(chain.values[seen]))
    if before >= 16 and after < _LUT_KEEPS * before:
        quirks.append("voi-clips")
        return chain.plain
    return chain.values


def _pixel_aspect(dataset: Dataset) -> float:
    """Return the width of a pixel over its height (PS3.3 C.7.6.3.1.7 has the vertical part first)."""
    try:
        vertical, horizontal = (float(value) for value in values(dataset, "PixelAspectRatio"))
    except (TypeError, ValueError):
        return 1.0
    return horizontal / vertical if vertical > 0 and horizontal > 0 else 1.0
