"""Threads that serve one association after the other: to start one costs a sender as much as an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

_IDLE = 8


class Crew:
    """Runs each piece of work at once, on a thread that is free or on a new one."""

    def __init__(self) -> None:
        """Start no thread yet."""
        self._lock = threading.Lock()
        self._free: list[_Hand] = []
        self._closed = False

    def give(self, work: Callable[[], None]) -> None:
        """Have `work` done; it must not raise."""
        with self._lock:
            hand = self._free.pop() if self._free else None
        if hand is None:
            hand = _Hand(self)
            hand.start()
        hand.work = work
        hand.asleep.release()

    def takes_back(self, hand: _Hand) -> bool:
        """Keep a thread for the next piece of work; returns False where there are enough."""
        with self._lock:
            kept = not self._closed and len(self._free) < _IDLE
            if kept:
                self._free.append(hand)
        return kept

    def close(self) -> None:
        """Let the idle threads end now, and the others when they are done."""
        with self._lock:
            free, self._free, self._closed = self._free, [], True
        for hand in free:
            hand.asleep.release()


class _Hand(threading.Thread):
    def __init__(self, crew: Crew) -> None:
        super().__init__(name="association", daemon=True)
        self._crew = crew
        self.work: Callable[[], None] | None = None
        self.asleep = threading.Lock()
        self.asleep.acquire()

    def run(self) -> None:
        while True:
            self.asleep.acquire()
            work, self.work = self.work, None
            if work is None:
                return
            work()
            if not self._crew.takes_back(self):
                return
