"""Column types that keep the domain's values exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import BigInteger, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

E = TypeVar("E", bound=StrEnum)


def to_micros(moment: datetime) -> int:
    """Return microseconds since 1970 UTC, exactly; raises ValueError for a naive time."""
    if moment.tzinfo is None:
        msg = "A time without a zone can't be stored."
        raise ValueError(msg)
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the aware UTC time of a count of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=micros)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time kept as whole microseconds, so that order and arithmetic are exact everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive times at the door."""
        return None if value is None else to_micros(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        return None if value is None else from_micros(int(value))


class EnumText(TypeDecorator[E]):
    """A StrEnum kept as its value; an unknown text in the database raises ValueError when read."""

    impl = String
    cache_ok = True

    def __init__(self, enum: type[E]) -> None:
        """Keep members of `enum`."""
        super().__init__(40)
        self.enum = enum

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        """Store the value of a member."""
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> E | None:
        """Return the member."""
        return None if value is None else self.enum(value)


def random_uid() -> str:
    """Return a new UID, `2.25.<decimal of a UUIDv4>` (PS3.5 B.2)."""
    return f"2.25.{uuid4().int}"
