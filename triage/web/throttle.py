"""Guessing passwords is made slow: failed logins are counted by name and by address."""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime, timedelta

WINDOW = timedelta(minutes=15)
#: Failures within the window after which a key must wait.
PER_NAME_AND_HOST = 5
PER_HOST = 30
PER_NAME = 100
_KEPT = 10_000


class Throttle:
    """Counts failures within a sliding window; thread-safe, bounded, forgotten at a restart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: OrderedDict[tuple[str, str], list[datetime]] = OrderedDict()

    def wait(self, name: str, host: str, now: datetime) -> int:
        """Return for how many seconds the next attempt must wait; 0 when it may be made."""
        with self._lock:
            return max(self._wait(key, most, now) for key, most in self._keys(name, host))

    def failed(self, name: str, host: str, now: datetime) -> None:
        """Count a failed login."""
        with self._lock:
            for key, most in self._keys(name, host):
                times = self._failures.setdefault(key, [])
                times.append(now)
                del times[:-most]
                self._failures.move_to_end(key)
            while len(self._failures) > _KEPT:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, host: str) -> None:
        """Forget the failures of this name from this address."""
        with self._lock:
            self._failures.pop((name, host), None)

    @staticmethod
    def _keys(name: str, host: str) -> tuple[tuple[tuple[str, str], int], ...]:
        return (((name, host), PER_NAME_AND_HOST), (("", host), PER_HOST), ((name, ""), PER_NAME))

    def _wait(self, key: tuple[str, str], most: int, now: datetime) -> int:
        times = [at for at in self._failures.get(key, ()) if now - at < WINDOW]
        if len(times) < most:
            return 0
        return int((times[-most] + WINDOW - now).total_seconds()) + 1
