"""Studies: found or made when an image arrives, moved through the pipeline by guarded steps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from triage.domain.header import Header
from triage.domain.priority import urgency_of_word
from triage.domain.study import STUDY, CompletedBy, StudyState, StudyStep
from triage.errors import Conflict, UnknownStudy
from triage.store.database import announce
from triage.store.tables import Study, StudyEvent


def by_uid(session: Session, study_uid: str) -> Study:
    """Return the study, or raise `UnknownStudy`."""
    study = find(session, study_uid)
    if study is None:
        msg = "No such study is known here; look it up in GET /api/v1/worklist?status=all."
        raise UnknownStudy(msg)
    return study


def find(session: Session, study_uid: str) -> Study | None:
    """Return the study or None."""
    return session.scalars(select(Study).where(Study.study_uid == study_uid)).first()


def create(session: Session, header: Header, *, sender: str, now: datetime) -> Study:
    """Make a study from its first acknowledged image; its arrival never changes afterwards."""
    study = Study(
        study_uid=header.study_uid,
        patient_id=header.patient_id,
        patient_id_issuer=header.patient_id_issuer,
        patient_name=header.patient_name,
        patient_birth_date=header.patient_birth_date,
        patient_sex=header.patient_sex,
        accession_number=header.accession_number,
        study_date=header.study_date,
        study_time=header.study_time,
        description=header.study_description,
        institution_name=header.institution_name,
        object_urgency=urgency_of_word(header.requested_priority),
        state=StudyState.RECEIVING,
        version=1,
        sender=sender,
        arrived_at=now,
        last_instance_at=now,
    )
    session.add(study)
    session.flush()
    _record(session, study, "arrive", "", StudyState.RECEIVING, now, "first image")
    return study


def step(
    session: Session,
    study: Study,
    event: StudyStep,
    now: datetime,
    *,
    cause: str = "",
    sentence: str = "",
    completed_by: CompletedBy | None = None,
) -> None:
    """Take one step of the pipeline: guarded UPDATE and event row, or raise.

    Raises:
        IllegalTransition: the table has no such step from the state that was read.
        Conflict: another transaction moved the study since it was read.
    """
    before = study.state
    after = STUDY.after(before, event)
    values: dict[str, Any] = {"state": after, "state_sentence": sentence}
    if event is StudyStep.COMPLETE:
        values |= {"completed_by": completed_by, "completed_at": now}
    if event is StudyStep.REOPEN:
        values |= {"version": Study.version + 1, "completed_by": None, "completed_at": None}
    done = session.execute(
        update(Study)
        .where(Study.id == study.id, Study.state == before, Study.version == study.version)
        .values(values)
        .execution_options(synchronize_session=False)
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        msg = "The study changed meanwhile; read it again."
        raise Conflict(msg)
    session.refresh(study)
    _record(session, study, event.value, before.value, after, now, cause)
    announce(session, "list")


def _record(
    session: Session, study: Study, step_name: str, before: str, after: StudyState, now: datetime, cause: str
) -> None:
    session.add(
        StudyEvent(
            study_id=study.id,
            at=now,
            step=step_name,
            before=before,
            after=after.value,
            version=study.version,
            cause=cause,
        )
    )


def receiving(session: Session) -> Sequence[Study]:
    """Return the studies whose images still come, oldest last image first."""
    query = select(Study).where(Study.state == StudyState.RECEIVING).order_by(Study.last_instance_at)
    return session.scalars(query).all()


def events(session: Session, study_id: int) -> Sequence[StudyEvent]:
    """Return every step that a study took, oldest first."""
    query = select(StudyEvent).where(StudyEvent.study_id == study_id).order_by(StudyEvent.id)
    return session.scalars(query).all()
