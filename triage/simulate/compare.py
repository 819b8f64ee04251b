"""A policy beside first-in-first-out, on the same studies: how long each class waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean
from typing import Any

from triage.domain.finding import Outcome
from triage.domain.policy import Policy
from triage.domain.priority import Urgency
from triage.simulate import room
from triage.simulate.cases import draw
from triage.simulate.room import Read
from triage.simulate.scenario import Scenario

ALL = "all"


@dataclass(frozen=True)
class Waits:
    """Waiting times of one class under one order, in minutes; None where nothing was taken."""

    mean: float | None
    median: float | None
    p95: float | None
    longest: float | None
    #: Share of the class that was taken after its due time, or never.
    late: float
    #: How many were never taken.
    left: int


@dataclass(frozen=True)
class Row:
    """One class: how many studies came, and how they waited under both orders."""

    name: str
    count: int
    policy: Waits
    fifo: Waits


def compare(scenario: Scenario, policy: Policy, seed: int) -> list[Row]:
    """Return waiting times by class under a policy and first-in-first-out; deterministic by seed."""
    cases = draw(scenario, seed)
    limit = timedelta(minutes=policy.upper_limit_minutes)
    ordered = room.run(scenario, cases, room.by_policy(policy), limit)
    in_turn = room.run(scenario, cases, room.by_arrival)
    rows = []
    for name in (*(kind.name for kind in scenario.kinds), ALL):
        chosen = _of_class(name)
        mine = [read for read in ordered if chosen(read)]
        theirs = [read for read in in_turn if chosen(read)]
        rows.append(Row(name, len(mine), _waits(mine, policy), _waits(theirs, policy)))
    return rows


def _of_class(name: str) -> Callable[[Read], bool]:
    return lambda read: name in (ALL, read.case.kind.name)


def _due(read: Read, policy: Policy) -> timedelta:
    if read.case.kind.urgency is Urgency.STAT:
        return timedelta(minutes=policy.due["stat"])
    positive = read.case.evaluation.outcome is Outcome.POSITIVE
    return timedelta(minutes=policy.due["positive" if positive else "other"])


def _waits(reads: Sequence[Read], policy: Policy) -> Waits:
    waited = sorted(
        (read.begun_at - read.case.arrived_at).total_seconds() / 60 for read in reads if read.begun_at
    )
    left = len(reads) - len(waited)
    late = left + sum(
        read.begun_at is not None and read.begun_at - read.case.arrived_at > _due(read, policy)
        for read in reads
    )
    share = late / len(reads) if reads else 0.0
    if not waited:
        return Waits(None, None, None, None, share, left)
    median, p95 = (_quantile(waited, at) for at in (0.5, 0.95))
    return Waits(fmean(waited), median, p95, waited[-1], share, left)


def _quantile(ordered: Sequence[float], at: float) -> float:
    """Return a quantile by linear interpolation between the nearest ranks."""
    place = (len(ordered) - 1) * at
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def to_mapping(scenario: Scenario, policy: Policy, seed: int, rows: Sequence[Row]) -> dict[str, Any]:
    """Return a comparison as plain values, minutes to two places."""
    return {
        "scenario": scenario.name,
        "policy": policy.version,
        "seed": seed,
        "days": scenario.days,
        "classes": [
            {"class": row.name, "count": row.count, "policy": _plain(row.policy), "fifo": _plain(row.fifo)}
            for row in rows
        ],
    }


def _plain(waits: Waits) -> dict[str, float | int | None]:
    times = {"mean": waits.mean, "median": waits.median, "p95": waits.p95, "longest": waits.longest}
    minutes = {f"{name}_minutes": None if v is None else round(v, 2) for name, v in times.items()}
    return {**minutes, "late_share": round(waits.late, 4), "left": waits.left}
