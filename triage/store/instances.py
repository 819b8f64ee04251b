"""Objects as they were sent, each row beside one file of the spool."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from triage.store.tables import FilmAssessmentRow, Instance


def same_bytes(session: Session, sop_instance_uid: str, digest: str) -> Instance | None:
    """Return the row of the very same object, if it was received before."""
    query = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid, Instance.digest == digest)
    return session.scalars(query).first()


def with_uid(session: Session, sop_instance_uid: str) -> Sequence[Instance]:
    """Return every copy that came under one SOP Instance UID, oldest first."""
    query = select(Instance).where(Instance.sop_instance_uid == sop_instance_uid).order_by(Instance.id)
    return session.scalars(query).all()


def of_study(session: Session, study_id: int, *, current_only: bool = True) -> Sequence[Instance]:
    """Return the objects of a study in order of arrival."""
    query = select(Instance).where(Instance.study_id == study_id).order_by(Instance.id)
    if current_only:
        query = query.where(Instance.current)
    return session.scalars(query).all()


def films_pending(session: Session, study_id: int) -> int:
    """Return how many films of a study the model has still to judge."""
    query = (
        select(Instance.id)
        .outerjoin(FilmAssessmentRow, FilmAssessmentRow.instance_id == Instance.id)
        .where(
            Instance.study_id == study_id,
            Instance.current,
            Instance.unjudged.is_(None),
            FilmAssessmentRow.id.is_(None),
        )
    )
    return len(session.scalars(query).all())


def quarantined(session: Session, limit: int = 100) -> Sequence[Instance]:
    """Return the newest objects that were kept apart, newest first."""
    query = select(Instance).where(Instance.quarantine != "").order_by(Instance.id.desc()).limit(limit)
    return session.scalars(query).all()


def paths(session: Session) -> dict[str, int]:
    """Return every path of the spool that a row names, with the row's id."""
    query = select(Instance.path, Instance.id).where(Instance.path != "")
    return {path: number for path, number in session.execute(query)}
