"""Facts of this installation: secrets made once, since when its history is whole, and who holds a lease."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from triage.store.tables import Installation
from triage.store.types import from_micros, to_micros

#: By how much the clocks of two processes may differ.
_SLACK = timedelta(minutes=1)


def _once(session: Session, name: str, made: str) -> str:
    row = session.get(Installation, name)
    if row is None:
        row = Installation(name=name, value=made)
        session.add(row)
        session.flush()
    return row.value


def uid_namespace(session: Session) -> uuid.UUID:
    """Return the namespace of every UID that this installation derives; made on first use.

    Without it two hospitals that hold the same study would mint the same instance UID.
    """
    return uuid.UUID(_once(session, "uid_namespace", str(uuid.uuid4())))


def secret_key(session: Session) -> str:
    """Return the key that makes pseudonyms of patients in exported feedback; made on first use."""
    return _once(session, "secret_key", secrets.token_hex(32))


def history_start(session: Session) -> datetime | None:
    """Return since when the history of the list is whole; None when nothing of it was ever forgotten."""
    row = session.get(Installation, "history_start")
    return from_micros(int(row.value)) if row is not None else None


def set_history_start(session: Session, start: datetime) -> None:
    """Note that the history before `start` is no longer whole."""
    session.merge(Installation(name="history_start", value=str(to_micros(start))))


def take_lease(session: Session, name: str, holder: str, now: datetime, length: timedelta) -> bool:
    """Return whether `holder` may do what only one process does at a time, for `length` from now on.

    A lease that ends later than one that is taken now is of a clock that has gone back since: it is free.
    """
    row = session.get(Installation, f"lease_{name}")
    until = str(to_micros(now + length))
    if row is None:
        session.add(Installation(name=f"lease_{name}", value=f"{holder} {until}"))
        session.flush()
        return True
    owner, _, end = row.value.partition(" ")
    if owner != holder and to_micros(now) < int(end) <= to_micros(now + length + _SLACK):
        return False
    row.value = f"{holder} {until}"
    session.flush()
    return True
