"""The list, a study and a place in the list, as plain values ready for JSON (design: REST `/api/v1`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Row, Select, literal_column, select
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.finding import Outcome
from triage.domain.policy import Policy
from triage.domain.study import StudyState
from triage.errors import TriageError, UnknownStudy
from triage.store import assessments, entries, instances, orders, policies, results, studies
from triage.store.tables import Entry, EntryEvent, FilmAssessmentRow, Instance, Study
from triage.store.types import from_micros, to_micros
from triage.worklist.outlook import would_change

MAX_LIMIT = 500


class Status(StrEnum):
    """Which entries a list shows."""

    WAITING = "waiting"
    CLAIMED = "claimed"
    READ = "read"
    WITHDRAWN = "withdrawn"
    #: Waiting or claimed, whose study was not evaluated or failed.
    NOT_EVALUATED = "not_evaluated"
    ALL = "all"


class BadCursor(TriageError):
    """A cursor that this service did not give out."""

    code = "bad-cursor"
    exit_code = 2


def page(
    session: Session,
    now: datetime,
    status: Status = Status.WAITING,
    limit: int = 50,
    cursor: str | None = None,
) -> dict[str, Any]:
    """Return one page of the list; `next_cursor` is None on the last.

    The waiting list is in reading order with positions counted from 1; the others are newest first.

    Raises:
        BadCursor: the cursor is not one of ours.
    """
    limit = max(1, min(limit, MAX_LIMIT))
    first, rows, after = _rows(session, status, limit, cursor)
    version, known = _policies(session, rows)
    return {
        "generated_at": _time(now),
        "policy": version,
        "items": [
            _item(row, known[row.policy], now, first + number if first else None)
            for number, row in enumerate(rows)
        ],
        "next_cursor": after,
    }


#: What a row of the list shows, in one query; `study_*` where both tables have the name.
_ROW = (
    Entry.study_id,
    Entry.study_uid,
    Entry.state,
    Entry.claimed_by,
    Entry.arrived_at,
    Entry.due_at,
    Entry.read_at,
    Entry.band,
    Entry.effective_at,
    Entry.advance_micros,
    Entry.urgency,
    Entry.standing,
    Entry.answer,
    Entry.pins,
    Entry.aged_out,
    Entry.policy,
    Entry.note,
    Entry.revision,
    Study.accession_number,
    Study.patient_id,
    Study.patient_name,
    Study.patient_birth_date,
    Study.patient_sex,
    Study.description,
    Study.version,
    Study.state.label("study_state"),
    Study.state_sentence,
    # Images that nobody ordered are shown as such.
    orders.naming().label("ordered"),
)


def rows_of() -> Select[Any]:
    """Return the query of the list's rows, to which a view adds its condition and order."""
    return select(*_ROW).join(Study, Study.id == Entry.study_id)


def items(session: Session, rows: Sequence[Row[Any]], now: datetime) -> list[dict[str, Any]]:
    """Return rows as the list shows them, without their positions."""
    _, known = _policies(session, rows)
    return [_item(row, known[row.policy], now, None) for row in rows]


def _policies(session: Session, rows: Sequence[Row[Any]]) -> tuple[str, dict[str, Policy]]:
    """Return the version in force, and each policy under which one of the rows stands."""
    active = policies.active(session)
    version = active.version
    known = {version: active}
    for row in rows:
        if row.policy not in known:
            known[row.policy] = policies.by_version(session, row.policy)
    return version, known


def _rows(
    session: Session, status: Status, limit: int, cursor: str | None
) -> tuple[int, Sequence[Row[Any]], str | None]:
    """Return the position of the first row (0 where positions mean nothing), the rows, the next cursor."""
    start = _decode(cursor)
    if status is Status.WAITING:
        key = None if start is None else _key(start["after"])
        first = 1 if start is None else int(start["position"])
        found = session.execute(entries.in_reading_order(rows_of(), limit + 1, key)).all()
        rows = found[:limit]
        after = None
        if len(found) > limit:
            last = rows[-1]
            place = [last.band, to_micros(last.effective_at), to_micros(last.arrived_at), last.study_uid]
            after = _encode({"after": place, "position": first + limit})
        return first, rows, after
    before = None if start is None else int(start["before"])
    found = _others(session, status, limit + 1, before)
    rows = found[:limit]
    after = _encode({"before": rows[-1].study_id}) if len(found) > limit else None
    return 0, rows, after


_UNJUDGED: ColumnElement[bool] = literal_column("study.state IN ('not_evaluated', 'failed')")


def _others(session: Session, status: Status, limit: int, before: int | None) -> Sequence[Row[Any]]:
    query = rows_of()
    newest: Any = Entry.study_id
    if status is Status.NOT_EVALUATED:
        query = query.where(_UNJUDGED, Entry.state.in_((EntryState.WAITING, EntryState.CLAIMED)))
        newest = Study.id
    elif status is not Status.ALL:
        query = query.where(entries.in_state(EntryState(status.value)))
    if before is not None:
        query = query.where(newest < before)
    return session.execute(query.order_by(newest.desc()).limit(limit)).all()


def _encode(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def _decode(cursor: str | None) -> Mapping[str, Any] | None:
    if not cursor:
        return None
    try:
        value = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if "before" in value:
            int(value["before"])
        else:
            int(value["position"])
            _key(value["after"])
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError):
        msg = "The cursor is not one that this list gave out; begin again without it."
        raise BadCursor(msg) from None
    else:
        return dict(value)


def _key(place: Sequence[Any]) -> tuple[int, datetime, datetime, str]:
    band, effective, arrived, uid = place
    return int(band), from_micros(int(effective)), from_micros(int(arrived)), str(uid)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _assessment(state: StudyState, sentence: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    unjudged = state in (StudyState.NOT_EVALUATED, StudyState.FAILED)
    return {
        "state": state.value,
        "outcome": Outcome.NOT_EVALUATED.value if unjudged else answer.get("outcome"),
        "any_disease": answer.get("any_disease"),
        "model": answer.get("model"),
        "findings": answer.get("findings", []),
        "sentence": sentence or answer.get("sentence", ""),
    }


def _item(row: Row[Any], policy: Policy, now: datetime, position: int | None) -> dict[str, Any]:
    return {
        "position": position,
        "study_instance_uid": row.study_uid,
        "accession_number": row.accession_number,
        "patient": {
            "id": row.patient_id,
            "name": row.patient_name,
            "birth_date": row.patient_birth_date,
            "sex": row.patient_sex,
        },
        "status": row.state.value,
        "claimed_by": row.claimed_by,
        "arrived_at": _time(row.arrived_at),
        "due_at": _time(row.due_at),
        "waited_seconds": max(0, int(((row.read_at or now) - row.arrived_at).total_seconds())),
        "band": row.band,
        "effective_at": _time(row.effective_at),
        "advance_minutes": row.advance_micros / 60_000_000,
        "urgency": row.urgency.value,
        "assessment": _assessment(row.study_state, row.state_sentence, row.answer),
        "reasons": entries.reasons_of(row, policy),
        "ordered": bool(row.ordered),
        "description": row.description,
        "note": row.note,
        "version": row.version,
        "revision": row.revision,
    }


def study(session: Session, study_uid: str, now: datetime) -> dict[str, Any]:
    """Return everything that is known of a study: its place, films, results, orders and what happened.

    Raises:
        UnknownStudy: no such study.
    """
    row = studies.by_uid(session, study_uid)
    films = {film.instance_id: film for film in assessments.of_study(session, row.id)}
    entry = session.get(Entry, row.id)
    shown: dict[str, Any]
    if entry is not None:
        [shown] = items(session, session.execute(rows_of().where(Entry.study_id == row.id)).all(), now)
        shown["position"] = entries.position(session, entry)
    else:
        # Objects that are no radiographs are kept, but have no place in the reading list.
        shown = {
            "position": None,
            "study_instance_uid": row.study_uid,
            "accession_number": row.accession_number,
            "status": None,
            "assessment": _assessment(row.state, row.state_sentence, {}),
        }
    shown["completed_by"] = row.completed_by.value if row.completed_by else None
    shown["instances"] = [
        _instance(instance, films.get(instance.id))
        for instance in instances.of_study(session, row.id, current_only=False)
    ]
    shown["results"] = [
        {
            "kind": r.kind,
            "sop_instance_uid": r.sop_instance_uid,
            "destination": r.destination,
            "state": r.state.value,
            "attempts": r.attempts,
            "last_error": r.last_error,
            "version": r.study_version,
        }
        for r in results.of_study(session, row.id)
    ]
    shown["orders"] = [
        {"urgency": o.urgency.value, "source": o.source, "description": o.description}
        for o in orders.for_study(session, row)
    ]
    shown["pipeline"] = [
        {"at": _time(e.at), "step": e.step, "before": e.before, "after": e.after, "cause": e.cause}
        for e in studies.events(session, row.id)
    ]
    shown["events"] = [_event(e) for e in _entry_events(session, row.id)]
    return shown


def _instance(instance: Instance, film: FilmAssessmentRow | None) -> dict[str, Any]:
    return {
        "sop_instance_uid": instance.sop_instance_uid,
        "sop_class_uid": instance.sop_class_uid,
        "modality": instance.modality,
        "received_at": _time(instance.received_at),
        "sender": instance.sender,
        "size": instance.size,
        "current": instance.current,
        "conflict": instance.conflict,
        "not_judged": instance.unjudged.value if instance.unjudged else None,
        "outcome": film.outcome.value if film else None,
        "reason": film.reason.value if film and film.reason else None,
        "sentence": film.sentence if film else "",
        "frontal": film.frontal if film else None,
        "any_disease": film.any_disease if film else None,
    }


def _entry_events(session: Session, study_id: int) -> Sequence[EntryEvent]:
    query = select(EntryEvent).where(EntryEvent.study_id == study_id).order_by(EntryEvent.id)
    return session.scalars(query).all()


def _event(event: EntryEvent) -> dict[str, Any]:
    return {
        "at": _time(event.at),
        "verb": event.verb,
        "actor": event.actor,
        "cause": event.cause,
        "status": event.state.value,
        "effective_at": _time(event.effective_at),
        "model": event.model,
        "policy": event.policy,
    }


def why(session: Session, study_uid: str, now: datetime) -> dict[str, Any]:
    """Return why an entry stands where it stands; the used terms' minutes add up to the advance exactly.

    Raises:
        UnknownStudy: no such study, or one without a place in the list.
    """
    row = studies.by_uid(session, study_uid)
    entry = session.get(Entry, row.id)
    if entry is None:
        msg = "This study has no radiograph and so no place in the reading list."
        raise UnknownStudy(msg)
    policy = policies.by_version(session, entry.policy)
    ranking = entries.ranking_of(entry, policy)
    return {
        "study_instance_uid": study_uid,
        "position": entries.position(session, entry),
        "status": entry.state.value,
        "band": entry.band,
        "arrived_at": _time(entry.arrived_at),
        "effective_at": _time(entry.effective_at),
        "advance_minutes": entry.advance_micros / 60_000_000,
        "terms": [
            {"name": t.name, "sentence": t.sentence, "minutes": t.minutes, "used": t.used}
            for t in ranking.terms
        ],
        "reasons": list(ranking.reasons),
        "would_change": would_change(session, entry, policy),
        "due_at": _time(entry.due_at),
        "waited_seconds": max(0, int((now - entry.arrived_at).total_seconds())),
        "policy": entry.policy,
        "urgency": entry.urgency.value,
        "history": [_event(e) for e in _entry_events(session, row.id)],
    }
