"""The reading policy: how many minutes a film may be moved ahead, and for what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from typing import Any

from triage.domain.finding import Finding
from triage.errors import PolicyError


class Mode(StrEnum):
    """Whether the computed order is the one that is listed."""

    LIVE = "live"
    #: Everything is computed, stored and reported, but the list is first-in-first-out.
    SHADOW = "shadow"


#: No policy's `max_advance` is above this.
MAX_MINUTES = 10_000

_MINUTES: dict[str, float] = {
    Finding.TUBERCULOSIS.value: 240,
    Finding.COVID19.value: 240,
    Finding.BACTERIAL_PNEUMONIA.value: 180,
    Finding.VIRAL_PNEUMONIA.value: 120,
    Finding.OTHER.value: 60,
    "any_disease": 60,
    "not_evaluated": 60,
    "urgent": 120,
}
_DUE: dict[str, float] = {"stat": 30, "positive": 120, "other": 1440}


@dataclass(frozen=True)
class Policy:
    """Everything that the order depends on besides the films; all times in minutes.

    `minutes` has a key for each finding, for `any_disease` (a film that looks diseased without one
    finding standing out), for `not_evaluated` (pending, not evaluated or failed) and for `urgent`.
    """

    name: str = "default"
    mode: Mode = Mode.LIVE
    minutes: Mapping[str, float] = field(default_factory=lambda: dict(_MINUTES))
    #: No film is ever moved ahead by more: the bound of every overtaking.
    max_advance: float = 240
    #: After so long a wait an entry's advance becomes `max_advance`.
    upper_limit_minutes: float = 240
    #: Until when an entry should be read: `stat`, `positive`, `other`.
    due: Mapping[str, float] = field(default_factory=lambda: dict(_DUE))
    #: So long before the due time a warning is recorded.
    due_warning_minutes: float = 10
    #: The first rows of the page that do not move under the reader's hand.
    freeze: int = 3

    def __post_init__(self) -> None:
        """Refuse a policy under which a guarantee of the order would not hold."""
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 60 or not self.name.isprintable():
            msg = "The policy's name must be a text of 1 to 60 printable characters."
            raise PolicyError(msg)
        _check_keys("minutes", self.minutes, _MINUTES)
        _check_keys("due", self.due, _DUE)
        _check_number("max_advance", self.max_advance, 0, MAX_MINUTES)
        for name in _MINUTES:
            _check_number(f"minutes.{name}", self.minutes[name], 0, self.max_advance)
        for name in _DUE:
            _check_number(f"due.{name}", self.due[name], 0, 100_000)
        _check_number("upper_limit_minutes", self.upper_limit_minutes, 0, 100_000)
        _check_number("due_warning_minutes", self.due_warning_minutes, 0, 100_000)
        _check_number("freeze", self.freeze, 0, 100)
        if not isinstance(self.freeze, int):
            msg = f"The policy's freeze counts rows: a whole number, not {self.freeze!r}."
            raise PolicyError(msg)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical form: two policies with the same digest order every list alike."""
        return hashlib.sha256(json.dumps(self.to_mapping(), sort_keys=True).encode()).hexdigest()

    @property
    def version(self) -> str:
        """Name and the digest's beginning, as lists and events show it."""
        return f"{self.name}@{self.digest[:12]}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the policy as plain values, numbers as floats so that 60 and 60.0 are one policy."""
        plain = asdict(self)
        plain["mode"] = self.mode.value
        plain["minutes"] = {name: float(value) for name, value in sorted(self.minutes.items())}
        plain["due"] = {name: float(value) for name, value in sorted(self.due.items())}
        for name in ("max_advance", "upper_limit_minutes", "due_warning_minutes"):
            plain[name] = float(plain[name])
        return plain

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> Policy:
        """Build a policy from parsed TOML; absent keys keep their defaults.

        Raises:
            PolicyError: an unknown key (named with the nearest known one), a value of the wrong kind,
                a negative advance, or one above `max_advance`.
        """
        known = {f.name for f in cls.__dataclass_fields__.values()}
        for key in raw:
            if key not in known:
                raise PolicyError(_unknown("policy key", key, known))
        values: dict[str, Any] = dict(raw)
        for name, defaults in (("minutes", _MINUTES), ("due", _DUE)):
            given = values.get(name, {})
            if not isinstance(given, Mapping):
                msg = f"The policy's '{name}' must be a table of minutes."
                raise PolicyError(msg)
            values[name] = {**defaults, **given}
        if "mode" in values:
            try:
                values["mode"] = Mode(values["mode"])
            except ValueError:
                msg = f"The policy's mode '{values['mode']}' is not known; use 'live' or 'shadow'."
                raise PolicyError(msg) from None
        return cls(**values)


def _unknown(what: str, key: str, known: set[str] | Mapping[str, float]) -> str:
    near = get_close_matches(key, list(known), n=1)
    hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(sorted(known))}."
    return f"The {what} '{key}' is not known.{hint}"


def _check_keys(table: str, given: Mapping[str, float], known: Mapping[str, float]) -> None:
    for key in given:
        if key not in known:
            raise PolicyError(_unknown(f"policy key {table}", key, known))
    for key in known:
        if key not in given:
            msg = f"The policy lacks '{table}.{key}'."
            raise PolicyError(msg)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        msg = f"The policy's {name} must be a number from {low:g} to {high:g}, not {value!r}."
        raise PolicyError(msg)
