"""Pixel data of a sample in the transfer syntaxes that senders use, all without loss."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

Samples = NDArray[np.uint16] | NDArray[np.uint8]

#: Categories of difference (T.81 H.1.2.2) from the most frequent in a film to the rarest, and how many codes
#: there are of each length from 1 bit on: two of 2 bits, two of 3, then one of each length.
_CATEGORIES = (4, 3, 5, 2, 6, 1, 7, 0, 8, 9, 10, 11, 12, 13, 14, 15)
_CODES_OF_LENGTH = (0, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0)


def write_pixels(dataset: FileDataset, samples: Samples, syntax: str) -> None:
    """Put `samples` [rows, columns] into `dataset`, whose Image Pixel module is set, in that syntax."""
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax in _PLUGINS:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(syntax, samples, encoding_plugin=_PLUGINS[syntax], generate_instance_uid=False)
    elif syntax in _ENCODERS:
        dataset.PixelData = encapsulate([_ENCODERS[syntax](samples, dataset.BitsStored)])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        dataset.PixelData = samples.tobytes()
        dataset["PixelData"].VR = (
            "OW" if dataset.BitsAllocated > 8 or syntax == ImplicitVRLittleEndian else "OB"
        )


def jpeg_lossless(samples: Samples, bits: int) -> bytes:
    """Return a lossless JPEG (process 14, first-order prediction: each pixel from its left neighbour).

    Written here because no library at hand writes selection value 1, which the transfer syntax
    1.2.840.10008.1.2.4.70 demands (PS3.5 A.4.2; ITU-T T.81 annex H). At most 15 bits.
    """
    if bits > 15:
        msg = f"Lossless JPEG is written here for at most 15 bits, not {bits}"
        raise ValueError(msg)
    rows, columns = samples.shape
    value = samples.astype(np.int32)
    guess = np.empty_like(value)
    guess[:, 1:] = value[:, :-1]
    guess[1:, 0] = value[:-1, 0]
    guess[0, 0] = 1 << (bits - 1)
    difference = (value - guess).ravel()
    scan = _entropy_coded(difference).replace(b"\xff", b"\xff\x00")
    frame = bytes((bits,)) + rows.to_bytes(2, "big") + columns.to_bytes(2, "big") + b"\x01\x01\x11\x00"
    table = bytes((0, *_CODES_OF_LENGTH, *_CATEGORIES))
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xC3, frame),
            _segment(0xC4, table),
            _segment(0xDA, b"\x01\x01\x00\x01\x00\x00"),
            scan,
            b"\xff\xd9",
        )
    )


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _code_table() -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return code and length of each category, the codes counted up as T.81 C.2 says."""
    code = np.zeros(17, np.uint64)
    length = np.zeros(17, np.int64)
    next_code, place = 0, 0
    for size, count in enumerate(_CODES_OF_LENGTH, start=1):
        for category in _CATEGORIES[place : place + count]:
            code[category], length[category] = next_code, size
            next_code += 1
        place += count
        next_code <<= 1
    return code, length


def _entropy_coded(difference: NDArray[np.int32]) -> bytes:
    """Return category codes and extra bits of all differences, packed, the last byte filled with ones."""
    code, length = _code_table()
    size = np.abs(difference)
    category = np.zeros(size.shape, np.int64)
    for bit in range(16):
        category += size >= (1 << bit)
    extra = np.where(difference < 0, difference + (1 << category) - 1, difference).astype(np.uint64)
    word = (code[category] << category.astype(np.uint64)) | extra
    bits = length[category] + category
    end = np.cumsum(bits)
    start = end - bits
    total = int(end[-1])
    place = start >> 5
    shifted = word << (64 - bits - (start & 31)).astype(np.uint64)
    count = (total >> 5) + 2
    # Bits of different symbols never overlap, so adding is or-ing; 32-bit sums are exact in doubles.
    packed = np.bincount(place, (shifted >> np.uint64(32)).astype(np.float64), count)
    packed += np.bincount(place + 1, (shifted & np.uint64(0xFFFFFFFF)).astype(np.float64), count)
    stream = packed.astype(np.uint64).astype(">u4").tobytes()[: (total + 7) // 8]
    spare = -total % 8
    return stream[:-1] + bytes((stream[-1] | ((1 << spare) - 1),))


def _htj2k(samples: Samples, bits: int) -> bytes:
    if bits != samples.dtype.itemsize * 8:
        msg = f"HTJ2K is written at the full {samples.dtype.itemsize * 8} bits of a sample, not at {bits}"
        raise ValueError(msg)
    return bytes(imagecodecs.htj2k_encode(samples, reversible=True))


#: pydicom's own way, with the plugin that serves it.
_PLUGINS: MappingProxyType[str, str] = MappingProxyType(
    {RLELossless: "pylibjpeg", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
)
_ENCODERS: MappingProxyType[str, Callable[[Samples, int], bytes]] = MappingProxyType(
    {JPEGLosslessSV1: jpeg_lossless, HTJ2KLossless: _htj2k}
)
