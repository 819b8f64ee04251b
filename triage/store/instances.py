"""Objects as they were sent, each row beside one file of the spool."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import Table, and_, bindparam, exists, or_, select, update
from sqlalchemy.orm import Session

from triage.domain.result import ResultState
from triage.domain.study import SETTLED, StudyState
from triage.store.prepared import Insert, Prepared
from triage.store.results import NO_REPORT, NOTHING_TO_WRITE
from triage.store.tables import Entry, FilmAssessmentRow, Instance, Result, Study, StudyEvent

_INSTANCE = cast("Table", Instance.__table__)
_CREATE = Insert(_INSTANCE, unique=("sop_instance_uid", "digest"), returning="id")


class Copy(NamedTuple):
    """One of the byte strings that came under a SOP Instance UID."""

    id: int
    study_id: int | None
    study_uid: str
    sop_class_uid: str
    digest: str
    path: str


_COPIES = Prepared(
    lambda _: (
        select(*(_INSTANCE.c[name] for name in Copy._fields))
        .where(_INSTANCE.c.sop_instance_uid == bindparam("uid", type_=_INSTANCE.c.sop_instance_uid.type))
        .order_by(_INSTANCE.c.id)
    )
)


def copies(session: Session, sop_instance_uid: str) -> list[Copy]:
    """Return what is kept under a UID, oldest first."""
    return [Copy(*row) for row in _COPIES.ask(session, {"uid": sop_instance_uid})]


def add(session: Session, row: Mapping[str, Any]) -> int | None:
    """Insert an object and return its id, or None where another process wrote its very bytes down."""
    return cast("int | None", _CREATE.new(session, row))


def mark_conflict(session: Session, ids: Sequence[int], superseded: Sequence[int]) -> None:
    """Mark copies under one UID with different bytes; those that are superseded count no more."""
    table = update(_INSTANCE)
    session.execute(table.where(_INSTANCE.c.id.in_(ids)).values(conflict=True))
    session.execute(table.where(_INSTANCE.c.id.in_(superseded)).values(current=False))


def restore_file(session: Session, instance_id: int, path: str) -> None:
    """Use the file again that came back for an object whose own was purged."""
    session.execute(update(_INSTANCE).where(_INSTANCE.c.id == instance_id).values(path=path, purged_at=None))


def forget_file(session: Session, instance_id: int, now: datetime) -> None:
    """Note that an object has no file any more."""
    session.execute(update(Instance).where(Instance.id == instance_id).values(path="", purged_at=now))


def without_file(session: Session, ids: Collection[int]) -> Sequence[int]:
    """Return which of these objects name no file, and let nobody give them one in this transaction."""
    query = select(Instance.id).where(Instance.id.in_(ids), Instance.path == "")
    return session.scalars(query.with_for_update()).all()


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
    return {row.path: row.id for row in session.execute(query)}


#: A result in one of these states has reached its destination, or was given up.
_DELIVERED = (ResultState.SENT, ResultState.COMMITTED, ResultState.DEAD)


def done_with(session: Session, before: datetime, limit: int) -> Sequence[Instance]:
    """Return objects received before a moment whose files nothing needs any more, oldest first.

    A settled study whose report is not built yet, or not sent yet, still needs them. One that can't have
    a report, or for which none is wanted, needs them no more.
    """
    waits = exists().where(
        Result.study_id == Study.id, Result.state.not_in(_DELIVERED), Result.destination != ""
    )
    reported = exists().where(Result.study_id == Study.id, Result.study_version == Study.version)
    without = exists().where(
        StudyEvent.study_id == Study.id,
        StudyEvent.version == Study.version,
        StudyEvent.step.in_((NO_REPORT, NOTHING_TO_WRITE)),
    )
    listed = exists().where(Entry.study_id == Study.id)
    query = (
        select(Instance)
        .join(Study, Study.id == Instance.study_id)
        .where(
            Instance.path != "",
            Instance.received_at < before,
            ~waits,
            or_(
                and_(Study.state.in_(SETTLED), or_(reported, without)),
                and_(Study.state == StudyState.COMPLETE, ~listed),
            ),
        )
        .order_by(Instance.received_at)
        .limit(limit)
    )
    return session.scalars(query).all()
