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
    """One object that waits for its transaction."""

    def __init__(self, item: T) -> None:
        self.item = item
        self.verdict: Verdict | None = None


class GroupCommit(Generic[T]):
    """Runs `apply(session, items)` in one transaction for all items that wait at the same time.

    The first thread that finds no transaction running leads one for all that wait; while its commit goes to
    the disk the next batch gathers. Nobody waits for company: a lone object is committed at once.
    """

    def __init__(self, db: Database, apply: Callable[[Session, Sequence[T]], list[Verdict]]) -> None:
        """Commit nothing yet."""
        self._db = db
        self._apply = apply
        self._turn = threading.Condition()
        self._queue: list[_Waiting[T]] = []
        self._leading = False

    def commit(self, item: T) -> Verdict:
        """Return the item's verdict once it is durable, or 0xA700 when the database did not take it."""
        waiting = _Waiting(item)
        with self._turn:
            self._queue.append(waiting)
        while waiting.verdict is None:
            batch = self._take_turn(waiting)
            if batch:
                self._lead(batch)
        return waiting.verdict

    def _take_turn(self, waiting: _Waiting[T]) -> Sequence[_Waiting[T]]:
        """Return a batch to lead, or nothing once somebody else has led this item's."""
        with self._turn:
            while self._leading and waiting.verdict is None:
                self._turn.wait()
            if waiting.verdict is not None:
                return ()
            self._leading = True
            batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            return batch

    def _lead(self, batch: Sequence[_Waiting[T]]) -> None:
        try:
            verdicts = self._together([waiting.item for waiting in batch])
            if verdicts is None and len(batch) > 1:
                # One bad item must not fail the others.
                verdicts = [(self._together([w.item]) or [_UNAVAILABLE])[0] for w in batch]
        finally:
            with self._turn:
                for number, waiting in enumerate(batch):
                    waiting.verdict = verdicts[number] if verdicts else _UNAVAILABLE
                self._leading = False
                self._turn.notify_all()

    def _together(self, items: Sequence[T]) -> list[Verdict] | None:
        """Return the verdicts once all are committed, or None when nothing of it was."""
        try:
            with self._db.write() as session:
                verdicts = self._apply(session, items)
        except (SQLAlchemyError, TriageError) as error:
            # The text of a database error may quote a statement's values; its type says enough.
            log.error(
                "received objects could not be committed",
                extra={"event": "commit_failed", "objects": len(items), "error": type(error).__name__},
            )
            return None
        return verdicts
