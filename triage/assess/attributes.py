"""Attributes of a hostile header: read one at a time, and absent when they cannot be read."""

from __future__ import annotations

import math
import struct
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

#: What pydicom raises for values that are not what their representation says.
UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    RecursionError,
    EOFError,
    OSError,
    struct.error,
    BytesLengthException,
    InvalidDicomError,
)


def values(dataset: Dataset, keyword: str) -> tuple[Any, ...]:
    """Return all values of an attribute, an empty tuple when it is absent, empty or unreadable."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        if not isinstance(value, (str, bytes)) and hasattr(value, "__len__"):
            return tuple(value)
    except UNREADABLE:
        return ()
    return (value,)


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value of an attribute as a finite number, or None when it has none."""
    found = values(dataset, keyword)
    try:
        result = float(found[0]) if found else math.nan
    except UNREADABLE:
        return None
    return result if math.isfinite(result) else None


def text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute's first value as upper-case text without padding; "" when it has none."""
    found = values(dataset, keyword)
    try:
        return str(found[0]).strip("\0 ").upper() if found else ""
    except UNREADABLE:
        return ""


def first_item(dataset: Dataset, keyword: str) -> Dataset | None:
    """Return the first item of a sequence, None when there is none."""
    found = values(dataset, keyword)
    return found[0] if found and isinstance(found[0], Dataset) else None
