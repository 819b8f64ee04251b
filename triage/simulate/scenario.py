"""What is simulated: who sends films, what is on them, what the model says, who reads; from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Any

from triage.domain.finding import Finding
from triage.domain.priority import Urgency
from triage.errors import TriageError

_HOURS = 24
_MOST_FILMS = 200_000


class ScenarioError(TriageError):
    """A scenario that names what does not exist, or that no reading room can be."""

    code = "scenario"
    exit_code = 2


@dataclass(frozen=True)
class Kind:
    """One class of studies: how frequent, how urgent, how long to read, and what the model makes of it."""

    name: str
    #: Of all studies; the shares of all classes add up to 1.
    share: float
    urgency: Urgency = Urgency.ROUTINE
    #: Median of the log-normal reading time, and the standard deviation of its logarithm.
    reading_minutes: float = 3.0
    reading_spread: float = 0.5
    #: What the model reports when it reports something.
    finding: Finding = Finding.OTHER
    #: How often the finding is above the positive threshold, between both, and how often there is no answer.
    present: float = 0.0
    undetermined: float = 0.0
    not_evaluated: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """A reading room; hours count from midnight of the first day."""

    name: str
    kinds: tuple[Kind, ...]
    days: int = 5
    #: How many studies arrive in each hour of the day (a Poisson process with this rate).
    arrivals_per_hour: tuple[float, ...] = (4.0,) * _HOURS
    #: How many readers are at work in each hour of the day.
    readers: tuple[int, ...] = (1,) * _HOURS
    #: From the arrival to the model's answer.
    assessment_seconds: float = 5.0

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> Scenario:
        """Build a scenario from parsed TOML; `[[class]]` tables are its kinds.

        Raises:
            ScenarioError: an unknown key (named with the nearest known one), or a value that can't be.
        """
        values = dict(raw)
        tables = values.pop("class", [])
        if not isinstance(tables, list) or not tables:
            msg = "The scenario needs at least one [[class]] table."
            raise ScenarioError(msg)
        values["kinds"] = tuple(_kind(table) for table in tables)
        for name in ("arrivals_per_hour", "readers"):
            if name in values:
                values[name] = _by_hour(name, values[name])
        made: Scenario = _made(cls, "scenario key", values)
        _check(made)
        return made


def _kind(table: Any) -> Kind:
    if not isinstance(table, Mapping):
        msg = "Each [[class]] of the scenario must be a table."
        raise ScenarioError(msg)
    values = dict(table)
    for name, enum in (("urgency", Urgency), ("finding", Finding)):
        if name in values:
            try:
                values[name] = enum(values[name])
            except ValueError:
                msg = f"The scenario's {name} '{values[name]}' is not known; known: {', '.join(enum)}."
                raise ScenarioError(msg) from None
    kind: Kind = _made(Kind, "key of a class", values)
    for name in ("share", "present", "undetermined", "not_evaluated"):
        _number(f"{name} of '{kind.name}'", getattr(kind, name), 0, 1)
    _number(f"reading_minutes of '{kind.name}'", kind.reading_minutes, 0.01, 600)
    _number(f"reading_spread of '{kind.name}'", kind.reading_spread, 0, 3)
    if kind.present + kind.undetermined + kind.not_evaluated > 1 + 1e-9:
        msg = f"present, undetermined and not_evaluated of '{kind.name}' are more than 1 together."
        raise ScenarioError(msg)
    return kind


def _made(cls: Any, what: str, values: Mapping[str, Any]) -> Any:
    known = [field.name for field in fields(cls)]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}."
            msg = f"The {what} '{key}' is not known.{hint}"
            raise ScenarioError(msg)
    for field in fields(cls):
        if field.default is MISSING and field.name not in values:
            msg = f"The {what} '{field.name}' is missing."
            raise ScenarioError(msg)
    if not isinstance(values["name"], str) or not values["name"].strip():
        msg = f"The {what} 'name' must be a text."
        raise ScenarioError(msg)
    return cls(**values)


def _by_hour(name: str, value: Any) -> tuple[Any, ...]:
    hours = value if isinstance(value, list) else [value] * _HOURS
    if len(hours) != _HOURS:
        msg = f"The scenario's {name} is one number or 24, one for each hour; it has {len(hours)}."
        raise ScenarioError(msg)
    for hour in hours:
        _number(name, hour, 0, 10_000 if name == "arrivals_per_hour" else 1000)
        if name == "readers" and not isinstance(hour, int):
            msg = f"The scenario's readers are whole numbers, not {hour!r}."
            raise ScenarioError(msg)
    return tuple(hours)


def _check(scenario: Scenario) -> None:
    _number("days", scenario.days, 1, 366)
    _number("assessment_seconds", scenario.assessment_seconds, 0, 86_400)
    if not isinstance(scenario.days, int):
        msg = "The scenario's days are a whole number."
        raise ScenarioError(msg)
    names = [kind.name for kind in scenario.kinds]
    if len(set(names)) != len(names):
        msg = "Two classes of the scenario have the same name."
        raise ScenarioError(msg)
    total = sum(kind.share for kind in scenario.kinds)
    if abs(total - 1) > 1e-6:
        msg = f"The shares of the scenario's classes add up to {total:g}, not to 1."
        raise ScenarioError(msg)
    if sum(scenario.readers) == 0:
        msg = "Nobody reads in this scenario; give readers for at least one hour."
        raise ScenarioError(msg)
    if sum(scenario.arrivals_per_hour) * scenario.days > _MOST_FILMS:
        msg = f"The scenario has more than {_MOST_FILMS} studies; take fewer days."
        raise ScenarioError(msg)


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        msg = f"The scenario's {name} must be a number from {low:g} to {high:g}, not {value!r}."
        raise ScenarioError(msg)
