"""The room itself: a discrete-event simulation of readers who always take the first of the list."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum

from triage.domain.policy import Policy
from triage.domain.priority import Evaluation, Inputs, Key, rank
from triage.simulate.cases import START, Case
from triage.simulate.scenario import Scenario

#: The place of a study from what is known of it now.
Place = Callable[[Inputs], Key]
_HOUR = timedelta(hours=1)
#: After the last arrival the readers go on so long; a room that is never done must still end.
_OVERTIME_DAYS = 30


class _Happening(IntEnum):
    """At one instant things happen in this order: whoever becomes free sees everything that is there."""

    ARRIVED = 0
    ASSESSED = 1
    AGED_OUT = 2
    FREE = 3


@dataclass(frozen=True)
class Read:
    """A study and when a reader took it; None if that never came."""

    case: Case
    begun_at: datetime | None


def by_policy(policy: Policy) -> Place:
    """Return the order of a policy: the very function that ranks the real list."""
    return lambda inputs: rank(inputs, policy).key


def by_arrival(inputs: Inputs) -> Key:
    """First in, first out: nobody overtakes, not even STAT."""
    return Key(0, inputs.arrived_at, inputs.arrived_at, inputs.study_uid)


class _List:
    """The waiting studies; a heap whose outdated keys are passed over."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._heap: list[tuple[Key, int]] = []
        self._waiting: dict[int, tuple[Key, Inputs]] = {}

    def put(self, number: int, inputs: Inputs) -> None:
        key = self._place(inputs)
        self._waiting[number] = (key, inputs)
        heapq.heappush(self._heap, (key, number))

    def change(self, number: int, *, said: Evaluation | None = None, aged_out: bool = False) -> None:
        if number in self._waiting:
            inputs = self._waiting[number][1]
            self.put(
                number,
                replace(
                    inputs,
                    evaluation=inputs.evaluation if said is None else said,
                    aged_out=inputs.aged_out or aged_out,
                ),
            )

    def take(self) -> int | None:
        while self._heap:
            key, number = heapq.heappop(self._heap)
            if number in self._waiting and self._waiting[number][0] == key:
                del self._waiting[number]
                return number
        return None


def run(
    scenario: Scenario, cases: Sequence[Case], place: Place, upper_limit: timedelta | None = None
) -> list[Read]:
    """Return when each study was taken, in order of arrival.

    Readers of an hour finish what they hold when the hour's number of readers falls. A study is not evaluated
    until the model has spoken, and after `upper_limit` of waiting its place is made anew, as in the service.
    """
    waiting = _List(place)
    begun: dict[int, datetime] = {}
    events = list(_happenings(scenario, cases, upper_limit))
    heapq.heapify(events)
    busy = 0
    by_number = {case.number: case for case in cases}
    while events and len(begun) < len(cases):
        now, what, number = heapq.heappop(events)
        match what:
            case _Happening.ARRIVED:
                waiting.put(number, Inputs(by_number[number].study_uid, now, by_number[number].kind.urgency))
            case _Happening.ASSESSED:
                waiting.change(number, said=by_number[number].evaluation)
            case _Happening.AGED_OUT:
                waiting.change(number, aged_out=True)
            case _Happening.FREE:
                # Numbers below 1 are the strokes of the clock, at which readers come and go.
                busy -= number > 0
        if events and events[0][0] == now:
            continue
        while busy < _readers(scenario, now):
            taken = waiting.take()
            if taken is None:
                break
            begun[taken] = now
            busy += 1
            heapq.heappush(events, (now + by_number[taken].reading, _Happening.FREE, taken))
    return [Read(case, begun.get(case.number)) for case in cases]


def _readers(scenario: Scenario, now: datetime) -> int:
    return scenario.readers[now.hour]


def _happenings(
    scenario: Scenario, cases: Sequence[Case], upper_limit: timedelta | None
) -> Iterator[tuple[datetime, _Happening, int]]:
    for case in cases:
        yield case.arrived_at, _Happening.ARRIVED, case.number
        yield case.assessed_at, _Happening.ASSESSED, case.number
        if upper_limit is not None:
            yield case.arrived_at + upper_limit, _Happening.AGED_OUT, case.number
    for hour in range(24 * (scenario.days + _OVERTIME_DAYS)):
        yield START + hour * _HOUR, _Happening.FREE, 0
