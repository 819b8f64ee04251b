"""Result objects on their way to their destinations: one row for each pair."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from triage.domain.result import RESULT, ResultState, ResultStep
from triage.errors import Conflict
from triage.store.database import announce
from triage.store.tables import Result, Study, StudyEvent

#: The step of a study's history that says why it has no report.
NO_REPORT = "no_report"
#: The step that says that it was looked at, and that no kind which a destination wants is written for it.
NOTHING_TO_WRITE = "nothing_to_write"


def add(
    session: Session,
    *,
    study_id: int,
    study_version: int,
    kind: str,
    sop_class_uid: str,
    sop_instance_uid: str,
    path: str,
    destination: str,
    now: datetime,
) -> Result:
    """Keep a built object for one destination; the same object twice is the same row."""
    query = select(Result).where(
        Result.sop_instance_uid == sop_instance_uid, Result.destination == destination
    )
    row = session.scalars(query).first()
    if row is None:
        row = Result(
            study_id=study_id,
            study_version=study_version,
            kind=kind,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            path=path,
            destination=destination,
            state=ResultState.BUILT,
            created_at=now,
            changed_at=now,
        )
        session.add(row)
        session.flush()
        announce(session, "list")
    return row


def step(
    session: Session, result: Result, event: ResultStep, now: datetime, changes: dict[str, Any] | None = None
) -> None:
    """Take one step on the way to the destination: table and guarded UPDATE.

    Raises:
        IllegalTransition: the table has no such step.
        Conflict: another worker moved the row first.
    """
    before = result.state
    after = RESULT.after(before, event)
    done = session.execute(
        update(Result)
        .where(Result.id == result.id, Result.state == before)
        .values({**(changes or {}), "state": after, "changed_at": now})
        .execution_options(synchronize_session=False)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        msg = "The result was moved by another worker; read it again."
        raise Conflict(msg)
    session.refresh(result)
    announce(session, "list")


def of_study(session: Session, study_id: int) -> Sequence[Result]:
    """Return the results of a study, oldest first."""
    return session.scalars(select(Result).where(Result.study_id == study_id).order_by(Result.id)).all()


def unreported(session: Session, limit: int) -> list[tuple[StudyEvent, str]]:
    """Return why the present versions of studies have no report, with their UIDs, newest first."""
    has_result = exists().where(Result.study_id == Study.id, Result.study_version == Study.version)
    newest = (
        select(func.max(StudyEvent.id))
        .join(Study, Study.id == StudyEvent.study_id)
        .where(
            StudyEvent.step.in_((NO_REPORT, NOTHING_TO_WRITE)),
            StudyEvent.version == Study.version,
            ~has_result,
        )
        .group_by(StudyEvent.study_id)
    )
    query = (
        select(StudyEvent, Study.study_uid)
        .join(Study, Study.id == StudyEvent.study_id)
        .where(StudyEvent.id.in_(newest), StudyEvent.step == NO_REPORT)
        .order_by(StudyEvent.id.desc())
        .limit(limit)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def in_state(session: Session, states: Sequence[ResultState], limit: int = 200) -> Sequence[Result]:
    """Return results in the given states, newest first."""
    query = select(Result).where(Result.state.in_(states)).order_by(Result.id.desc()).limit(limit)
    return session.scalars(query).all()
