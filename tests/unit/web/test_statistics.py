"""Waits as they were beside first-in-first-out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from triage.worklist.statistics import Reading, fifo, waits

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def reading(kind: str, arrived: float, begun: float) -> Reading:
    return Reading(kind, NOW + timedelta(minutes=arrived), NOW + timedelta(minutes=begun))


def test_a_study_that_was_preferred_would_have_waited_longer_in_turn() -> None:
    rows = {r["class"]: r for r in waits([reading("negative", 0, 30), reading("positive", 10, 20)])}
    assert rows["positive"]["seconds"]["mean"] == 600
    assert rows["positive"]["fifo_seconds"]["mean"] == 1200
    assert rows["negative"]["seconds"]["mean"] == 1800
    assert rows["negative"]["fifo_seconds"]["mean"] == 1200


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 300)), max_size=40))
def test_the_order_moves_waiting_from_one_to_another_and_makes_none(pairs: list[tuple[int, int]]) -> None:
    readings = [reading("other", arrived, arrived + wait) for arrived, wait in pairs]
    in_turn = fifo(readings)
    assert len(in_turn) == len(readings)
    assert all(wait >= timedelta(0) for _, wait in in_turn)
    total = sum((r.begun_at - r.arrived_at for r in readings), timedelta(0))
    assert sum((wait for _, wait in in_turn), timedelta(0)) == total


def test_nothing_read_gives_nothing() -> None:
    assert waits([]) == []
