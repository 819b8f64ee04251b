"""The list, a study and a place in the list, as plain values ready for JSON (design: REST `/api/v1`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Row, Select, Table, bindparam, literal_column, select
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.errors import TriageError, UnknownStudy
from triage.store import assessments, entries, instances, orders, policies, results, studies
from triage.store.tables import Entry, EntryEvent, FilmAssessmentRow, Instance, Study
from triage.store.types import from_micros
from triage.worklist import rows
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
    """A cursor that this service did not give out, or gave out for another view."""

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
    first, found, after = _rows(session, status, limit, cursor)
    return {
        "generated_at": rows.time_text(now),
        "policy": policies.active(session).version,
        "items": rows.items(session, found, now, first),
        "next_cursor": after,
    }


@lru_cache(maxsize=32)
def _first_page(limit: int) -> Select[Any]:
    # The query that every page asks again and again is put together once.
    return entries.in_reading_order(rows.rows_of(), limit)


def _rows(
    session: Session, status: Status, limit: int, cursor: str | None
) -> tuple[int | None, Sequence[Row[Any]], str | None]:
    """Return the position of the first row (None where positions mean nothing), the rows, the next cursor."""
    start = _decode(cursor, status)
    if status is Status.WAITING:
        first, query = 1, _first_page(limit + 1)
        if start is not None:
            first = int(start["position"])
            query = entries.in_reading_order(rows.rows_of(), limit + 1, _key(start["after"]))
        found = rows.read(session, query)
        after = None
        if len(found) > limit:
            last = found[limit - 1]
            place = [last.band, last.effective_at, last.arrived_at, last.study_uid]
            after = _encode({"after": place, "position": first + limit})
        return first, found[:limit], after
    before = None if start is None else int(start["before"])
    found = _others(session, status, limit + 1, before)
    after = _encode({"before": found[limit - 1].study_id}) if len(found) > limit else None
    return None, found[:limit], after


_UNJUDGED: ColumnElement[bool] = literal_column("study.state IN ('not_evaluated', 'failed')")


def _others(session: Session, status: Status, limit: int, before: int | None) -> Sequence[Row[Any]]:
    query = rows.rows_of()
    newest: Any = Entry.study_id
    if status is Status.NOT_EVALUATED:
        query = query.where(_UNJUDGED, Entry.state.in_((EntryState.WAITING, EntryState.CLAIMED)))
        newest = Study.id
    elif status is not Status.ALL:
        query = query.where(entries.in_state(EntryState(status.value)))
    if before is not None:
        query = query.where(newest < before)
    return rows.read(session, query.order_by(newest.desc()).limit(limit))


def _encode(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def _decode(cursor: str | None, status: Status) -> Mapping[str, Any] | None:
    if not cursor:
        return None
    try:
        value = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if status is Status.WAITING:
            _number(value["position"])
            _key(value["after"])
        else:
            _number(value["before"])
    except (binascii.Error, ValueError, KeyError, TypeError, OverflowError):
        msg = "The cursor is not one that this view of the list gave out; begin again without it."
        raise BadCursor(msg) from None
    else:
        return dict(value)


def _number(value: Any) -> int:
    """Return a whole number that a database can compare with."""
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise OverflowError
    return number


def _key(place: Sequence[Any]) -> tuple[int, datetime, datetime, str]:
    band, effective, arrived, uid = place
    return _number(band), from_micros(int(effective)), from_micros(int(arrived)), str(uid)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


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
        [shown] = rows.items(session, rows.read(session, rows.rows_of().where(Entry.study_id == row.id)), now)
        shown["position"] = entries.position(session, entry)
    else:
        # Objects that are no radiographs are kept, but have no place in the reading list.
        shown = {
            "position": None,
            "study_instance_uid": row.study_uid,
            "accession_number": row.accession_number,
            "status": None,
            "assessment": rows.assessment(row.state.value, row.state_sentence, {}),
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
        {"urgency": o.urgency.value if o.urgency else None, "source": o.source, "description": o.description}
        for o in orders.for_study(session, row)
    ]
    shown["pipeline"] = [
        {"at": _time(e.at), "step": e.step, "before": e.before, "after": e.after, "cause": e.cause}
        for e in studies.events(session, row.id)
    ]
    shown["events"] = _events(session, row.id)
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


_EVENTS = (
    select(cast("Table", EntryEvent.__table__))
    .where(EntryEvent.study_id == bindparam("study"))
    .order_by(EntryEvent.id)
)
_ENTRY = select(cast("Table", Entry.__table__)).where(Entry.study_uid == bindparam("uid"))


def _events(session: Session, study_id: int) -> list[dict[str, Any]]:
    return [
        {
            "at": _time(event.at),
            "verb": event.verb,
            "actor": event.actor,
            "cause": event.cause,
            "status": event.state.value,
            "effective_at": _time(event.effective_at),
            "model": event.model,
            "policy": event.policy,
        }
        for event in session.connection().execute(_EVENTS, {"study": study_id})
    ]


def why(session: Session, study_uid: str, now: datetime) -> dict[str, Any]:
    """Return why an entry stands where it stands; the used terms' minutes add up to the advance exactly.

    Raises:
        UnknownStudy: no such study, or one without a place in the list.
    """
    entry = session.connection().execute(_ENTRY, {"uid": study_uid}).first()
    if entry is None:
        studies.by_uid(session, study_uid)
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
        "history": _events(session, entry.study_id),
    }
