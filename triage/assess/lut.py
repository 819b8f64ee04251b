"""From stored words to display values: masks, signs, modality and VOI transformations as one table.

The whole chain up to the VOI stage (PS3.3 C.11.1, C.11.2; PS3.4 N.2) maps a stored word to a number, so
it is computed once for all words instead of for all pixels, and in double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from triage.assess.attributes import UNREADABLE, first_item, number, text

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """How a sample lies in its word: bits of the word, bits stored, highest bit, and sign."""

    word_bits: int
    stored_bits: int
    high_bit: int
    signed: bool
    little_endian: bool = True


@dataclass(frozen=True)
class Transfer:
    """For every possible word: its display value before scaling, and whether it is padding.

    `plain` is the same without the VOI stage, for the case that the VOI LUT turns out to clip the film.
    """

    values: Values
    plain: Values
    padding: npt.NDArray[np.bool_]
    quirks: tuple[str, ...]


def transfer(dataset: Dataset, layout: Layout) -> Transfer:
    """Return the table of the film's words; what is broken in the header is left out and named a quirk."""
    quirks: list[str] = []
    stored = stored_values(layout)
    padding = _padding(dataset, stored, layout)
    modality = _modality(dataset, stored, layout, quirks)
    values = _voi(dataset, modality, layout, quirks)
    return Transfer(values, modality, padding, tuple(quirks))


def stored_values(layout: Layout) -> npt.NDArray[np.int64]:
    """Return the stored value of each word: shifted when High Bit is high, masked, sign extended.

    Bits above High Bit may hold an overlay, and a signed value may come without its sign bits.
    """
    words = np.arange(1 << layout.word_bits, dtype=np.int64)
    shift = max(0, layout.high_bit - layout.stored_bits + 1)
    stored = (words >> shift) & ((1 << layout.stored_bits) - 1)
    if layout.signed:
        sign = 1 << (layout.stored_bits - 1)
        stored = (stored ^ sign) - sign
    return stored


def _padding(dataset: Dataset, stored: npt.NDArray[np.int64], layout: Layout) -> npt.NDArray[np.bool_]:
    """Mark words of the padding range, its ends in either order (PS3.3 C.7.5.1.1.2), before any rescale."""
    first = number(dataset, "PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    last = number(dataset, "PixelPaddingRangeLimit")
    ends = [_as_stored(first, layout), _as_stored(first if last is None else last, layout)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _as_stored(value: float, layout: Layout) -> int:
    """Read a padding value that was written with the other signedness than the pixels have."""
    whole = int(value)
    if layout.signed and whole >= 1 << (layout.stored_bits - 1):
        return whole - (1 << max(layout.stored_bits, 16 if whole >= 1 << layout.stored_bits else 0))
    if not layout.signed and whole < 0:
        return whole + (1 << layout.word_bits)
    return whole


def _modality(dataset: Dataset, stored: npt.NDArray[np.int64], layout: Layout, quirks: list[str]) -> Values:
    """Apply the Modality LUT or Rescale Slope and Intercept; a negative slope turns the film over itself."""
    table = _first_table(dataset, "ModalityLUTSequence", bool((stored < 0).any()), layout.little_endian)
    if isinstance(table, _Table):
        return table.apply(stored.astype(np.float64))
    if table is _BROKEN:
        quirks.append("modality-lut-unusable")
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept") or 0.0
    if slope == 0 or (slope is None and text(dataset, "RescaleSlope")):
        quirks.append("rescale-unusable")
        slope, intercept = 1.0, 0.0
    return np.asarray(stored * (1.0 if slope is None else slope) + intercept, np.float64)


def _voi(dataset: Dataset, modality: Values, layout: Layout, quirks: list[str]) -> Values:
    """Apply what bends the scale (VOI LUT, SIGMOID); leave linear windows to the percentiles.

    Presets are often wrong or clip the lungs, and a linear window changes nothing that scaling by
    percentiles does not set anew. A VOI LUT is preferred to a window (they are alternatives,
    PS3.3 C.11.2.1.1), and of several the first counts.
    """
    table = _first_table(dataset, "VOILUTSequence", bool((modality < 0).any()), layout.little_endian)
    if isinstance(table, _Table):
        if table.entries[-1] < table.entries[0]:
            quirks.append("voi-lut-decreasing")
        return table.apply(modality)
    if table is _BROKEN:
        quirks.append("voi-lut-unusable")
    window = _window(dataset, quirks)
    if window is not None and text(dataset, "VOILUTFunction") == "SIGMOID":
        centre, width = window
        exponent: Values = np.clip(-4 * (modality - centre) / width, -60, 60)
        return np.asarray(1 / (1 + np.exp(exponent)), np.float64)
    return modality


def _window(dataset: Dataset, quirks: list[str]) -> tuple[float, float] | None:
    """Return the first window's centre and width if they are a window."""
    if not (text(dataset, "WindowCenter") or text(dataset, "WindowWidth")):
        return None
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        quirks.append("window-unusable")
        return None
    return centre, width


@dataclass(frozen=True)
class _Table:
    """One lookup table (PS3.3 C.11.1.1, C.11.2.1.1): values below and above its ends take the end entries."""

    first: int
    entries: Values

    def apply(self, values: Values) -> Values:
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index], np.float64)


class _Broken:
    """A table that is there but cannot be read."""


_BROKEN = _Broken()


def _first_table(dataset: Dataset, keyword: str, signed: bool, little: bool) -> _Table | _Broken | None:
    """Return the first usable item's table, None when the sequence is absent or empty."""
    item = first_item(dataset, keyword)
    if item is None:
        return None
    try:
        return read_table(item.LUTDescriptor, item.LUTData, signed, little)
    except UNREADABLE:
        return _BROKEN


def read_table(descriptor: object, data: object, signed: bool, little: bool = True) -> _Table:
    """Return a lookup table from its descriptor (count, first value, bits) and its words or bytes."""
    count, first, bits = (int(value) for value in list(descriptor)[:3])  # type: ignore[call-overload]
    count = (count & 0xFFFF) or 65536
    if signed and first >= 32768:
        first -= 65536
    elif not signed and first < 0:
        first += 65536
    if isinstance(data, (bytes, bytearray)):
        # 8 bit entries may lie one in a byte instead of one in a word
        words = np.frombuffer(
            data, np.uint8 if len(data) < 2 * count and bits <= 8 else "<u2" if little else ">u2"
        )
    else:
        words = np.asarray(data, np.int64) & 0xFFFF
    if len(words) < count or not 1 <= bits <= 16:
        raise ValueError("the table is shorter than its descriptor says")
    return _Table(first, words[:count].astype(np.float64))
