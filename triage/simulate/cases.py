"""The studies of a simulated room: drawn once for a seed, so that every policy meets the same world."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from triage.domain.finding import FindingResult, NotEvaluated, Outcome, finding_state
from triage.domain.priority import Evaluation
from triage.simulate.scenario import Kind, Scenario

#: Midnight of the first day; any would do, since the order knows no clock.
START = datetime(2026, 1, 5, tzinfo=UTC)
LOW, HIGH = 0.3, 0.6
_QUIET = 0.02
_HOUR = 3600.0  # seconds


@dataclass(frozen=True)
class Case:
    """One study: when it comes, what the model will say and when, and how long its reading takes."""

    number: int
    kind: Kind
    arrived_at: datetime
    assessed_at: datetime
    evaluation: Evaluation
    reading: timedelta

    @property
    def study_uid(self) -> str:
        """The last part of the key, in order of arrival."""
        return f"{self.number:09d}"


def draw(scenario: Scenario, seed: int) -> list[Case]:
    """Return the studies of a scenario in order of arrival; the same for the same seed, everywhere.

    Arrivals, classes, answers and reading times have a random stream each: changing one leaves the others.
    """
    arrivals, kinds, answers, lengths = (
        random.Random(f"{seed}/{part}") for part in ("arrivals", "kinds", "answers", "lengths")
    )
    weights = [kind.share for kind in scenario.kinds]
    delay = timedelta(seconds=scenario.assessment_seconds)
    cases = []
    for number, seconds in enumerate(_arrivals(scenario, arrivals), start=1):
        [kind] = kinds.choices(scenario.kinds, weights)
        at = START + timedelta(seconds=seconds)
        minutes = kind.reading_minutes * math.exp(kind.reading_spread * lengths.gauss(0, 1))
        said = _answer(kind, answers)
        cases.append(Case(number, kind, at, at + delay, said, timedelta(minutes=minutes)))
    return cases


def _arrivals(scenario: Scenario, source: random.Random) -> list[float]:
    """Return seconds since the start: a Poisson process whose rate changes with the hour, by thinning."""
    most = max(scenario.arrivals_per_hour)
    end = scenario.days * 24 * _HOUR
    found: list[float] = []
    at = 0.0
    while most > 0:
        at += source.expovariate(most / _HOUR)
        if at >= end:
            break
        if source.random() * most < scenario.arrivals_per_hour[int(at // _HOUR) % 24]:
            found.append(at)
    return found


def _answer(kind: Kind, source: random.Random) -> Evaluation:
    chance, depth = source.random(), source.random()
    if chance < kind.not_evaluated:
        return Evaluation(Outcome.NOT_EVALUATED, NotEvaluated.MODEL_FAILURE)
    chance -= kind.not_evaluated
    if chance < kind.present:
        outcome, probability = Outcome.POSITIVE, HIGH + (0.99 - HIGH) * depth
    elif chance < kind.present + kind.undetermined:
        outcome, probability = Outcome.UNDETERMINED, LOW + (HIGH - LOW) * depth * 0.999
    else:
        outcome, probability = Outcome.NEGATIVE, _QUIET + (LOW - _QUIET) * depth * 0.999
    state = finding_state(probability, LOW, HIGH)
    result = FindingResult(kind.finding, probability, state, LOW, HIGH)
    return Evaluation(outcome, None, False, probability, LOW, HIGH, (result,))
