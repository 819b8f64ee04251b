"""Which of the studies that are being received are due, without a look at all the others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from triage.domain.study import CompletedBy

#: Studies that are due within this time are taken together.
TOGETHER = 0.2  # seconds
#: How often studies are looked at again that only an open association holds back.
_AGAIN = 0.5  # seconds


@dataclass
class Watch:
    """A study whose images still come; times are of the monotonic clock."""

    last: float
    due: float
    reason: CompletedBy
    sender: tuple[str, str]
    associations: set[int] = field(default_factory=set)


class Watches:
    """Studies by the time at which each is complete if nothing more comes; not thread-safe.

    Each study with a due time has an entry in the queue that is not later. An object that comes puts the
    due time off, and the entry is corrected when its turn comes: an object costs nothing here.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._watches: dict[int, Watch] = {}
        self._queue: list[tuple[float, int]] = []
        #: Due, but held back by what an open association may still bring.
        self._held: set[int] = set()
        self._look_at_held = math.inf

    def get(self, study_id: int) -> Watch | None:
        """Return what is known of a study, or None."""
        return self._watches.get(study_id)

    def add(self, study_id: int, watch: Watch) -> Watch:
        """Watch a study, unless it is watched already; return what is known of it."""
        known = self._watches.setdefault(study_id, watch)
        if known is watch:
            self._queue_up(study_id, watch)
        return known

    def _queue_up(self, study_id: int, watch: Watch) -> None:
        # What is never due by itself has no turn: it waits for `hurry`.
        if watch.due < math.inf:
            heapq.heappush(self._queue, (watch.due, study_id))

    def forget(self, study_id: int, before: float) -> None:
        """Watch a study no more, unless an object of it came at or after a moment."""
        watch = self._watches.get(study_id)
        if watch is not None and watch.last < before:
            del self._watches[study_id]
            self._held.discard(study_id)

    def hurry(self, study_id: int, watch: Watch, due: float) -> None:
        """Give a study a due time that may be earlier."""
        watch.due = due
        self._held.discard(study_id)
        heapq.heappush(self._queue, (due, study_id))

    def look_at_held(self, now: float) -> None:
        """Look again soon: an association ended."""
        if self._held:
            self._look_at_held = now

    @property
    def next(self) -> float:
        """When the next look is worth it; infinite where nothing is watched."""
        return min(self._queue[0][0] if self._queue else math.inf, self._look_at_held)

    def take_due(self, now: float, held: Callable[[Watch], bool]) -> list[tuple[int, CompletedBy]]:
        """Return the studies that are complete, and forget them; `held` says which must wait on."""
        if now < self.next:
            return []
        due = dict.fromkeys(self._held)
        while self._queue and self._queue[0][0] <= now + TOGETHER:
            due[heapq.heappop(self._queue)[1]] = None
        self._held.clear()
        ready = []
        for study_id in due:
            watch = self._watches.get(study_id)
            if watch is None:
                continue
            if watch.due > now + TOGETHER:
                self._queue_up(study_id, watch)
            elif held(watch):
                self._held.add(study_id)
            else:
                ready.append((study_id, watch.reason))
                del self._watches[study_id]
        self._look_at_held = now + _AGAIN if self._held else math.inf
        return ready
