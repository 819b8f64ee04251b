"""Colour objects that are grey films all the same: secondary captures, digitised and exported ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from triage.assess.attributes import UNREADABLE
from triage.assess.errors import PixelError
from triage.assess.film import Words
from triage.assess.lut import Layout, read_table, stored_values
from triage.domain.finding import NotEvaluated

#: Channels that differ by more than this (of 255) are colour; a lossy codec moves equal ones by less.
_COLOUR = 16
#: So many coloured pixels are an annotation on a grey film; more are a colour picture.
_COLOURED_SHARE = 0.02


def grey_of_samples(samples: npt.NDArray[np.unsignedinteger], ybr: bool = False) -> Words:
    """Return the grey words of [H, W, 3] samples of 8 or 16 bits; raise PixelError when in colour."""
    pixels = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    scale = 1 << (8 * (pixels.itemsize - 1))
    if ybr:
        middle = 128 * scale
        distance = np.maximum(
            np.abs(pixels[..., 1].astype(np.int32) - middle), np.abs(pixels[..., 2].astype(np.int32) - middle)
        )
        grey = pixels[..., 0]
    else:
        distance = pixels.max(axis=-1) - pixels.min(axis=-1)
        grey = pixels[..., 1]
    if np.count_nonzero(distance > _COLOUR * scale) > _COLOURED_SHARE * distance.size:
        raise PixelError(NotEvaluated.NOT_CR_DX, "The picture is in colour, so it is no radiograph.")
    grey = np.ascontiguousarray(grey)
    return grey if grey.itemsize <= 2 else (grey >> 16).astype(np.uint16)


def luminance_of_422(flat: npt.NDArray[np.unsignedinteger], rows: int, columns: int) -> Words:
    """Return the luminance of native YBR_FULL_422: Y Y Cb Cr for each two pixels (PS3.3 C.7.6.3.1.2)."""
    if columns % 2:
        raise PixelError(NotEvaluated.BAD_GEOMETRY, "Subsampled colour needs an even number of columns.")
    groups = flat.reshape(rows, columns // 2, 4)
    samples = np.empty((rows, columns, 3), flat.dtype)
    samples[..., 0] = groups[..., :2].reshape(rows, columns)
    samples[..., 1] = np.repeat(groups[..., 2], 2, axis=1)
    samples[..., 2] = np.repeat(groups[..., 3], 2, axis=1)
    return grey_of_samples(samples, ybr=True)


def grey_of_palette(dataset: Dataset, layout: Layout, words: Words, little: bool) -> npt.NDArray[np.float64]:
    """Return the value of each word through a palette whose colours are greys (PS3.3 C.7.9.1)."""
    channels = []
    index = stored_values(layout).astype(np.float64)
    for colour in ("Red", "Green", "Blue"):
        try:
            descriptor = dataset[f"{colour}PaletteColorLookupTableDescriptor"].value
            data = dataset[f"{colour}PaletteColorLookupTableData"].value
            channels.append(read_table(descriptor, data, layout.signed, little).apply(index))
        except UNREADABLE as error:
            raise PixelError(NotEvaluated.UNDECODABLE, "The colour palette is missing or broken.") from error
    used = np.unique(words)
    greys = np.stack(channels)[:, used]
    scale = 255.0 if greys.max() < 256 else 65535.0
    if (np.ptp(greys, axis=0) > _COLOUR / 255 * scale).any():
        raise PixelError(
            NotEvaluated.NOT_CR_DX, "The palette holds colours, so the picture is no radiograph."
        )
    return channels[1]
