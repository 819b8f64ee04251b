"""What was refused at the door, for the administrator; bounded, and without patient data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from triage.store.database import announce
from triage.store.tables import Refusal

#: A flood of refused associations must not fill the disk: only the newest are kept.
KEPT = 10_000


def record(
    session: Session, *, now: datetime, sender: str, host: str, channel: str, status: str, sentence: str
) -> None:
    """Keep one refusal; `sentence` says what happened and what to do, and names no patient."""
    row = Refusal(at=now, sender=sender, host=host, channel=channel, status=status, sentence=sentence)
    session.add(row)
    session.flush()
    if row.id % 1000 == 0:
        session.execute(delete(Refusal).where(Refusal.id <= row.id - KEPT))
    announce(session, "list")


def newest(session: Session, limit: int = 100) -> Sequence[Refusal]:
    """Return the newest refusals, newest first."""
    return session.scalars(select(Refusal).order_by(Refusal.id.desc()).limit(limit)).all()
