"""Threads that take the jobs of one stage, one job at a time each."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from triage.store.database import Database
from triage.work.queue import LONGEST_WAIT, Queue, Stage, TakenJob

log = logging.getLogger(__name__)

#: The longest sleep of an idle worker: what another process's job waits at most.
IDLE_WAIT = 0.5  # seconds
#: Wait before the n-th try of a job whose handler failed unexpectedly.
BACKOFF = (*(timedelta(seconds=s) for s in (1, 5, 30, 120)), LONGEST_WAIT)


class Worker:
    """Runs `handler` for each job of a stage until stopped.

    The handler finishes its job in the transaction of its own work. One that raises gives the job back
    with a growing wait: a poison job never blocks the ones behind it.
    """

    def __init__(
        self,
        db: Database,
        queue: Queue,
        stage: Stage,
        handler: Callable[[TakenJob], None],
        clock: Callable[[], datetime],
        threads: int = 1,
    ) -> None:
        """Start nothing yet."""
        self._db = db
        self._queue = queue
        self._stage = stage
        self._handler = handler
        self._clock = clock
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"{stage.value}-{n}", daemon=True) for n in range(threads)
        ]
        #: Unexpected failures since the start, for the metrics.
        self.failures = 0

    def start(self) -> None:
        """Begin to take jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Take no new job, and wait up to `timeout` seconds for the running ones."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if not self.run_one():
                    self._queue.wait(self._stage, IDLE_WAIT)
            except Exception:  # the top of the thread: a database that is away must not end the worker
                self.failures += 1
                log.exception("a worker could not reach its queue", extra={"event": "worker_failed"})
                self._stop.wait(1.0)

    def run_one(self) -> bool:
        """Take and run one job; returns whether there was one."""
        job = self._queue.take(self._stage, self._clock())
        if job is None:
            return False
        try:
            self._handler(job)
        except Exception as error:  # the top of a job: whatever it is, the next job must run
            self.failures += 1
            log.exception("a job failed and is tried again", extra={"event": "job_failed", "job": job.key})
            wait = BACKOFF[min(job.attempts, len(BACKOFF)) - 1]
            with self._db.write() as session:
                self._queue.retry(session, job, type(error).__name__, self._clock() + wait)
        return True
