"""What both threads of an association share: queues that announce, and the listener's hooks."""

from __future__ import annotations

import hashlib
import logging
import queue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from triage.receive.parse import Claim
from triage.receive.spool import SpoolFile
from triage.receive.verdict import Verdict

log = logging.getLogger(__name__)

_REMEMBERED = 64


def failed(error: Exception) -> None:
    """Log that an association ends for a reason that nobody foresaw."""
    log.error(
        "an association is aborted", extra={"event": "association_failed", "error": type(error).__name__}
    )


class Hooks(Protocol):
    """What the listener does with an object, and with a connection that never became an association."""

    def begin(self, assoc: Any, claim: Claim) -> SpoolFile:
        """Return the file into which the object goes."""

    def finish(self, assoc: Any, file: SpoolFile) -> Verdict:
        """Return the answer for an object that is all there; never raises."""

    def abandon(self, assoc: Any, file: SpoolFile) -> None:
        """Forget an object whose sender went away."""

    def turned_away(self, host: str, status: str, sentence: str) -> None:
        """Note a connection that was closed before it could ask for an association."""


@dataclass(frozen=True)
class Negotiated:
    """What was agreed on an association; the same request is agreed on in the same way. Read only."""

    request: A_ASSOCIATE
    accepted: dict[int, PresentationContext]
    rejected: list[PresentationContext]
    #: The A-ASSOCIATE-AC as it was sent.
    answer: bytes


class Memory:
    """The latest negotiations by the bytes of their request: senders ask the same for each association."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._known: dict[bytes, Negotiated] = {}

    def recall(self, request: bytes) -> Negotiated | None:
        """Return what was agreed when the same was asked before."""
        return self._known.get(hashlib.sha256(request).digest())

    def keep(self, request: bytes, negotiated: Negotiated) -> None:
        """Remember an agreement; a request may hold a password, so only its hash is kept."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[hashlib.sha256(request).digest()] = negotiated


class Line:
    """A queue as pynetdicom uses one, without locks: the thread that waits for it waits for a socket too.

    `announce` wakes that thread where another one may put something in.
    """

    def __init__(self, announce: Callable[[], None] | None = None) -> None:
        """Hold nothing yet."""
        self.queue: deque[Any] = deque()
        self._announce = announce

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, then tell."""
        self.queue.append(item)
        if self._announce is not None:
            self._announce()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the oldest item, or raise `queue.Empty` at once: to wait here would be for ever."""
        try:
            return self.queue.popleft()
        except IndexError:
            raise queue.Empty from None

    def empty(self) -> bool:
        """Return whether nothing waits."""
        return not self.queue
