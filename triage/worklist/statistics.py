"""What the order did for the patients: waits by class beside first-in-first-out, flags, agreement."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState
from triage.domain.finding import Outcome
from triage.domain.priority import STAT_BAND
from triage.store.entries import WAITING
from triage.store.tables import Entry, Feedback, FilmAssessmentRow

#: More read studies than this in the window are thinned to the newest: a page must stay a page.
_MOST = 20_000
CLASSES = ("stat", "positive", "undetermined", "negative", "not_evaluated")


@dataclass(frozen=True)
class Reading:
    """One read study: its class, when it arrived and when a reader began."""

    kind: str
    arrived_at: datetime
    begun_at: datetime


def statistics(session: Session, now: datetime, days: float = 7) -> dict[str, Any]:
    """Return the figures of the studies read in the last `days` days, and of what waits now.

    The first-in-first-out column answers: had the readers begun at the very same moments, but always with
    the study that arrived first, how long would each class have waited?
    """
    since = now - timedelta(days=days)
    readings = _readings(session, since)
    return {
        "generated_at": now.isoformat().replace("+00:00", "Z"),
        "since": since.isoformat().replace("+00:00", "Z"),
        "waiting": _waiting(session, now),
        "read": len(readings),
        "waits": waits(readings),
        "flags": _flags(session, since),
        "agreement": _agreement(session, since),
    }


def _readings(session: Session, since: datetime) -> list[Reading]:
    begun = func.coalesce(Entry.claimed_at, Entry.read_at)
    rows = session.execute(
        select(Entry.study_id, Entry.band, Entry.arrived_at, begun)
        .where(Entry.state == EntryState.READ, Entry.read_at >= since)
        .order_by(Entry.study_id.desc())
        .limit(_MOST)
    ).all()
    outcomes = _outcomes(session, [row[0] for row in rows])
    return [
        Reading("stat" if band == STAT_BAND else outcomes.get(study_id, "not_evaluated"), arrived, start)
        for study_id, band, arrived, start in rows
    ]


def _outcomes(session: Session, study_ids: Sequence[int]) -> dict[int, str]:
    """Return the worst outcome of each study's films."""
    weight = case(
        (FilmAssessmentRow.outcome == Outcome.POSITIVE, 3),
        (FilmAssessmentRow.outcome == Outcome.UNDETERMINED, 2),
        (FilmAssessmentRow.outcome == Outcome.NEGATIVE, 1),
        else_=0,
    )
    names = {3: "positive", 2: "undetermined", 1: "negative", 0: "not_evaluated"}
    found: dict[int, str] = {}
    for first in range(0, len(study_ids), 500):
        some = study_ids[first : first + 500]
        query = (
            select(FilmAssessmentRow.study_id, func.max(weight))
            .where(FilmAssessmentRow.study_id.in_(some))
            .group_by(FilmAssessmentRow.study_id)
        )
        found |= {study_id: names[worst] for study_id, worst in session.execute(query)}
    return found


def fifo(readings: Sequence[Reading]) -> list[tuple[str, timedelta]]:
    """Return class and wait of each study had each reader begun with the one that arrived first."""
    coming = sorted(readings, key=lambda reading: reading.arrived_at)
    there: list[tuple[datetime, int]] = []
    result, taken = [], 0
    for begun_at in sorted(reading.begun_at for reading in readings):
        while taken < len(coming) and coming[taken].arrived_at <= begun_at:
            heapq.heappush(there, (coming[taken].arrived_at, taken))
            taken += 1
        arrived_at, number = heapq.heappop(there)
        result.append((coming[number].kind, begun_at - arrived_at))
    return result


def waits(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return for each class how long its studies waited, as it was and first-in-first-out."""
    ours = [(r.kind, r.begun_at - r.arrived_at) for r in readings if r.begun_at >= r.arrived_at]
    as_it_was = _by_class(ours)
    in_turn = _by_class(fifo([r for r in readings if r.begun_at >= r.arrived_at]))
    return [
        {
            "class": kind,
            "count": len(as_it_was[kind]),
            "seconds": _figures(as_it_was[kind]),
            "fifo_seconds": _figures(in_turn[kind]),
        }
        for kind in CLASSES
        if as_it_was[kind]
    ]


def _by_class(pairs: Iterable[tuple[str, timedelta]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for kind, wait in pairs:
        found[kind].append(wait.total_seconds())
    return found


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {
        "mean": round(sum(ordered) / len(ordered), 1),
        "median": round(ordered[last // 2], 1),
        "p95": round(ordered[round(last * 0.95)], 1),
        "max": round(ordered[-1], 1),
    }


def _waiting(session: Session, now: datetime) -> dict[str, Any]:
    overdue = func.coalesce(func.sum(case((Entry.due_at < now, 1), else_=0)), 0)
    query = select(func.count(), overdue, func.min(Entry.arrived_at)).select_from(Entry).where(WAITING)
    count, late, oldest = session.execute(query).one()
    seconds = int((now - oldest).total_seconds()) if oldest else 0
    return {"count": count, "overdue": late, "longest_wait_seconds": seconds}


def _flags(session: Session, since: datetime) -> dict[str, Any]:
    query = (
        select(FilmAssessmentRow.outcome, func.count())
        .where(FilmAssessmentRow.finished_at >= since)
        .group_by(FilmAssessmentRow.outcome)
    )
    counts = {outcome.value: count for outcome, count in session.execute(query)}
    judged = sum(count for outcome, count in counts.items() if outcome != Outcome.NOT_EVALUATED)
    positive = counts.get(Outcome.POSITIVE, 0)
    return {"films": counts, "flag_rate": round(positive / judged, 4) if judged else None}


def _agreement(session: Session, since: datetime) -> list[dict[str, Any]]:
    agreed = func.sum(case((Feedback.agrees, 1), else_=0))
    query = (
        select(Feedback.finding, Feedback.model, func.count(), agreed)
        .where(Feedback.at >= since)
        .group_by(Feedback.finding, Feedback.model)
        .order_by(Feedback.finding, Feedback.model)
    )
    return [
        {"finding": finding, "model": model, "count": count, "agreed": int(agrees)}
        for finding, model, count, agrees in session.execute(query)
    ]
