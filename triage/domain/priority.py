"""The order: one key for each waiting entry, its explanation, and nothing that a clock changes.

`ORDER BY band, effective_at, arrived_at, study_uid` is the reading order. Since `effective_at` is
`arrived_at - advance` and `0 <= advance <= max_advance`, an entry is overtaken only by STAT, or by one
that arrived less than `max_advance` after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from triage.domain.finding import REASON_PHRASES, FindingResult, NotEvaluated, Outcome
from triage.domain.policy import Mode, Policy

STAT_BAND = 0
ROUTINE_BAND = 1


class Urgency(StrEnum):
    """A human's word about a study; the model never sets or lowers it."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"


_PRIORITY_WORDS = {
    "STAT": Urgency.STAT,
    "HIGH": Urgency.URGENT,
    "ASAP": Urgency.URGENT,
    "URGENT": Urgency.URGENT,
}


def urgency_of_word(word: str) -> Urgency:
    """Return the urgency that Requested Procedure Priority (0040,1003) states (PS3.3 C.4.11)."""
    return _PRIORITY_WORDS.get(word.strip().upper(), Urgency.ROUTINE)


@dataclass(frozen=True)
class Pin:
    """A reader's own shift of an entry: minutes ahead (positive) or back (negative), with a reason."""

    minutes: float
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Evaluation:
    """What the model said of a study so far; `outcome` None while nothing was said."""

    outcome: Outcome | None = None
    reason: NotEvaluated | None = None
    failed: bool = False
    any_disease: float | None = None
    any_disease_low: float = 0.0
    any_disease_high: float = 1.0
    findings: tuple[FindingResult, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Everything that an entry's place depends on, besides the policy."""

    study_uid: str
    arrived_at: datetime
    urgency: Urgency = Urgency.ROUTINE
    evaluation: Evaluation = Evaluation()
    pins: tuple[Pin, ...] = ()
    aged_out: bool = False


@dataclass(frozen=True, order=True)
class Key:
    """The sort key; total, since no two studies share a UID."""

    band: int
    effective_at: datetime
    arrived_at: datetime
    study_uid: str


@dataclass(frozen=True)
class Term:
    """One line of the explanation; `used` marks the terms that add up to the advance."""

    name: str
    sentence: str
    minutes: float
    used: bool = False


@dataclass(frozen=True)
class Ranking:
    """A key with what explains it: the `minutes` of the used terms add up to `advance` exactly."""

    key: Key
    advance: timedelta
    terms: tuple[Term, ...]
    due_at: datetime

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the terms that made the place, most weighty first."""
        used = [term for term in self.terms if term.used and term.minutes]
        return tuple(term.sentence for term in sorted(used, key=lambda term: -abs(term.minutes)))


def ramp(probability: float, low: float, high: float) -> float:
    """Return 0 below `low`, 1 from `high` on, linear between: never decreasing in `probability`."""
    if probability >= high:
        return 1.0
    if probability < low or high <= low:
        return 0.0
    return (probability - low) / (high - low)


def _whole(minutes: float) -> float:
    # Microseconds are what the database keeps; rounding here makes terms and key agree exactly.
    return round(minutes * 60_000_000) / 60_000_000


def _candidates(inputs: Inputs, policy: Policy) -> list[Term]:
    """Return the terms of which the largest counts (a maximum, not a sum)."""
    terms = []
    if inputs.urgency is Urgency.URGENT:
        minutes = _whole(policy.minutes["urgent"])
        terms.append(Term("urgent", f"ordered as urgent: {minutes:g} min ahead", minutes))
    said = inputs.evaluation
    for result in said.findings:
        share = ramp(result.probability, result.low, result.high)
        minutes = _whole(policy.minutes[result.finding.value] * share)
        name = result.finding.value
        terms.append(Term(name, f"{name} {result.probability:.2f}: {minutes:.0f} min ahead", minutes))
    if said.any_disease is not None:
        share = ramp(said.any_disease, said.any_disease_low, said.any_disease_high)
        minutes = _whole(policy.minutes["any_disease"] * share)
        sentence = f"any disease {said.any_disease:.2f}: {minutes:.0f} min ahead"
        terms.append(Term("any_disease", sentence, minutes))
    unknown = _unevaluated_sentence(said)
    if unknown:
        minutes = _whole(policy.minutes["not_evaluated"])
        terms.append(Term("not_evaluated", f"{unknown}: {minutes:.0f} min ahead", minutes))
    return terms


def _unevaluated_sentence(said: Evaluation) -> str:
    if said.failed:
        return "evaluation failed"
    if said.outcome is None:
        return "not evaluated yet"
    if said.outcome is Outcome.NOT_EVALUATED:
        phrase = REASON_PHRASES[said.reason] if said.reason else "no reason given"
        return f"not evaluated, {phrase}"
    return ""


def _terms(inputs: Inputs, policy: Policy) -> tuple[Term, ...]:
    """Return every term; the used ones add up to an advance within 0..max_advance."""
    candidates = _candidates(inputs, policy)
    best = max(candidates, key=lambda term: term.minutes, default=None)
    terms = [Term(t.name, t.sentence, t.minutes, used=t is best) for t in candidates]
    total = best.minutes if best else 0.0
    for pin in inputs.pins:
        minutes = _whole(pin.minutes)
        verb = "pinned" if minutes >= 0 else "lowered"
        direction = "ahead" if minutes >= 0 else "back"
        sentence = f"{verb} by {pin.by}: {abs(minutes):.0f} min {direction} ({pin.reason})"
        terms.append(Term(verb, sentence, minutes, used=True))
        total += minutes
    most = _whole(policy.max_advance)
    if inputs.aged_out and total < most:
        sentence = f"waited longer than {policy.upper_limit_minutes:.0f} min: moved to the limit"
        terms.append(Term("upper_limit", sentence, _whole(most - total), used=True))
        total = most
    bounded = min(max(total, 0.0), most)
    if bounded != total:
        sentence = f"kept within 0 and {policy.max_advance:.0f} min"
        terms.append(Term("bound", sentence, _whole(bounded - total), used=True))
    return tuple(terms)


def rank(inputs: Inputs, policy: Policy) -> Ranking:
    """Return the place of an entry under a policy, with the terms that add up to it.

    Pure and independent of the time of day: only a changed input or policy changes the answer.
    In shadow mode the terms are computed all the same but the advance is 0, so that the list is
    first-in-first-out behind what a human called STAT.
    """
    terms = _terms(inputs, policy)
    micros = sum(round(term.minutes * 60_000_000) for term in terms if term.used)
    advance = timedelta(microseconds=micros)
    band = STAT_BAND if inputs.urgency is Urgency.STAT else ROUTINE_BAND
    if policy.mode is Mode.SHADOW:
        advance = timedelta(0)
        sentence = "shadow mode: listed first-in-first-out"
        terms = (
            *(Term(t.name, t.sentence, t.minutes) for t in terms),
            Term("shadow", sentence, 0.0, used=True),
        )
    key = Key(band, inputs.arrived_at - advance, inputs.arrived_at, inputs.study_uid)
    return Ranking(key, advance, terms, due_at(inputs, policy))


def due_at(inputs: Inputs, policy: Policy) -> datetime:
    """Return until when the entry should be read; re-assessment never moves it later than its class says."""
    if inputs.urgency is Urgency.STAT:
        name = "stat"
    elif inputs.evaluation.outcome is Outcome.POSITIVE:
        name = "positive"
    else:
        name = "other"
    return inputs.arrived_at + timedelta(minutes=policy.due[name])


def order(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Return the rankings in reading order; any permutation of the input gives the same list."""
    return sorted(rankings, key=lambda ranking: ranking.key)
