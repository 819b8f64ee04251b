"""The order: one key for each waiting entry, its explanation, and nothing that a clock changes.

`ORDER BY band, effective_at, arrived_at, study_uid` is the reading order. Since `effective_at` is
`arrived_at - advance` and `0 <= advance <= max_advance`, an entry is overtaken only by STAT, or by one
that arrived less than `max_advance` after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    #: Why a film beside the evaluated ones has no answer.
    unseen: NotEvaluated | None = None
    #: False while a film may still come or be judged: until then no sign of disease says nothing.
    settled: bool = True


@dataclass(frozen=True)
class Inputs:
    """Everything that an entry's place depends on, besides the policy."""

    study_uid: str
    arrived_at: datetime
    urgency: Urgency = Urgency.ROUTINE
    evaluation: Evaluation = Evaluation()
    pins: tuple[Pin, ...] = ()
    aged_out: bool = False
    news: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """Why a film may be read earlier, before any policy says by how much.

    `name` is a key of the policy's minutes, `share` (0..1) how much of them applies, `said` what is shown.
    """

    name: str
    said: str
    share: float


@dataclass(frozen=True)
class Standing:
    """All that an entry's place depends on once the films were looked at; with a policy it is a key."""

    study_uid: str
    arrived_at: datetime
    urgency: Urgency = Urgency.ROUTINE
    grounds: tuple[Ground, ...] = ()
    #: Which of the policy's due times applies: `stat`, `positive`, `other`.
    due: str = "other"
    pins: tuple[Pin, ...] = ()
    aged_out: bool = False
    #: What the reader must know besides the place, which it doesn't move.
    news: tuple[str, ...] = ()


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
        """The sentences of the terms that made the place, most weighty first, behind what is new."""
        news = tuple(term.sentence for term in self.terms if term.name == _NEWS)
        used = [term for term in self.terms if term.used and term.minutes]
        return (*news, *(term.sentence for term in sorted(used, key=lambda term: -abs(term.minutes))))


def ramp(probability: float, low: float, high: float) -> float:
    """Return 0 below `low`, 1 from `high` on, linear between: never decreasing in `probability`."""
    if probability >= high:
        return 1.0
    if probability < low or high <= low:
        return 0.0
    return (probability - low) / (high - low)


#: A film came after the study was read, or while a reader has it.
NEW_AFTER_READ = "new film after it was read"
NEW_SINCE_CLAIM = "new film since it was claimed"
_NEWS = "news"

#: Time is kept as whole microseconds, so that terms and key agree exactly.
_MICROS = 60_000_000


def micros_of(minutes: float) -> int:
    """Return minutes as the whole microseconds in which keys are computed."""
    return round(minutes * _MICROS)


def grounds_of(inputs: Inputs) -> tuple[Ground, ...]:
    """Return what speaks for reading an entry earlier; of these the largest counts (a maximum, not a sum)."""
    grounds = []
    if inputs.urgency is Urgency.URGENT:
        grounds.append(Ground("urgent", "ordered as urgent", 1.0))
    said = inputs.evaluation
    for result in said.findings:
        name = result.finding.value
        share = ramp(result.probability, result.low, result.high)
        grounds.append(Ground(name, f"{name} {result.probability:.2f}", share))
    if said.any_disease is not None:
        share = ramp(said.any_disease, said.any_disease_low, said.any_disease_high)
        grounds.append(Ground("any_disease", f"any disease {said.any_disease:.2f}", share))
    unknown = _unevaluated_sentence(said)
    if unknown:
        grounds.append(Ground("not_evaluated", unknown, 1.0))
    return tuple(grounds)


def _unevaluated_sentence(said: Evaluation) -> str:
    if said.failed:
        return "evaluation failed"
    if said.outcome is None:
        return "not evaluated yet"
    if said.outcome is Outcome.NOT_EVALUATED:
        phrase = REASON_PHRASES[said.reason] if said.reason else "no reason given"
        return f"not evaluated, {phrase}"
    # Whatever the others show: else a higher probability could move the study back.
    if said.unseen:
        return f"a film was not evaluated, {REASON_PHRASES[said.unseen]}"
    return "" if said.settled else "not evaluated in full yet"


def standing_of(inputs: Inputs) -> Standing:
    """Return what the films and the readers said of an entry, in the form that a policy weighs."""
    if inputs.urgency is Urgency.STAT:
        due = "stat"
    else:
        due = "positive" if inputs.evaluation.outcome is Outcome.POSITIVE else "other"
    return Standing(
        inputs.study_uid,
        inputs.arrived_at,
        inputs.urgency,
        grounds_of(inputs),
        due,
        inputs.pins,
        inputs.aged_out,
        inputs.news,
    )


def advance_micros(
    shares: Iterable[tuple[str, float]], pins: Iterable[float], aged_out: bool, policy: Policy
) -> int:
    """Return by how many microseconds an entry is moved ahead: within 0 and `max_advance`, 0 in shadow mode.

    `shares` are names of the policy's minutes with the share that applies, `pins` minutes of readers' shifts.
    """
    if policy.mode is Mode.SHADOW:
        return 0
    most = micros_of(policy.max_advance)
    if aged_out:
        return most
    minutes = policy.minutes
    # Rounding keeps the order, so the largest is looked for first and only it is rounded.
    best = max([minutes[name] * share for name, share in shares], default=0)
    return min(max(micros_of(best) + sum(map(micros_of, pins)), 0), most)


def _terms(standing: Standing, policy: Policy) -> tuple[Term, ...]:
    """Return every term; the used ones add up to an advance within 0..max_advance."""
    weighed = [(ground, micros_of(policy.minutes[ground.name] * ground.share)) for ground in standing.grounds]
    best = max(weighed, key=lambda pair: pair[1], default=None)
    terms = [
        _term(pair[0].name, f"{pair[0].said}: {pair[1] / _MICROS:.0f} min ahead", pair[1], used=pair is best)
        for pair in weighed
    ]
    total = best[1] if best else 0
    for pin in standing.pins:
        micros = micros_of(pin.minutes)
        verb, direction = ("pinned", "ahead") if micros >= 0 else ("lowered", "back")
        sentence = f"{verb} by {pin.by}: {abs(micros) / _MICROS:.0f} min {direction} ({pin.reason})"
        terms.append(_term(verb, sentence, micros, used=True))
        total += micros
    most = micros_of(policy.max_advance)
    if standing.aged_out and total < most:
        sentence = f"waited longer than {policy.upper_limit_minutes:.0f} min: moved to the limit"
        terms.append(_term("upper_limit", sentence, most - total, used=True))
        total = most
    bounded = min(max(total, 0), most)
    if bounded != total:
        sentence = f"kept within 0 and {policy.max_advance:.0f} min"
        terms.append(_term("bound", sentence, bounded - total, used=True))
    news = [_term(_NEWS, sentence, 0, used=True) for sentence in standing.news]
    if policy.mode is Mode.SHADOW:
        sentence = "shadow mode: listed first-in-first-out"
        shadow = _term("shadow", sentence, 0, used=True)
        return (*news, *(replace(term, used=False) for term in terms), shadow)
    return (*news, *terms)


def _term(name: str, sentence: str, micros: int, *, used: bool) -> Term:
    return Term(name, sentence, micros / _MICROS, used)


def rank(inputs: Inputs, policy: Policy) -> Ranking:
    """Return the place of an entry under a policy, with the terms that add up to it.

    Pure and independent of the time of day: only a changed input or policy changes the answer.
    In shadow mode the terms are computed all the same but the advance is 0, so that the list is
    first-in-first-out behind what a human called STAT.
    """
    return place(standing_of(inputs), policy)


def place(standing: Standing, policy: Policy) -> Ranking:
    """Return the place that `rank` gives, from what is kept with the entry: no film is looked at again."""
    key, advance, due_at = spot(standing, policy)
    return Ranking(key, advance, _terms(standing, policy), due_at)


def spot(standing: Standing, policy: Policy) -> tuple[Key, timedelta, datetime]:
    """Return key, advance and due time of `place`, without the explanation."""
    shares = [(ground.name, ground.share) for ground in standing.grounds]
    pins = [pin.minutes for pin in standing.pins]
    advance = timedelta(microseconds=advance_micros(shares, pins, standing.aged_out, policy))
    band = STAT_BAND if standing.urgency is Urgency.STAT else ROUTINE_BAND
    key = Key(band, standing.arrived_at - advance, standing.arrived_at, standing.study_uid)
    return key, advance, standing.arrived_at + timedelta(minutes=policy.due[standing.due])


def order(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Return the rankings in reading order; any permutation of the input gives the same list."""
    return sorted(rankings, key=lambda ranking: ranking.key)
