"""What we offer to receive: every storage class, in every transfer syntax that can be decoded here."""

from __future__ import annotations

from functools import lru_cache

from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext, build_context

from triage.receive.parse import is_uid

VERIFICATION = "1.2.840.10008.1.1"
#: Modality Performed Procedure Step, and Instance Availability Notification (PS3.4 F.7 and R.3).
MPPS = "1.2.840.10008.3.1.2.3.3"
IAN = "1.2.840.10008.5.1.4.33"
_SERVICES = frozenset({VERIFICATION, MPPS, IAN})
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_DICOM_ROOT = "1.2.840.10008."

_NATIVE_FIRST = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
)
_LOSSLESS = (
    "1.2.840.10008.1.2.4.70",  # JPEG lossless, selection value 1
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL, recompressed JPEG
    "1.2.840.10008.1.2.1.99",  # Deflated
    "1.2.840.10008.1.2.8.1",  # Deflated frames
    "1.2.840.10008.1.2.1.98",  # Encapsulated uncompressed
)
_LOSSY = (
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bits
    "1.2.840.10008.1.2.4.112",  # JPEG XL
)
_BIG_ENDIAN = ("1.2.840.10008.1.2.2",)
#: MPEG-2, MPEG-4 and HEVC: kept for whoever sends them along, never decoded.
_VIDEO = tuple(f"1.2.840.10008.1.2.4.{tail}" for tail in range(100, 109))

#: The acceptor's order decides which of the proposed syntaxes is used (PS3.8 9.3.3): what is surely and
#: cheaply decoded comes first.
TRANSFER_SYNTAXES = (*_NATIVE_FIRST, *_LOSSLESS, *_LOSSY, *_BIG_ENDIAN, *_VIDEO)


#: Storage classes that pynetdicom knows, and so can serve on the ordinary path.
_KNOWN = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def is_kept(abstract_syntax: str, *, unknown_too: bool) -> bool:
    """Return whether objects of a class are taken: every storage class, and with `unknown_too` private ones.

    An auto-route must not fail as a whole for one object that nobody here has heard of.
    """
    if abstract_syntax in _SERVICES or abstract_syntax in _KNOWN:
        return True
    if not unknown_too or not is_uid(abstract_syntax):
        return False
    return abstract_syntax.startswith(_STORAGE_ROOT) or not abstract_syntax.startswith(_DICOM_ROOT)


@lru_cache(maxsize=512)
def offer(abstract_syntax: str) -> PresentationContext:
    """Return what we offer for one class; shared, never to be changed."""
    if abstract_syntax in _SERVICES:
        return build_context(abstract_syntax)
    return build_context(abstract_syntax, list(TRANSFER_SYNTAXES))


#: An association has room for so many presentation contexts (PS3.8 9.3.2.2: odd numbers below 256).
MAX_REQUESTED = 128
#: What a chest study holds comes first: classes beyond the room of one association are not fetched.
_USUAL = tuple(
    _STORAGE_ROOT + tail for tail in ("1", "1.1", "1.1.1", "7", "88.11", "88.22", "88.33", "88.34", "88.59")
)


def requested_storage(count: int) -> list[str]:
    """Return the storage classes that we ask an archive for, at most `count`."""
    return [*_USUAL, *sorted(_KNOWN - set(_USUAL))][:count]
