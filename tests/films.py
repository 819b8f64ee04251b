"""One synthetic film in any encoding that the standard, or a careless vendor, knows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

DX = "1.2.840.10008.5.1.4.1.1.1.1"
_J = "1.2.840.10008.1.2.4."
#: Transfer syntax and the encoder of its lossless, or nearly lossless, frames.
CODECS: dict[str, tuple[str, Any]] = {
    "jpeg-lossless": (_J + "70", lambda a, n: imagecodecs.ljpeg_encode(a, bitspersample=n)),
    "jpeg-ls": (_J + "80", lambda a, n: imagecodecs.jpegls_encode(a)),
    "jpeg-2000": (
        _J + "90",
        lambda a, n: imagecodecs.jpeg2k_encode(
            a, level=0, reversible=True, codecformat="j2k", bitspersample=n
        ),
    ),
    "htj2k": (_J + "201", lambda a, n: imagecodecs.htj2k_encode(a, reversible=True)),
    "jpeg-xl": (_J + "110", lambda a, n: imagecodecs.jpegxl_encode(a, lossless=True)),
    "deflated-frame": ("1.2.840.10008.1.2.8.1", lambda a, n: _raw_deflate(a.tobytes())),
    "encapsulated": ("1.2.840.10008.1.2.1.98", lambda a, n: a.tobytes()),
    "rle": ("1.2.840.10008.1.2.5", lambda a, n: rle_frame(a)),
}
NATIVE = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
}


def picture(rows: int = 300, columns: int = 260, seed: int = 0) -> np.ndarray:
    """A film-like picture, float64 in 0..1: dark lungs, bright middle, grain, every grey value in use."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    rng = np.random.default_rng(seed)
    lungs = sum(np.exp(-(((x - side) / 0.33) ** 2) - ((y + 0.05) / 0.6) ** 2) for side in (-0.45, 0.45))
    body = np.clip(1.25 - (x**2 + 0.4 * y**2), 0, 1)
    film = 0.15 + 0.75 * body - 0.55 * lungs + 0.1 * np.exp(-((x / 0.12) ** 2)) + 0.12 * y
    film += 0.05 * rng.random((rows, columns))
    return (film - film.min()) / (film.max() - film.min())


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def rle_frame(samples: np.ndarray) -> bytes:
    """Return an RLE frame (PS3.5 annex G) of words [rows, columns]."""
    planes = [(samples >> (8 * byte)).astype(np.uint8) for byte in reversed(range(samples.itemsize))]
    segments = []
    for plane in planes:
        data = b"".join(imagecodecs.packbits_encode(row.tobytes()) for row in plane)
        segments.append(data + b"\0" * (len(data) % 2))
    offsets = np.zeros(16, "<u4")
    offsets[0] = len(segments)
    position = 64
    for index, segment in enumerate(segments, 1):
        offsets[index] = position
        position += len(segment)
    return offsets.tobytes() + b"".join(segments)


@dataclass
class Encoding:
    """How the film is written; the defaults are a plain DX."""

    bits: int = 12
    photometric: str = "MONOCHROME2"
    shape: str | None = "IDENTITY"
    signed: bool = False
    sign_extended: bool = True
    high: bool = False
    allocated: int = 16
    syntax: str = "explicit"
    #: none, slope, negative, lut
    modality: str = "none"
    #: none, linear, exact, sigmoid, lut, falling, broken, several
    voi: str = "none"
    overlay_bits: bool = False
    orientation: str = "L\\F"
    surplus: int = 0


def encode(film: np.ndarray, how: Encoding) -> FileDataset:
    """Return a dataset that shows `film` to a right pixel chain."""
    maximum = (1 << how.bits) - 1
    inverted = how.photometric == "MONOCHROME1"
    ds = header(film.shape, how)
    shown = 1 - film if inverted else film
    values = _before_voi(ds, shown, how, maximum)
    stored = _before_modality(ds, values, how, maximum)
    _pixels(ds, _oriented(stored, how), how)
    return ds


def header(shape: tuple[int, ...], how: Encoding) -> FileDataset:
    meta = FileMetaDataset()
    syntax = NATIVE.get(how.syntax) or CODECS[how.syntax][0]
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = DX
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = DX, "1.2.826.0.1.3680043.8.498.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
    ds.Modality, ds.BodyPartExamined, ds.ViewPosition = "DX", "CHEST", "PA"
    ds.PatientName, ds.PatientID = "SYNTHETIC^FILM", "SYN-1"
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, how.photometric
    if how.shape:
        ds.PresentationLUTShape = how.shape
    ds.PatientOrientation = how.orientation
    return ds


def _before_voi(ds: Dataset, shown: np.ndarray, how: Encoding, maximum: int) -> np.ndarray:
    """Write the VOI stage and return the values (0..maximum) that it turns into `shown`."""
    plain = shown * maximum
    centre, width = maximum / 2 + 0.5, maximum + 1.0
    if how.voi in ("linear", "exact", "several", "broken"):
        ds.WindowCenter, ds.WindowWidth = centre, width
        if how.voi == "exact":
            ds.VOILUTFunction = "LINEAR_EXACT"
        if how.voi == "several":
            ds.WindowCenter, ds.WindowWidth = [centre, 20.0], [width, 10.0]
        if how.voi == "broken":
            ds.WindowCenter, ds.WindowWidth = 32768, 0
    elif how.voi == "sigmoid":
        ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = maximum / 2, maximum, "SIGMOID"
        inner = np.clip(shown * 0.76 + 0.12, 1e-6, 1 - 1e-6)
        plain = maximum / 2 - maximum / 4 * np.log(1 / inner - 1)
    elif how.voi in ("lut", "falling"):
        x = np.arange(maximum + 1) / maximum
        entries = np.rint(65535 * x**1.5)
        plain = maximum * shown ** (1 / 1.5)
        if how.voi == "falling":
            entries, plain = entries[::-1], maximum - plain
        ds.VOILUTSequence = [lut_item(entries, how)]
    return plain


def lut_item(entries: np.ndarray, how: Encoding, first: int = 0) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, 16]
    item["LUTDescriptor"].VR = "SS" if first < 0 and len(entries) < 65536 else "US"
    if first < 0 and len(entries) == 65536:
        item.LUTDescriptor[1] = first + 65536
    item.LUTData = entries.astype(">u2" if how.syntax == "big-endian" else "<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def _before_modality(ds: Dataset, values: np.ndarray, how: Encoding, maximum: int) -> np.ndarray:
    """Write the modality stage and return the stored values 0..maximum (or signed) behind `values`."""
    offset = (maximum + 1) // 2 if how.signed else 0
    if how.modality == "slope" or (how.signed and how.modality == "none"):
        ds.RescaleSlope, ds.RescaleIntercept = 1, offset
    elif how.modality == "negative":
        ds.RescaleSlope, ds.RescaleIntercept = -1, maximum - offset
        values = maximum - values
    elif how.modality == "lut":
        x = np.arange(maximum + 1) / maximum
        ds.ModalityLUTSequence = [lut_item(np.rint(maximum * x**0.8), how, first=-offset)]
        ds.ModalityLUTSequence[0].ModalityLUTType = "US"
        values = maximum * (values / maximum) ** (1 / 0.8)
    return np.rint(np.clip(values, 0, maximum)).astype(np.int64) - offset


def _oriented(stored: np.ndarray, how: Encoding) -> np.ndarray:
    row, column = how.orientation.split("\\")
    if row == "R":
        stored = stored[:, ::-1]
    return stored[::-1] if column == "H" else stored


def _pixels(ds: Dataset, stored: np.ndarray, how: Encoding) -> None:
    ds.BitsStored, ds.HighBit, ds.BitsAllocated = how.bits, how.bits - 1, how.allocated
    ds.PixelRepresentation = int(how.signed)
    dtype = np.dtype(f"u{how.allocated // 8}")
    mask = (1 << (how.allocated if how.signed and how.sign_extended else how.bits)) - 1
    words = (stored & mask).astype(dtype)
    if how.high:
        ds.HighBit = how.allocated - 1
        words = ((stored & ((1 << how.bits) - 1)) << (how.allocated - how.bits)).astype(dtype)
    if how.overlay_bits and not how.signed and not how.high and how.bits < how.allocated:
        words |= dtype.type(1 << (how.allocated - 1))
    if how.syntax in CODECS:
        frame = CODECS[how.syntax][1](words, how.bits)
        ds.PixelData = encapsulate([frame])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        return
    order = ">" if how.syntax == "big-endian" else "<"
    data = words.astype(dtype.newbyteorder(order)).tobytes() + b"\0" * how.surplus
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if how.allocated == 8 else "OW"


def file_bytes(ds: FileDataset) -> bytes:
    """Return the object as a Part 10 file, whatever its transfer syntax."""
    config.settings.writing_validation_mode = config.IGNORE
    syntax = str(ds.file_meta.TransferSyntaxUID)
    body = DicomBytesIO()
    body.is_little_endian = syntax != ExplicitVRBigEndian
    body.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(body, Dataset(ds))
    data = body.getvalue()
    if syntax == DeflatedExplicitVRLittleEndian:
        data = _raw_deflate(data)
    return b"\0" * 128 + b"DICM" + _meta(ds, syntax) + data


def _meta(ds: FileDataset, syntax: str) -> bytes:
    """Return the File Meta Information (PS3.10 7.1), also for syntaxes that pydicom refuses to write."""
    values = [(2, DX), (3, str(ds.SOPInstanceUID)), (0x10, syntax), (0x12, "1.2.826.0.1.3680043.8.498.9")]
    elements = b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01"
    for element, text in values:
        value = _even(text)
        elements += b"\x02\0" + bytes([element, 0]) + b"UI" + len(value).to_bytes(2, "little") + value
    return b"\x02\0\0\0UL\x04\0" + len(elements).to_bytes(4, "little") + elements


def _even(text: str) -> bytes:
    data = text.encode()
    return data + b"\0" * (len(data) % 2)
