"""One shape for every life cycle: an enum of states and a table of the steps that are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from triage.errors import IllegalTransition

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True)
class Lifecycle(Generic[S, E]):
    """A table `(state, event) -> state`; whatever is not in it can't happen."""

    name: str
    table: Mapping[tuple[S, E], S]

    def after(self, state: S, event: E) -> S:
        """Return the state that follows, or raise `IllegalTransition` naming state and event."""
        try:
            return self.table[(state, event)]
        except KeyError:
            msg = f"A {self.name} that is '{state}' can't take the step '{event}'."
            raise IllegalTransition(msg) from None

    def sources(self, event: E) -> frozenset[S]:
        """Return every state from which `event` is allowed: what a guarded UPDATE compares with."""
        return frozenset(state for state, step in self.table if step == event)
