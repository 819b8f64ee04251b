"""Group commit: objects that arrive together share one transaction, and each is answered after it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from triage.errors import TriageError
from triage.receive.verdict import Status, Verdict
from triage.store.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

#: The most objects in one transaction: a batch must not keep its first sender waiting.
MAX_BATCH = 64
_UNAVAILABLE = Verdict(Status.LATER, "The database can't be written just now; send again later.")


class _Waiting(Generic[T]):
    """One object that waits for its transaction, and what wakes its thread."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.verdict: Verdict | None = None
        # Held until the verdict is there, or until it is this thread's turn to lead.
        self.asleep = threading.Lock()
        self.asleep.acquire()


class GroupCommit(Generic[T]):
    """Runs `apply(session, items)` in one transaction for all items that wait at the same time.

    A thread that finds no transaction running leads one at once: nobody waits for company. While it goes to
    the disk the next batch gathers; then its first thread is woken to lead, and no other before its time.
    """

    def __init__(self, db: Database, apply: Callable[[Session, Sequence[T]], list[Verdict]]) -> None:
        """Commit nothing yet."""
        self._db = db
        self._apply = apply
        self._lock = threading.Lock()
        self._queue: list[_Waiting[T]] = []
        self._led = False

    def commit(self, item: T) -> Verdict:
        """Return the item's verdict once it is durable, or 0xA700 when the database did not take it."""
        own = _Waiting(item)
        with self._lock:
            self._queue.append(own)
            led, self._led = self._led, True
        if led:
            own.asleep.acquire()
        if own.verdict is None:
            self._lead()
        return own.verdict or _UNAVAILABLE

    def _lead(self) -> None:
        """Commit the batch that waits, of which this thread's item is the first."""
        with self._lock:
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
        verdicts: Sequence[Verdict] = ()
        try:
            verdicts = self._verdicts([waiting.item for waiting in batch])
        finally:
            for number, waiting in enumerate(batch):
                waiting.verdict = verdicts[number] if verdicts else _UNAVAILABLE
            with self._lock:
                following = self._queue[0] if self._queue else None
                self._led = following is not None
            # The next leader first: its transaction need not wait for our senders' answers.
            if following is not None:
                following.asleep.release()
            for waiting in batch[1:]:
                waiting.asleep.release()

    def _verdicts(self, items: Sequence[T]) -> Sequence[Verdict]:
        together = self._together(items)
        if together is not None or len(items) == 1:
            return together or [_UNAVAILABLE]
        # One bad item must not fail the others.
        return [(self._together([item]) or [_UNAVAILABLE])[0] for item in items]

    def _together(self, items: Sequence[T]) -> list[Verdict] | None:
        """Return the verdicts once all are committed, or None when nothing of it was."""
        try:
            # The file of each item is on the disk and holds all that its rows say: see `recovery`.
            with self._db.write(repeatable=True) as session:
                verdicts = self._apply(session, items)
        except (SQLAlchemyError, TriageError) as error:
            # The text of a database error may quote a statement's values; its type says enough.
            log.error(
                "received objects could not be committed",
                extra={"event": "commit_failed", "objects": len(items), "error": type(error).__name__},
            )
            return None
        return verdicts
