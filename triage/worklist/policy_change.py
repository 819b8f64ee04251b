"""Switching the policy: every unread entry is ranked anew in one transaction, and back by switching back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, insert, or_, select, update
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.policy import Policy
from triage.domain.priority import Inputs, Ranking, rank
from triage.store import assessments, entries, orders, policies
from triage.store.database import announce
from triage.store.tables import Entry, EntryEvent, FilmAssessmentRow, Instance, Order, PolicyRow, Study

_UNREAD = (EntryState.WAITING, EntryState.CLAIMED)


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
    """Put a policy in force: one activation row, every unread entry ranked anew, one event for each that moved.

    The caller's transaction makes it one step; the list before and after is whole.
    """
    row = policies.activate(session, policy, now, by)
    changed, events = [], []
    for entry, inputs in _inputs(session, _UNREAD):
        ranking = rank(inputs, policy)
        columns = entries.columns(ranking, inputs, policy)
        if all(getattr(entry, name) == value for name, value in columns.items()):
            continue
        changed.append({"row": entry.study_id, **columns, "revision": entry.revision + 1})
        if entry.effective_at != ranking.key.effective_at or entry.band != ranking.key.band:
            events.append(_event(entry, ranking, policy, now, by))
    if changed:
        table: Any = Entry.__table__
        session.connection().execute(
            update(table).where(table.c.study_id == bindparam("row")),
            changed,
        )
    if events:
        session.execute(insert(EntryEvent), events)
    session.expire_all()
    announce(session, "list")
    return row


def _event(entry: Entry, ranking: Ranking, policy: Policy, now: datetime, by: str) -> dict[str, Any]:
    return {
        "study_id": entry.study_id,
        "at": now,
        "verb": "policy",
        "actor": by,
        "cause": f"policy {policy.version}",
        "state": entry.state,
        "band": ranking.key.band,
        "effective_at": ranking.key.effective_at,
        "arrived_at": entry.arrived_at,
        "due_at": ranking.due_at,
        "claimed_by": entry.claimed_by,
        "model": "",
        "policy": policy.version,
    }


def _inputs(session: Session, states: Sequence[EntryState]) -> list[tuple[Entry, Inputs]]:
    """Return every entry in `states` with the inputs of its place, in a handful of queries for all."""
    rows = session.execute(
        select(Entry, Study).join(Study, Study.id == Entry.study_id).where(Entry.state.in_(states))
    ).all()
    films = _films(session, states)
    told = _orders(session)
    found = []
    for entry, study in rows:
        said, _ = assessments.evaluation_of(study, films.get(study.id, ()))
        urgency = orders.urgency_of(
            study, told.get(study.study_uid, []) + told.get(study.accession_number, [])
        )
        inputs = Inputs(
            study_uid=study.study_uid,
            arrived_at=study.arrived_at,
            urgency=urgency,
            evaluation=said,
            pins=entries.pins_of(entry),
            aged_out=entry.aged_out,
        )
        found.append((entry, inputs))
    return found


def _films(session: Session, states: Sequence[EntryState]) -> dict[int, list[FilmAssessmentRow]]:
    query = (
        select(FilmAssessmentRow)
        .join(Instance, Instance.id == FilmAssessmentRow.instance_id)
        .join(Entry, Entry.study_id == FilmAssessmentRow.study_id)
        .where(Instance.current, Entry.state.in_(states))
        .order_by(FilmAssessmentRow.id)
    )
    newest = {row.instance_id: row for row in session.scalars(query)}
    films: dict[int, list[FilmAssessmentRow]] = defaultdict(list)
    for row in newest.values():
        films[row.study_id].append(row)
    return films


def _orders(session: Session) -> dict[str, list[Order]]:
    """Return the orders that are not cancelled by study UID and by accession number."""
    query = select(Order).where(~Order.cancelled, or_(Order.study_uid != "", Order.accession_number != ""))
    found: dict[str, list[Order]] = defaultdict(list)
    for order in session.scalars(query):
        for name in {order.study_uid, order.accession_number} - {""}:
            found[name].append(order)
    return found


def compare(session: Session, policy: Policy) -> list[Move]:
    """Return what a policy would do to the waiting list, row by row in its new order; nothing is changed."""
    pairs = _inputs(session, (EntryState.WAITING,))
    key = {e.study_uid: (e.band, e.effective_at, e.arrived_at, e.study_uid) for e, _ in pairs}
    before = {uid: number for number, uid in enumerate(sorted(key, key=lambda uid: key[uid]), start=1)}
    ranked = sorted(((rank(inputs, policy), entry) for entry, inputs in pairs), key=lambda pair: pair[0].key)
    return [
        Move(
            study_uid=entry.study_uid,
            before=before[entry.study_uid],
            after=number,
            advance_before=timedelta(microseconds=entry.advance_micros),
            advance_after=ranking.advance,
            reasons=ranking.reasons,
        )
        for number, (ranking, entry) in enumerate(ranked, start=1)
    ]
