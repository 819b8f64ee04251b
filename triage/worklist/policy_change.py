"""Switching the policy: every unread entry is ranked anew in one transaction, and back by switching back.

What a policy weighs is kept with each entry, so ten thousand rows are read, weighed and written by three
statements: no film, finding or order is looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    Text,
    bindparam,
    cast,
    column,
    insert,
    literal,
    literal_column,
    select,
    table,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session, aliased

from triage.domain.entry import EntryState, EntryVerb
from triage.domain.policy import Policy
from triage.domain.priority import Ranking, advance_micros, micros_of
from triage.store import entries, policies
from triage.store.database import announce
from triage.store.tables import Entry, EntryEvent, PolicyRow, Study
from triage.store.types import from_micros, to_micros
from triage.worklist import history

#: One after the other, since each has an index of its own and both together have none.
_UNREAD = (entries.in_state(EntryState.WAITING), entries.in_state(EntryState.CLAIMED))

#: After so many rows readers of the list get their turn: this work would else keep the interpreter to itself.
_BREATH = 100

#: The table without the types of the domain, whose conversion would cost more than the ranking.
_ROW = table(
    "entry",
    column("study_id", BigInteger),
    column("effective_at", BigInteger),
    column("due_at", BigInteger),
    column("advance_micros", BigInteger),
    column("aged_out"),
    column("due_warned"),
    column("due_breached"),
    column("policy", Text),
    column("revision", BigInteger),
)


@dataclass(frozen=True)
class Move:
    """What a policy does to one entry; positions count from 1."""

    study_uid: str
    before: int
    after: int
    advance_before: timedelta
    advance_after: timedelta
    reasons: tuple[str, ...]


def switch(session: Session, policy: Policy, now: datetime, by: str) -> PolicyRow:
    """Put a policy in force: one activation row, every unread entry ranked anew, one event for each moved.

    The caller's transaction makes it one step; the list before and after is whole. Whether an entry has
    passed the upper limit is asked anew too, so that switching back restores every key.
    """
    row = policies.activate(session, policy, now, by)
    moved: list[dict[str, Any]] = []
    unranked: list[int] = []
    for unread in _UNREAD:
        _weigh(session, unread, policy, now, moved, unranked)
    for study_id in unranked:
        study = session.get_one(Study, study_id)
        entries.rerank(
            session, study, policy, now, verb=EntryVerb.RERANKED, cause="upgrade", actor="scheduler"
        )
    if moved:
        _write(session, moved)
        _record(session, [values["row"] for values in moved], policy, now, by)
    for unread in _UNREAD:
        unmoved = update(_ROW).where(unread, _ROW.c.policy != policy.version)
        session.execute(unmoved.values(policy=policy.version))
    session.expire_all()
    announce(session, "list")
    return row


def _weigh(
    session: Session,
    unread: ColumnElement[bool],
    policy: Policy,
    now: datetime,
    moved: list[dict[str, Any]],
    unranked: list[int],
) -> None:
    """Add the new values of rows that move to `moved`, and to `unranked` rows that hold nothing to weigh yet.

    Those are of an older version of this software.
    """
    version = policy.version
    limit = to_micros(now) - micros_of(policy.upper_limit_minutes)
    due = {name: micros_of(minutes) for name, minutes in policy.due.items()}
    query = select(
        Entry.study_id,
        type_coerce(Entry.arrived_at, BigInteger),
        type_coerce(Entry.effective_at, BigInteger),
        type_coerce(Entry.due_at, BigInteger),
        type_coerce(Entry.aged_out, Integer),
        cast(Entry.standing, Text),
        cast(Entry.pins, Text),
        Entry.policy,
    ).where(unread)
    known: dict[str, tuple[list[tuple[str, float]], int]] = {}
    for number, row in enumerate(session.connection().execute(query)):
        if number % _BREATH == 0:
            time.sleep(0)
        study_id, arrived, effective_before, due_before, aged_before, standing, pins, ranked_by = row
        if not ranked_by:
            unranked.append(study_id)
            continue
        if standing not in known:
            kept = orjson.loads(standing)
            # Most films are negative, without orders and pins: nothing is to be weighed.
            shares = [(name, share) for name, _, share in kept["grounds"] if share]
            known[standing] = (shares, due[kept["due"]])
        shares, due_after = known[standing]
        shifts = [pin["minutes"] for pin in orjson.loads(pins)] if pins != "[]" else ()
        aged = arrived <= limit
        advance = advance_micros(shares, shifts, aged, policy) if shares or shifts or aged else 0
        effective, due_at = arrived - advance, arrived + due_after
        if (effective, due_at, aged) != (effective_before, due_before, aged_before):
            moved.append(
                {
                    "row": study_id,
                    "effective": effective,
                    "due": due_at,
                    "advance": advance,
                    "aged": aged,
                    "new": version,
                }
            )


def _write(session: Session, moved: Sequence[dict[str, Any]]) -> None:
    statement = (
        update(_ROW)
        .where(_ROW.c.study_id == bindparam("row"))
        .values(
            effective_at=bindparam("effective"),
            due_at=bindparam("due"),
            advance_micros=bindparam("advance"),
            aged_out=bindparam("aged"),
            # Another due time is warned of anew.
            due_warned=_ROW.c.due_warned & (_ROW.c.due_at == bindparam("due")),
            due_breached=_ROW.c.due_breached & (_ROW.c.due_at == bindparam("due")),
            policy=bindparam("new"),
            revision=_ROW.c.revision + 1,
        )
    )
    session.connection().execute(statement, moved)


def _record(session: Session, study_ids: Sequence[int], policy: Policy, now: datetime, by: str) -> None:
    same = ("study_id", "state", "band", "effective_at", "arrived_at", "due_at", "claimed_by", "policy")
    verb, cause = EntryVerb.POLICY.value, f"policy {policy.version}"
    said = {"at": now, "verb": verb, "actor": by, "cause": cause, "model": ""}
    columns = [getattr(Entry, name) for name in same]
    kinds = {name: EntryEvent.__table__.c[name].type for name in said}
    values = [literal(value, kinds[name]) for name, value in said.items()]
    for first in range(0, len(study_ids), 20_000):
        numbers = ",".join(str(int(number)) for number in study_ids[first : first + 20_000])
        source = select(*columns, *values).where(literal_column(f"entry.study_id IN ({numbers})"))
        session.execute(insert(EntryEvent).from_select([*same, *said], source))


def compare(session: Session, policy: Policy, now: datetime, *, past: bool = False) -> list[Move]:
    """Return what a policy would do to the waiting list, row by row in its new order; nothing is changed.

    With `past`, `now` is a moment of the past and the list the one of then. What is weighed is what is known
    of its studies today: the history keeps places and their causes, not what a policy weighs.
    """
    # No list is older than that, and before the year 1 there is no time to reckon with.
    limit = max(now, from_micros(0)) - timedelta(minutes=policy.upper_limit_minutes)
    event = aliased(EntryEvent)
    stood: Any = event if past else Entry
    query = select(
        Entry.study_uid, stood.band, stood.effective_at, stood.arrived_at, Entry.urgency,
        Entry.standing, Entry.pins, (stood.arrived_at <= limit).label("aged_out"),
    )  # fmt: skip
    if past:
        query = query.join(event, event.study_id == Entry.study_id)
        query = query.where(event.id.in_(history.last_events(now)), event.state == EntryState.WAITING)
    else:
        query = query.where(entries.WAITING)
    rows: Sequence[Row[Any]] = session.execute(query).all()
    before = sorted(rows, key=lambda row: (row.band, row.effective_at, row.arrived_at, row.study_uid))
    places = {row.study_uid: number for number, row in enumerate(before, start=1)}
    ranked: list[tuple[Ranking, Row[Any]]] = [(entries.ranking_of(row, policy), row) for row in rows]
    ranked.sort(key=lambda pair: pair[0].key)
    return [
        Move(
            study_uid=row.study_uid,
            before=places[row.study_uid],
            after=number,
            advance_before=row.arrived_at - row.effective_at,
            advance_after=ranking.advance,
            reasons=ranking.reasons,
        )
        for number, (ranking, row) in enumerate(ranked, start=1)
    ]
