"""Text of a data set in whatever character set it claims: always a string, never an error."""

from __future__ import annotations

import unicodedata
import warnings

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

#: Controls, and the marks that reorder the text around them: neither belongs on a page or in a log.
_DROPPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_DEFAULT = "iso8859"


def encodings(specific_character_set: bytes) -> list[str]:
    """Return the Python encodings of Specific Character Set (0008,0005), PS3.3 C.12.1.1.2; never raises."""
    terms = [term.strip() for term in specific_character_set.decode("ascii", "replace").split("\\")]
    terms = [term.strip("\0") for term in terms]
    if not any(terms):
        return [_DEFAULT]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return list(convert_encodings(terms))
        except (LookupError, ValueError):
            return [_DEFAULT]


def decode(value: bytes, names: list[str], *, person: bool = False, limit: int = 1024) -> str:
    """Return a value as clean text of at most `limit` characters.

    A value that its character set can't explain is read as UTF-8 if it is that, else byte by byte: a wrong
    letter in a name is worth less than the film.
    """
    if value.isascii() and b"\x1b" not in value:
        return clean(value.decode("ascii"), limit)
    delimiters = set(PN_DELIMS if person else TEXT_VR_DELIMS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            text = decode_bytes(value, names, delimiters)
        except (LookupError, ValueError, TypeError):
            text = "�"
    if "�" in text or names == [_DEFAULT]:
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            if "�" in text:
                text = value.decode("latin-1")
    return clean(text, limit)


def clean(text: str, limit: int) -> str:
    """Return text without controls, without padding at its ends, and not longer than `limit`."""
    if not text.isprintable():
        text = "".join(c for c in text if unicodedata.category(c) not in _DROPPED)
    return text.strip()[:limit].rstrip()
