"""The one preparation that training and serving share: a film becomes the network's input.

The whole film is reduced to a square by the exact area mean, its histogram is equalised, and the grey
values are centred. Equalisation makes every monotone change of grey (window, look-up table, gamma, bit
depth, exposure) disappear, so that neither a header's window nor a publisher's habits tell the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

#: What model.toml names; a model trained on another preparation is refused.
PREPARATION = "equalised/1"

#: Edge to which a whole film is reduced first. Learning keeps films so, and the service goes the same way:
#: straight to the network's edge it would show sharper films than those that were learnt from.
KEPT = 224

#: Share of the film, on each side, whose grey values do not shape the histogram: letters, collimation.
_MARGIN = 0.1
_BINS = 2048

Picture = npt.NDArray[np.float32]


def reduce(picture: Picture, size: int) -> Picture:
    """Return the film stretched to size x size by the exact area mean (no padding, no crop)."""
    height, width = picture.shape
    if height < size or width < size:
        # Too few pixels for a mean: enlarge smoothly first along the short side.
        enlarged = cv2.resize(picture, (max(width, size), max(height, size)), interpolation=cv2.INTER_LINEAR)
        picture = np.ascontiguousarray(enlarged)
        height, width = picture.shape
    narrow = cv2.resize(picture, (size, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(narrow, (size, size), interpolation=cv2.INTER_AREA), dtype=np.float32)


def equalise(picture: Picture) -> Picture:
    """Return the picture with grey values replaced by their rank (0..1) among the film's inner 80 %.

    Ties get the middle of their ranks and values between bins are interpolated; a constant picture
    becomes 0.5 throughout.
    """
    height, width = picture.shape
    rows, columns = int(height * _MARGIN), int(width * _MARGIN)
    inner = picture[rows : height - rows, columns : width - columns]
    low, high = float(picture.min()), float(picture.max())
    if not high > low:
        return np.full_like(picture, 0.5)
    scale = (_BINS - 1) / (high - low)
    counts = np.bincount(((inner - low) * scale + 0.5).astype(np.int32).ravel(), minlength=_BINS)
    total = np.cumsum(counts)
    ranks = (total - 0.5 * counts) / total[-1]
    position = (picture - low) * scale
    return np.interp(position, np.arange(_BINS), ranks).astype(np.float32)


def centre(picture: Picture) -> Picture:
    """Return ranks 0..1 with mean about 0 and deviation about 1."""
    return (picture - np.float32(0.5)) * np.float32(np.sqrt(12.0))


def ranks(prepared: Picture) -> Picture:
    """Return the ranks 0..1 that `centre` was given."""
    return prepared / np.float32(np.sqrt(12.0)) + np.float32(0.5)


def prepare(picture: Picture, size: int) -> Picture:
    """Return the network's input, float32 [1, size, size], for a film of grey values with 0 = black.

    The film may have any shape and any grey range; only the order of its grey values counts.
    """
    if not np.isfinite(picture).all():
        picture = np.nan_to_num(picture, nan=0.0, posinf=1.0, neginf=0.0)
    return centre(equalise(reduce(picture, size)))[None]


@dataclass(frozen=True)
class Prepare:
    """`prepare` for one size, as the last transform of a chain such as MONAI's `Compose`.

    Training and serving both end with it. It takes a film [H, W] or [1, H, W] and has no state.
    """

    size: int

    def __call__(self, film: npt.ArrayLike) -> Picture:
        """Return float32 [1, size, size]."""
        picture = np.ascontiguousarray(film, np.float32)
        return prepare(picture[0] if picture.ndim == 3 else picture, self.size)
