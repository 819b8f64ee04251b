"""A row of the list as plain values: read without the types of the domain, put together once.

A page is fifty rows, of which nearly all are as they were at the last look. What a row shows besides its
position and its age depends on nothing but the columns read here, so it is kept by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from sqlalchemy import BigInteger, Row, Select, String, Text, cast, select, type_coerce
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.finding import Outcome
from triage.domain.policy import Policy
from triage.domain.priority import Key, Urgency
from triage.domain.study import SETTLED, StudyState
from triage.store import entries, orders, policies
from triage.store.tables import Entry, Study
from triage.store.types import from_micros, to_micros

_MOST_KEPT = 4000
#: What rows show, by their columns and the policy under which they stand.
_kept: dict[tuple[Any, ...], dict[str, Any]] = {}
_SECOND = 1_000_000  # microseconds

_UNJUDGED = (StudyState.NOT_EVALUATED.value, StudyState.FAILED.value)


@cache
def rows_of() -> Select[Any]:
    """Return the query of the list's rows, to which a view adds its condition and order.

    Times are whole microseconds, enums and JSON are texts.
    """
    times = (Entry.arrived_at, Entry.due_at, Entry.read_at, Entry.effective_at)
    texts = (Entry.state, Entry.urgency, Study.state.label("study_state"))
    documents = (Entry.standing, Entry.answer, Entry.pins)
    columns: tuple[Any, ...] = (
        Entry.study_id,
        Entry.study_uid,
        Entry.claimed_by,
        Entry.band,
        Entry.advance_micros,
        Entry.aged_out,
        Entry.policy,
        Entry.note,
        Entry.revision,
        *(type_coerce(column, BigInteger).label(column.key) for column in times),
        *(type_coerce(column, String).label(column.key) for column in texts),
        *(cast(column, Text).label(column.key) for column in documents),
        Study.accession_number,
        Study.patient_id,
        Study.patient_name,
        Study.patient_birth_date,
        Study.patient_sex,
        Study.description,
        Study.version,
        Study.state_sentence,
        # Images that nobody ordered are shown as such.
        orders.naming().label("ordered"),
    )
    return select(*columns).join(Study, Study.id == Entry.study_id)


def read(session: Session, query: Select[Any]) -> Sequence[Row[Any]]:
    """Return the rows of a query made from `rows_of`."""
    return session.connection().execute(query).all()


def key_of(row: Row[Any]) -> Key:
    """Return a row's place in the order."""
    return Key(row.band, from_micros(row.effective_at), from_micros(row.arrived_at), row.study_uid)


def items(
    session: Session, rows: Sequence[Row[Any]], now: datetime, first: int | None = None
) -> list[dict[str, Any]]:
    """Return rows as the list shows them; positions count from `first`, None where they mean nothing."""
    known: dict[str, Policy] = {}
    present = to_micros(now)
    shown = []
    for number, row in enumerate(rows):
        policy = known.get(row.policy)
        if policy is None:
            policy = known[row.policy] = policies.by_version(session, row.policy)
        item = _lasting(row, policy).copy()
        if first is not None:
            item["position"] = first + number
        item["waited_seconds"] = max(0, ((row.read_at or present) - row.arrived_at) // _SECOND)
        shown.append(item)
    return shown


def _lasting(row: Row[Any], policy: Policy) -> dict[str, Any]:
    """Return what a row shows that neither its neighbours nor the clock change; not to be changed."""
    key = (*row, policy.version)
    item = _kept.get(key)
    if item is None:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        item = _kept[key] = _made(row, policy)
    return item


def _made(row: Row[Any], policy: Policy) -> dict[str, Any]:
    entry = Entry(
        study_uid=row.study_uid,
        arrived_at=from_micros(row.arrived_at),
        urgency=Urgency(row.urgency),
        standing=orjson.loads(row.standing),
        pins=orjson.loads(row.pins),
        aged_out=bool(row.aged_out),
    )
    return {
        "position": None,
        "study_instance_uid": row.study_uid,
        "accession_number": row.accession_number,
        "patient": {
            "id": row.patient_id,
            "name": row.patient_name,
            "birth_date": row.patient_birth_date,
            "sex": row.patient_sex,
        },
        "status": EntryState(row.state).value,
        "claimed_by": row.claimed_by,
        "arrived_at": time_text(entry.arrived_at),
        "due_at": time_text(from_micros(row.due_at)),
        "waited_seconds": 0,
        "band": row.band,
        "effective_at": time_text(from_micros(row.effective_at)),
        "advance_minutes": row.advance_micros / 60_000_000,
        "urgency": row.urgency,
        "assessment": assessment(row.study_state, row.state_sentence, orjson.loads(row.answer)),
        "reasons": entries.reasons_of(entry, policy),
        "ordered": bool(row.ordered),
        "description": row.description,
        "note": row.note,
        "version": row.version,
        "revision": row.revision,
    }


def assessment(state: str, sentence: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model said of a study, as the list shows it.

    Nothing while a study is pending whose films so far are negative: the next may be the diseased one.
    """
    if state not in SETTLED and answer.get("outcome") == Outcome.NEGATIVE.value:
        answer = {}
    return {
        "state": state,
        "outcome": Outcome.NOT_EVALUATED.value if state in _UNJUDGED else answer.get("outcome"),
        "any_disease": answer.get("any_disease"),
        "model": answer.get("model"),
        "findings": answer.get("findings", []),
        "sentence": sentence or answer.get("sentence", ""),
    }


def time_text(moment: datetime) -> str:
    """Return a time as the API writes it."""
    return moment.isoformat().replace("+00:00", "Z")
