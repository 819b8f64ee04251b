"""The outbox: each result to each destination, tried until it is acknowledged, one destination at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import BigInteger, ColumnElement, cast, exists, select
from sqlalchemy.orm import Session

from triage.deliver import status
from triage.deliver.dicom import (
    ContextRefused,
    DicomDestination,
    Interrupted,
    NotSendable,
    Sender,
    StoredObject,
)
from triage.deliver.status import Verdict
from triage.domain.result import ResultState, ResultStep
from triage.errors import PeerUnreachable
from triage.store import results as rows
from triage.store.database import Database, announce
from triage.store.tables import Result
from triage.work.queue import SLACK, Queue, Stage, TakenJob

log = logging.getLogger(__name__)

#: Wait before the n-th try while a destination is away or busy; the last one repeats for ever.
BACKOFF = tuple(timedelta(seconds=seconds) for seconds in (1, 2, 4, 8, 15, 30, 60))
#: How often an object that the peer refuses is tried before a person is asked.
MAX_REFUSALS = 3
#: A job that meets another one of its destination at work waits this long for its turn,
_TURN_SECONDS = 0.25
#: then comes back after this time: a frozen destination must not keep the threads of the others.
_TURN_LATER = timedelta(seconds=5)
_VERSION_LATER = timedelta(seconds=1)
#: What stands behind all others of its destination comes back so much later than they.
_BEHIND = timedelta(milliseconds=1)
#: What a send that is going on at the end has for its own end, before it is cut off.
_STOP_SECONDS = 2.0


@dataclass
class _Channel:
    """One destination: whoever holds `turn` may send; before `not_before` nobody does."""

    sender: Sender
    turn: threading.Lock = field(default_factory=threading.Lock)
    not_before: datetime | None = None
    failures: int = 0
    #: Somebody waited for a turn in vain since the last answer, and put everybody's off.
    is_slow: bool = False

    def is_away(self, now: datetime) -> bool:
        """Return whether nobody may send yet; a clock that has gone back makes nobody wait longer."""
        return self.not_before is not None and now < self.not_before <= now + BACKOFF[-1] + SLACK


class Outbox:
    """The handler of the stage `deliver`.

    Its worker has a thread for each destination: a result that waits for its destination's turn longer than
    a moment is put off, so one that is frozen or slow holds up nobody else's results for long.
    """

    def __init__(
        self,
        db: Database,
        queue: Queue,
        *,
        results: Path,
        destinations: Sequence[DicomDestination],
        clock: Callable[[], datetime],
        patience_seconds: float | None = None,
    ) -> None:
        """`results` is the folder where the results' paths begin; connects to nothing yet."""
        self._db = db
        self._queue = queue
        self._folder = results
        self._clock = clock
        patience = {} if patience_seconds is None else {"patience_seconds": patience_seconds}
        self._channels = {one.name: _Channel(Sender(one, **patience)) for one in destinations}
        self._closed = False

    def deliver_result(self, job: TakenJob) -> None:
        """Send one result once: it is sent, dead with a reason, or this job comes back later.

        A destination that is away keeps all its results waiting, in order; it never kills one. An object
        that the peer refuses is dead after `MAX_REFUSALS` of that and waits for a person; so is one on which
        it breaks off or falls silent while it answers others.
        """
        with self._db.read() as session:
            row = session.get(Result, int(job.payload["result_id"]))
        if row is None or row.state is not ResultState.QUEUED:
            self._end(job)
            return
        channel = self._channels.get(row.destination)
        if channel is None:
            msg = f"No destination is called {row.destination} any more; add it again, or rebuild the result."
            self._give_up(job, row.id, msg)
            return
        if not channel.turn.acquire(timeout=0 if channel.is_slow else _TURN_SECONDS):
            channel.is_slow = True
            self._put_off(job, row.destination, "Waits for its turn.", self._clock() + _TURN_LATER)
            return
        try:
            self._take_turn(job, row, channel)
        finally:
            was_slow, channel.is_slow = channel.is_slow, False
            channel.turn.release()
        if was_slow and not channel.is_away(self._clock()) and not self._closed:
            with self._db.write() as session:
                self._move_all(session, row.destination, self._clock())

    def _take_turn(self, job: TakenJob, row: Result, channel: _Channel) -> None:
        now = self._clock()
        if self._closed:
            self._put_off(job, row.destination, "The service was stopped.", now + _TURN_LATER)
            return
        if channel.not_before is not None and channel.is_away(now):
            self._later(job, "The destination is away.", channel.not_before)
            return
        with self._db.read() as session:
            earlier = _has_earlier_version(session, row)
        if earlier:
            self._later(job, "Waits for an earlier version.", now + _VERSION_LATER)
            return
        try:
            answer = channel.sender.send(StoredObject.read(self._folder / row.path))
        except NotSendable as error:
            self._give_up(job, row.id, f"{error} Rebuild it: triage results rebuild.")
        except ContextRefused as error:
            self._refused(job, row, str(error))
        except PeerUnreachable as error:
            # What our own end cuts off says nothing about the object.
            if isinstance(error, Interrupted) and not self._closed:
                self._interrupted(job, row, channel, str(error))
            else:
                self._away(job, row, channel, str(error))
        except OSError as error:
            wait = BACKOFF[min(row.attempts, len(BACKOFF) - 1)]
            reason = f"The file can't be read now ({error.strerror})."
            with self._db.write() as session:
                self._note(session, job, row.id, reason, self._clock() + wait, refused=False)
        else:
            self._answered(job, row, channel, answer)

    def _answered(self, job: TakenJob, sent: Result, channel: _Channel, answer: int) -> None:
        meant, result_id = status.verdict(answer), sent.id
        if meant is Verdict.LATER:
            self._away(job, sent, channel, f"{channel.sender.peer}: {status.sentence(answer)}.")
            return
        channel.failures, channel.not_before = 0, None
        if meant is Verdict.REFUSED:
            self._refused(job, sent, f"{channel.sender.peer}: {status.sentence(answer)}.")
            return
        # The UID is derived from the content, so a peer that has this UID has this very object.
        with self._db.write() as session:
            row = session.get_one(Result, result_id)
            changes = {"attempts": row.attempts + 1, "last_error": ""}
            if row.state is ResultState.QUEUED:
                rows.step(session, row, ResultStep.SEND, self._clock(), changes)
            self._queue.finish(session, job)
        log.info(
            "A result was delivered.",
            extra={"event": "delivered", "result": result_id, "destination": row.destination},
        )

    def _away(
        self,
        job: TakenJob,
        row: Result,
        channel: _Channel,
        error: str,
        *,
        refused: bool = False,
        last: bool = False,
    ) -> None:
        """Put all results of the destination off together: one transaction, however many wait."""
        wait = BACKOFF[min(channel.failures, len(BACKOFF) - 1)]
        channel.failures += 1
        channel.not_before = self._clock() + wait
        with self._db.write() as session:
            self._move_all(session, row.destination, channel.not_before)
            run_at = channel.not_before + _BEHIND if last else channel.not_before
            self._note(session, job, row.id, error, run_at, refused=refused)

    def _interrupted(self, job: TakenJob, row: Result, channel: _Channel, error: str) -> None:
        """Let all results of the destination wait, this one behind the others: either may be to blame.

        It counts against the object only if the peer answered another one just before. So an object that no
        peer survives stands before nobody and is dead in the end, and a peer that survives none kills none.
        """
        to_blame = channel.failures == 0
        if to_blame and row.refusals + 1 >= MAX_REFUSALS:
            self._give_up(job, row.id, error)
            return
        self._away(job, row, channel, error, refused=to_blame, last=True)

    def _refused(self, job: TakenJob, row: Result, error: str) -> None:
        refusals = row.refusals + 1
        if refusals >= MAX_REFUSALS:
            self._give_up(job, row.id, error)
        else:
            with self._db.write() as session:
                run_at = self._clock() + BACKOFF[refusals]
                self._note(session, job, row.id, error, run_at, refused=True)

    def _give_up(self, job: TakenJob, result_id: int, error: str) -> None:
        with self._db.write() as session:
            row = session.get_one(Result, result_id)
            changes = {"attempts": row.attempts + 1, "last_error": error}
            if row.state is ResultState.QUEUED:
                rows.step(session, row, ResultStep.GIVE_UP, self._clock(), changes)
            self._queue.finish(session, job)
        log.error(
            "A result is dead until a person looks at it.",
            extra={"event": "delivery_dead", "result": result_id, "error": error},
        )

    def _note(
        self, session: Session, job: TakenJob, result_id: int, error: str, run_at: datetime, *, refused: bool
    ) -> None:
        """Count a try that came to nothing; the job comes back at `run_at`."""
        row = session.get_one(Result, result_id)
        row.attempts += 1
        row.refusals += refused
        row.last_error = error
        row.changed_at = self._clock()
        announce(session, "list")
        self._queue.retry(session, job, error, run_at)
        log.warning(
            "A result could not be delivered yet.",
            extra={"event": "delivery_failed", "result": result_id, "error": error},
        )

    def _later(self, job: TakenJob, why: str, run_at: datetime) -> None:
        """Give the job back; nothing was tried."""
        with self._db.write() as session:
            self._queue.retry(session, job, why, run_at)

    def _put_off(self, job: TakenJob, destination: str, why: str, run_at: datetime) -> None:
        """Give the job back with all others of its destination; nothing was tried."""
        with self._db.write() as session:
            self._queue.retry(session, job, why, run_at)
            self._move_all(session, destination, run_at)

    def _move_all(self, session: Session, destination: str, run_at: datetime) -> None:
        """Let everything that waits for a destination be due at one moment, in the order of its jobs."""

        def among(key: ColumnElement[str]) -> ColumnElement[bool]:
            return exists().where(Result.id == cast(key, BigInteger), Result.destination == destination)

        self._queue.move(session, Stage.DELIVER, among, run_at)

    def _end(self, job: TakenJob) -> None:
        with self._db.write() as session:
            self._queue.finish(session, job)

    def close(self) -> None:
        """Send nothing more, and release every association; a send that does not end soon is cut off."""
        self._closed = True
        deadline = time.monotonic() + _STOP_SECONDS
        for channel in self._channels.values():
            channel.sender.close(deadline)


def _has_earlier_version(session: Session, row: Result) -> bool:
    """Return whether an earlier result of the study still waits for the same destination."""
    query = select(Result.id).where(
        Result.study_id == row.study_id,
        Result.destination == row.destination,
        Result.state == ResultState.QUEUED,
        Result.id < row.id,
    )
    return session.scalars(query.limit(1)).first() is not None


def retry(session: Session, queue: Queue, row: Result, now: datetime) -> None:
    """Put a dead or sent result on its way again, in the caller's transaction.

    Raises:
        IllegalTransition: it is on its way already, or has no destination.
    """
    rows.step(session, row, ResultStep.RETRY, now, {"attempts": 0, "refusals": 0, "last_error": ""})
    queue.put(session, Stage.DELIVER, str(row.id), {"result_id": row.id}, now)
