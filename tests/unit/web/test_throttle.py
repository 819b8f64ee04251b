"""Guessing is slow, and nobody is locked out for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from triage.web.throttle import PER_HOST, PER_NAME_AND_HOST, WINDOW, Throttle

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_one_name_from_one_address_waits_after_a_few_failures() -> None:
    throttle = Throttle()
    for _ in range(PER_NAME_AND_HOST):
        assert throttle.wait("ann", "h1", NOW) == 0
        throttle.failed("ann", "h1", NOW)
    assert 0 < throttle.wait("ann", "h1", NOW) <= WINDOW.total_seconds() + 1
    assert throttle.wait("ann", "h2", NOW) == 0, "the reader herself, elsewhere"
    assert throttle.wait("ann", "h1", NOW + WINDOW) == 0


def test_one_address_with_many_names_waits() -> None:
    throttle = Throttle()
    for number in range(PER_HOST):
        throttle.failed(f"name{number}", "h1", NOW)
    assert throttle.wait("another", "h1", NOW) > 0


def test_a_login_that_works_clears_the_count() -> None:
    throttle = Throttle()
    for _ in range(PER_NAME_AND_HOST - 1):
        throttle.failed("ann", "h1", NOW)
    throttle.succeeded("ann", "h1")
    throttle.failed("ann", "h1", NOW + timedelta(seconds=1))
    assert throttle.wait("ann", "h1", NOW + timedelta(seconds=2)) == 0


def test_a_flood_of_names_does_not_fill_the_memory() -> None:
    throttle = Throttle()
    for number in range(20_000):
        throttle.failed(f"name{number}", f"h{number}", NOW)
    assert len(throttle._failures) <= 10_000
