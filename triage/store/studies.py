"""Studies: found or made when an image arrives, moved through the pipeline by guarded steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.orm import Session

from triage.domain.header import Header
from triage.domain.priority import Urgency, urgency_of_word
from triage.domain.study import STUDY, CompletedBy, StudyState, StudyStep
from triage.errors import Conflict, UnknownStudy
from triage.store.database import announce
from triage.store.tables import Study, StudyEvent
from triage.store.upsert import insert_new


@dataclass(frozen=True, slots=True)
class Head:
    """Whose a study is and how far it is: what a received object is weighed against."""

    id: int
    study_uid: str
    patient_id: str
    patient_id_issuer: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    description: str
    object_urgency: Urgency
    state: StudyState
    version: int


# Written once: the intake runs these for every object, and to build a statement costs more than to run it.
_STUDY, _EVENT = cast("Table", Study.__table__), cast("Table", StudyEvent.__table__)
_HEADS = select(*(_STUDY.c[field.name] for field in fields(Head))).where(
    _STUDY.c.study_uid.in_(bindparam("uids", expanding=True))
)
_TOUCH = update(_STUDY).where(_STUDY.c.id == bindparam("which")).values(last_instance_at=bindparam("at"))
_RECORD = insert(_EVENT)


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


def heads(session: Session, study_uids: Collection[str]) -> dict[str, Head]:
    """Return what is known of those of the studies that are here, by UID."""
    rows = session.connection().execute(_HEADS, {"uids": list(study_uids)})
    return {row.study_uid: Head(*row) for row in rows}


def create_all(session: Session, first: Sequence[tuple[Header, str, datetime]]) -> dict[str, Head]:
    """Make studies, each from its first image, sender and time of arrival, and return them by UID.

    A study that another process made meanwhile is not among them.
    """
    if not first:
        return {}
    rows = [_first_row(header, sender, now) for header, sender, now in first]
    made = {
        row.study_uid: row.id
        for row in insert_new(session, _STUDY, rows, unique=("study_uid",), returning=("id", "study_uid"))
    }
    created = {row["study_uid"]: row for row in rows if row["study_uid"] in made}
    if created:
        events = [
            _event(made[uid], "arrive", "", StudyState.RECEIVING, 1, row["arrived_at"], "first image")
            for uid, row in created.items()
        ]
        session.connection().execute(_RECORD, events)
    names = [field.name for field in fields(Head)][1:]
    return {uid: Head(made[uid], *(row[name] for name in names)) for uid, row in created.items()}


def _first_row(header: Header, sender: str, now: datetime) -> dict[str, Any]:
    return {
        "study_uid": header.study_uid,
        "patient_id": header.patient_id,
        "patient_id_issuer": header.patient_id_issuer,
        "patient_name": header.patient_name,
        "patient_birth_date": header.patient_birth_date,
        "patient_sex": header.patient_sex,
        "accession_number": header.accession_number,
        "study_date": header.study_date,
        "study_time": header.study_time,
        "description": header.study_description,
        "institution_name": header.institution_name,
        "object_urgency": urgency_of_word(header.requested_priority),
        "state": StudyState.RECEIVING,
        "state_sentence": "",
        "version": 1,
        "sender": sender,
        "arrived_at": now,
        "last_instance_at": now,
    }


def create(session: Session, header: Header, *, sender: str, now: datetime) -> Study:
    """Make a study from its first acknowledged image; its arrival never changes afterwards."""
    head = create_all(session, [(header, sender, now)])[header.study_uid]
    return session.get_one(Study, head.id)


def touch(session: Session, last: Mapping[int, datetime]) -> None:
    """Note when the newest object of each study came."""
    if last:
        session.connection().execute(_TOUCH, [{"which": key, "at": at} for key, at in last.items()])


def fill(session: Session, study_id: int, facts: Mapping[str, Any]) -> None:
    """Write facts of a study that its first object did not have."""
    session.connection().execute(update(_STUDY).where(_STUDY.c.id == study_id).values(dict(facts)))


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
    session.add(StudyEvent(**_event(study.id, step_name, before, after, study.version, now, cause)))


def _event(
    study_id: int, step_name: str, before: str, after: StudyState, version: int, now: datetime, cause: str
) -> dict[str, Any]:
    return {
        "study_id": study_id,
        "at": now,
        "step": step_name,
        "before": before,
        "after": after.value,
        "version": version,
        "cause": cause,
    }


def receiving(session: Session) -> Sequence[Study]:
    """Return the studies whose images still come, oldest last image first."""
    query = select(Study).where(Study.state == StudyState.RECEIVING).order_by(Study.last_instance_at)
    return session.scalars(query).all()


def events(session: Session, study_id: int) -> Sequence[StudyEvent]:
    """Return every step that a study took, oldest first."""
    query = select(StudyEvent).where(StudyEvent.study_id == study_id).order_by(StudyEvent.id)
    return session.scalars(query).all()
