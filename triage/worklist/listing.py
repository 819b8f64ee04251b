"""The list, a study and a place in the list, as plain values ready for JSON (design: REST `/api/v1`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.finding import Outcome
from triage.domain.study import StudyState
from triage.errors import TriageError, UnknownStudy
from triage.store import assessments, entries, instances, orders, policies, results, studies
from triage.store.tables import Entry, EntryEvent, FilmAssessmentRow, Instance, Study
from triage.store.types import from_micros, to_micros

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
    films = _deciding_films(session, [study.id for _, study in rows])
    items = [
        _item(entry, study, films.get(study.id, ()), now, first + n if first else None)
        for n, (entry, study) in enumerate(rows)
    ]
    return {
        "generated_at": _time(now),
        "policy": policies.active(session).version,
        "items": items,
        "next_cursor": after,
    }


def _rows(
    session: Session, status: Status, limit: int, cursor: str | None
) -> tuple[int, Sequence[tuple[Entry, Study]], str | None]:
    """Return the position of the first row (0 where positions mean nothing), the rows, the next cursor."""
    start = _decode(cursor)
    if status is Status.WAITING:
        key = None if start is None else _key(start["after"])
        first = 1 if start is None else int(start["position"])
        found = entries.waiting(session, limit + 1, key)
        rows = found[:limit]
        after = None
        if len(found) > limit:
            last = rows[-1][0]
            place = [last.band, to_micros(last.effective_at), to_micros(last.arrived_at), last.study_uid]
            after = _encode({"after": place, "position": first + limit})
        return first, rows, after
    before = None if start is None else int(start["before"])
    found = _others(session, status, limit + 1, before)
    rows = found[:limit]
    after = _encode({"before": rows[-1][1].id}) if len(found) > limit else None
    return 0, rows, after


def _others(
    session: Session, status: Status, limit: int, before: int | None
) -> Sequence[tuple[Entry, Study]]:
    query = select(Entry, Study).join(Study, Study.id == Entry.study_id)
    if status is Status.NOT_EVALUATED:
        unjudged = (StudyState.NOT_EVALUATED, StudyState.FAILED)
        query = query.where(
            Study.state.in_(unjudged), Entry.state.in_((EntryState.WAITING, EntryState.CLAIMED))
        )
    elif status is not Status.ALL:
        query = query.where(Entry.state == EntryState(status.value))
    if before is not None:
        query = query.where(Entry.study_id < before)
    return [(row[0], row[1]) for row in session.execute(query.order_by(Entry.study_id.desc()).limit(limit))]


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


def _deciding_films(session: Session, study_ids: Sequence[int]) -> dict[int, list[FilmAssessmentRow]]:
    if not study_ids:
        return {}
    query = (
        select(FilmAssessmentRow)
        .join(Instance, Instance.id == FilmAssessmentRow.instance_id)
        .where(FilmAssessmentRow.study_id.in_(study_ids), Instance.current)
        .order_by(FilmAssessmentRow.id)
    )
    found: dict[int, list[FilmAssessmentRow]] = {}
    for row in session.scalars(query):
        found.setdefault(row.study_id, []).append(row)
    return found


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


_OUTCOME_ORDER = {
    Outcome.POSITIVE: 3,
    Outcome.UNDETERMINED: 2,
    Outcome.NEGATIVE: 1,
    Outcome.NOT_EVALUATED: 0,
}


def _assessment(study: Study, films: Sequence[FilmAssessmentRow]) -> dict[str, Any]:
    newest = {row.instance_id: row for row in films}
    worst = max(
        newest.values(), key=lambda r: (_OUTCOME_ORDER[r.outcome], r.any_disease or 0.0), default=None
    )
    shown: dict[str, Any] = {
        "state": study.state.value,
        "outcome": None,
        "any_disease": None,
        "model": None,
        "findings": [],
    }
    if worst is not None:
        shown |= {
            "outcome": worst.outcome.value,
            "any_disease": worst.any_disease,
            "model": worst.model,
            "findings": [
                {"finding": f["finding"], "probability": f["probability"], "state": f["state"]}
                for f in worst.findings
            ],
        }
    if study.state in (StudyState.NOT_EVALUATED, StudyState.FAILED):
        shown["outcome"] = Outcome.NOT_EVALUATED.value
    shown["sentence"] = study.state_sentence or (worst.sentence if worst is not None else "")
    return shown


def reasons(terms: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the sentences of the stored terms that made the place, most weighty first."""
    used = [term for term in terms if term["used"] and term["minutes"]]
    return [term["sentence"] for term in sorted(used, key=lambda term: -abs(term["minutes"]))]


def _item(
    entry: Entry, study: Study, films: Sequence[FilmAssessmentRow], now: datetime, position: int | None
) -> dict[str, Any]:
    return {
        "position": position,
        "study_instance_uid": study.study_uid,
        "accession_number": study.accession_number,
        "patient": {
            "id": study.patient_id,
            "name": study.patient_name,
            "birth_date": study.patient_birth_date,
            "sex": study.patient_sex,
        },
        "status": entry.state.value,
        "claimed_by": entry.claimed_by,
        "arrived_at": _time(entry.arrived_at),
        "due_at": _time(entry.due_at),
        "waited_seconds": max(0, int(((entry.read_at or now) - entry.arrived_at).total_seconds())),
        "band": entry.band,
        "effective_at": _time(entry.effective_at),
        "advance_minutes": entry.advance_micros / 60_000_000,
        "urgency": entry.urgency.value,
        "assessment": _assessment(study, films),
        "reasons": reasons(entry.terms),
        "description": study.description,
        "note": entry.note,
        "version": study.version,
        "revision": entry.revision,
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
        shown = _item(entry, row, list(films.values()), now, entries.position(session, entry))
    else:
        # Objects that are no radiographs are kept, but have no place in the reading list.
        shown = {
            "position": None,
            "study_instance_uid": row.study_uid,
            "accession_number": row.accession_number,
            "status": None,
            "assessment": _assessment(row, []),
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
    return {
        "study_instance_uid": study_uid,
        "position": entries.position(session, entry),
        "status": entry.state.value,
        "band": entry.band,
        "arrived_at": _time(entry.arrived_at),
        "effective_at": _time(entry.effective_at),
        "advance_minutes": entry.advance_micros / 60_000_000,
        "terms": list(entry.terms),
        "reasons": reasons(entry.terms),
        "due_at": _time(entry.due_at),
        "waited_seconds": max(0, int((now - entry.arrived_at).total_seconds())),
        "policy": entry.policy,
        "urgency": entry.urgency.value,
        "history": [_event(e) for e in _entry_events(session, row.id)],
    }
