"""Studies: found or made when an image arrives, moved through the pipeline by guarded steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, bindparam, select, update
from sqlalchemy.orm import Session

from triage.domain.header import Header
from triage.domain.priority import Urgency, urgency_of_word
from triage.domain.study import STUDY, CompletedBy, StudyState, StudyStep
from triage.errors import Conflict, UnknownStudy
from triage.store.database import announce
from triage.store.prepared import Insert, Prepared
from triage.store.tables import Study, StudyEvent


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


_STUDY = cast("Table", Study.__table__)
_HEAD_COLUMNS = tuple(field.name for field in fields(Head))
_HEAD = Prepared(
    lambda _: select(*(_STUDY.c[name] for name in _HEAD_COLUMNS)).where(
        _STUDY.c.study_uid == bindparam("uid", type_=_STUDY.c.study_uid.type)
    )
)
_CREATE = Insert(_STUDY, unique=("study_uid",), returning="id")
_TOUCH = Prepared(
    lambda _: (
        update(_STUDY)
        .where(_STUDY.c.id == bindparam("which", type_=_STUDY.c.id.type))
        .values(last_instance_at=bindparam("at", type_=_STUDY.c.last_instance_at.type))
    )
)
_RECORD = Insert(cast("Table", StudyEvent.__table__))
_COMPLETE = Prepared(
    lambda _: (
        update(_STUDY)
        .where(
            _STUDY.c.id == bindparam("which", type_=_STUDY.c.id.type),
            _STUDY.c.state == bindparam("before", type_=_STUDY.c.state.type),
        )
        .values(
            {
                name: bindparam(name, type_=_STUDY.c[name].type)
                for name in ("state", "state_sentence", "completed_by", "completed_at")
            }
        )
        .returning(_STUDY.c.version)
    )
)


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


def uid_of(session: Session, study_id: int) -> str:
    """Return the Study Instance UID, empty where there is no such study."""
    return session.scalar(select(Study.study_uid).where(Study.id == study_id)) or ""


def head(session: Session, study_uid: str) -> Head | None:
    """Return what is known of a study, or None."""
    rows = _HEAD.ask(session, {"uid": study_uid})
    return _head(rows[0]) if rows else None


def earlier_patients(session: Session, study_id: int) -> Sequence[Mapping[str, str]]:
    """Return whose a study was before its patient's record was corrected or merged, oldest first."""
    found: list[dict[str, str]] = session.scalars(
        select(Study.earlier_patients).where(Study.id == study_id)
    ).one()
    return found


def _head(row: Sequence[Any]) -> Head:
    said = dict(zip(_HEAD_COLUMNS, row, strict=True))
    said["object_urgency"] = Urgency(said["object_urgency"])
    said["state"] = StudyState(said["state"])
    return Head(**said)


def create_head(session: Session, header: Header, *, sender: str, now: datetime) -> Head | None:
    """Make a study from its first image, or return None where another process did so meanwhile."""
    row = _first_row(header, sender, now)
    made = _CREATE.new(session, row)
    if made is None:
        return None
    first = _event(made, "arrive", "", StudyState.RECEIVING, 1, now, "first image")
    _RECORD.add(session, [first])
    return Head(id=made, **{name: row[name] for name in _HEAD_COLUMNS if name != "id"})


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


def touch(session: Session, study_id: int, now: datetime) -> None:
    """Note that an object of a study came just now."""
    _TOUCH.run(session, [{"which": study_id, "at": now}])


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
) -> None:
    """Take one step of the pipeline but COMPLETE (see `complete`): guarded UPDATE and event row, or raise.

    Raises:
        IllegalTransition: the table has no such step from the state that was read.
        Conflict: another transaction moved the study since it was read.
    """
    before = study.state
    after = STUDY.after(before, event)
    values: dict[str, Any] = {"state": after, "state_sentence": sentence}
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


def complete(
    session: Session, study_id: int, by: CompletedBy, now: datetime, sentence: str = ""
) -> int | None:
    """Take the step COMPLETE, for a study of which only the id is known; returns its version.

    None where the study is not being received any more: some other evidence was quicker.
    """
    before = StudyState.RECEIVING
    after = STUDY.after(before, StudyStep.COMPLETE)
    values = {"state": after, "state_sentence": sentence, "completed_by": by, "completed_at": now}
    done = _COMPLETE.ask(session, {"which": study_id, "before": before, **values})
    if not done:
        return None
    version = int(done[0][0])
    event = _event(study_id, StudyStep.COMPLETE.value, before.value, after, version, now, by.value)
    _RECORD.add(session, [event])
    announce(session, "list")
    return version


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


def receiving(session: Session, before: datetime | None = None) -> Sequence[Study]:
    """Return the studies whose images still come, oldest last image first; `before` has all of them come."""
    query = select(Study).where(Study.state == StudyState.RECEIVING).order_by(Study.last_instance_at)
    if before is not None:
        query = query.where(Study.last_instance_at < before)
    return session.scalars(query).all()


def events(session: Session, study_id: int) -> Sequence[StudyEvent]:
    """Return every step that a study took, oldest first."""
    query = select(StudyEvent).where(StudyEvent.study_id == study_id).order_by(StudyEvent.id)
    return session.scalars(query).all()
