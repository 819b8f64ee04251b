"""A film as the model sees it: stored words, one table to display values, and its exact reduction."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from triage.assess.errors import PixelError
from triage.assess.prepare import Picture, reduce
from triage.domain.finding import NotEvaluated

Words = npt.NDArray[np.unsignedinteger[Any]]

#: The share of unmasked pixels below black and above white, in percent.
PERCENTILES = (0.5, 99.5)
#: A film of which this share is one single value shows nothing.
BLANK_SHARE = 0.97
#: Percentiles and blankness are taken from a grid of about this many pixels, always the same for one size.
_SAMPLE = 250_000
#: How the constant border is looked for: grid, deviation of a grey, share of a line, share of a side to keep.
_GRID, _FLAT, _FLAT_SHARE, _KEEP = 256, 0.02, 0.995, 0.8
#: Rows converted at a time: a strip of floats stays in the cache.
_STRIP_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """Display values that rise (or, inverted, fall) in a straight line from word `first` to word `last`."""

    first: int
    last: int
    inverted: bool

    def values(self, clipped: Picture) -> Picture:
        """Return the display values of words, or of means of words, already clipped to first..last."""
        values = (clipped - np.float32(self.first)) * np.float32(1 / (self.last - self.first))
        return np.float32(1) - values if self.inverted else values


@dataclass(frozen=True)
class Film:
    """One decoded film: `words` [H, W] and, for each possible word, its value 0 (black) .. 1 (white).

    Padding, modality and VOI transformations, scaling and polarity are all in the table; nothing is
    computed for a pixel before it is needed. `quirks` names what the header had wrong.
    """

    words: Words
    table: Picture
    quirks: tuple[str, ...] = ()
    #: Width over height of one pixel; says how to show the film, never how to judge it (the model's
    #: films were all stretched to the square).
    pixel_aspect: float = 1.0
    #: Rows and columns of the picture proper, where a broad border of one grey value surrounds it.
    field: tuple[slice, slice] = (slice(None), slice(None))
    _line: Line | None = dataclasses.field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.words.shape[0]), int(self.words.shape[1])

    @cached_property
    def picture(self) -> Picture:
        """The whole film as float32 [H, W], 0 = black, 1 = white as a viewer would show it."""
        picture = self.table[self.words]
        picture.flags.writeable = False
        return picture

    def reduced(self, size: int) -> Picture:
        """Return the film stretched to float32 [size, size]: the exact mean over each target area.

        The same as reducing `picture` without ever holding it: rows are converted in strips that fit the
        cache and summed downwards at once, then all together across. A film that is smaller than the
        target is enlarged instead. A broad constant border (padding, collimation) is left out.
        """
        words = self.words[self.field]
        rows, columns = words.shape
        if rows < size or columns < size:
            return reduce(np.asarray(self.table[words]), size)
        flat = np.empty((size, columns), np.float32)
        edges = [rows * index / size for index in range(size + 1)]
        group = max(1, round(_STRIP_BYTES / (4 * columns) / (rows / size)))
        for first in range(0, size, group):
            last = min(size, first + group)
            top, bottom = int(edges[first]), min(rows, math.ceil(edges[last]))
            strip = self._summable(words[top:bottom])
            for index in range(first, last):
                _weighted_sum(strip, edges[index] - top, edges[index + 1] - top, out=flat[index])
        across = cv2.resize(flat, (size, size), interpolation=cv2.INTER_AREA)
        means = np.asarray(across, np.float32) * np.float32(size / rows)
        return means if self._line is None else self._line.values(means)

    def shown(self, drawn: npt.NDArray[Any], longest: int) -> npt.NDArray[Any]:
        """Return what was drawn of the film with square pixels, at most `longest` of them on a side.

        A picture is never larger than its film.
        """
        rows, columns = self.shape
        width, height = columns * max(self.pixel_aspect, 1e-3), float(rows)
        scale = min(1.0, longest / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)

    def turned(self, quarters: int) -> Film:
        """Return the film turned against the clock by quarters of a circle, without its broad border."""
        words = np.ascontiguousarray(np.rot90(self.words[self.field], quarters))
        return dataclasses.replace(
            self, words=words, quirks=(*self.quirks, "turned"), field=(slice(None), slice(None))
        )

    def _summable(self, words: Words) -> Picture:
        """Return floats whose means give the means of the display values."""
        if self._line is None:
            # mode="clip" spares a buffer; no word lies beyond the table
            return np.take(self.table, words, mode="clip")
        return np.clip(words, words.dtype.type(self._line.first), words.dtype.type(self._line.last)).astype(
            np.float32
        )


def _weighted_sum(strip: Picture, low: float, high: float, out: Picture) -> None:
    """Write the sum of rows low..high of a strip to `out`, its first and last row by the part that counts."""
    whole_low, whole_high = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    np.add.reduce(strip[whole_low:whole_high], axis=0, out=out)
    if whole_low - low > 1e-9:
        out += strip[whole_low - 1] * np.float32(whole_low - low)
    if high - whole_high > 1e-9:
        out += strip[whole_high] * np.float32(high - whole_high)


def sample_counts(words: Words, size: int) -> npt.NDArray[np.int64]:
    """Return how often each word occurs on a regular grid over the film."""
    step = max(1, int((words.size / _SAMPLE) ** 0.5))
    return np.bincount(words[step // 2 :: step, step // 2 :: step].ravel(), minlength=size)


def scaled_table(
    values: npt.NDArray[np.float64],
    padding: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int64],
    inverted: bool,
) -> Picture:
    """Return the table word -> 0..1: percentiles of the unmasked pixels to black and white, padding black.

    Raises PixelError (clipped-exposure) when the unmasked pixels hold one value only.
    """
    seen = np.flatnonzero((counts > 0) & ~padding)
    total = counts[seen].sum()
    if total == 0:
        raise PixelError(NotEvaluated.CLIPPED_EXPOSURE, "The film is blank: all of it is padding.")
    order = seen[np.argsort(values[seen], kind="stable")]
    ranked, heights = values[order], counts[order]
    steps = np.flatnonzero(np.diff(ranked)) + 1
    largest = np.add.reduceat(heights, np.concatenate(([0], steps))).max()
    if largest >= BLANK_SHARE * total:
        raise PixelError(
            NotEvaluated.CLIPPED_EXPOSURE, "The film is blank: nearly all of it is one grey value."
        )
    cumulated = np.cumsum(heights)
    low, high = (ranked[np.searchsorted(cumulated, share / 100 * total)] for share in PERCENTILES)
    if not high > low:
        low, high = ranked[0], ranked[-1]
    table = np.clip((values - low) / (high - low), 0.0, 1.0)
    if inverted:
        table = 1.0 - table
    table[padding] = 0.0
    return np.asarray(table, np.float32)


def find_field(words: Words, table: Picture) -> tuple[slice, slice]:
    """Return the rows and columns inside a constant border that takes more than a fifth of a side.

    Narrow borders stay: the films that the model has seen have them too. Judged on a coarse grid, and
    widened by one step of it, so that no row of the film is lost.
    """
    step = max(1, min(words.shape) // _GRID)
    coarse = table[words[::step, ::step]]
    bounds = []
    for lines in (coarse, coarse.T):
        flat = np.abs(lines - np.median(lines, axis=1, keepdims=True)) < _FLAT
        busy = np.flatnonzero(flat.mean(axis=1) < _FLAT_SHARE)
        if len(busy) == 0:
            return slice(None), slice(None)
        first, last = max(0, int(busy[0]) - 1), min(len(lines), int(busy[-1]) + 2)
        bounds.append((first, last, len(lines)))
    if all(last - first > _KEEP * length for first, last, length in bounds):
        return slice(None), slice(None)
    top, left = bounds[0][0] * step, bounds[1][0] * step
    return slice(top, bounds[0][1] * step), slice(left, bounds[1][1] * step)


def line_through(table: Picture) -> Line | None:
    """Return the straight line between two words that the table is, clipped at both; else None."""
    inner = np.flatnonzero((table > 0) & (table < 1))
    if len(inner) < 2 or inner[0] == 0 or inner[-1] == len(table) - 1:
        return None
    line = Line(int(inner[0]) - 1, int(inner[-1]) + 1, bool(table[inner[0]] > table[inner[-1]]))
    clipped = np.clip(np.arange(len(table), dtype=np.float32), line.first, line.last)
    return line if np.abs(line.values(clipped) - table).max() < 1e-6 else None
