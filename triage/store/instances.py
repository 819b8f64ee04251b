"""Objects as they were sent, each row beside one file of the spool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import Session

from triage.domain.result import ResultState
from triage.domain.study import StudyState
from triage.store.tables import Entry, FilmAssessmentRow, Instance, Result, Study


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


def uids_of_study(session: Session, study_uid: str) -> set[str]:
    """Return the SOP Instance UIDs of everything that a study holds."""
    query = select(Instance.sop_instance_uid).join(Study, Study.id == Instance.study_id)
    return set(session.scalars(query.where(Study.study_uid == study_uid)))


def paths(session: Session) -> dict[str, int]:
    """Return every path of the spool that a row names, with the row's id."""
    query = select(Instance.path, Instance.id).where(Instance.path != "")
    return dict(session.execute(query).tuples().all())


#: A study in one of these states asks nothing more of its files.
_SETTLED = (StudyState.ASSESSED, StudyState.NOT_EVALUATED, StudyState.FAILED)
#: A result in one of these states has reached its destination, or was given up.
_DELIVERED = (ResultState.SENT, ResultState.COMMITTED, ResultState.DEAD)


def done_with(session: Session, before: datetime, limit: int) -> Sequence[Instance]:
    """Return objects received before a moment whose files nothing needs any more, oldest first.

    A settled study whose report is not built yet, or not sent yet, still needs them.
    """
    waits = exists().where(
        Result.study_id == Study.id, Result.state.not_in(_DELIVERED), Result.destination != ""
    )
    reported = exists().where(Result.study_id == Study.id, Result.study_version == Study.version)
    listed = exists().where(Entry.study_id == Study.id)
    query = (
        select(Instance)
        .join(Study, Study.id == Instance.study_id)
        .where(
            Instance.path != "",
            Instance.received_at < before,
            ~waits,
            or_(
                and_(Study.state.in_(_SETTLED), reported),
                and_(Study.state == StudyState.COMPLETE, ~listed),
            ),
        )
        .order_by(Instance.received_at)
        .limit(limit)
    )
    return session.scalars(query).all()
