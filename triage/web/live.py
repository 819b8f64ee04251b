"""Server-sent events: every open page hears of a change as soon as it is committed.

Commits of this process wake the stream at once; those of other processes are seen by a cheap look at the
newest event row. A beat every two seconds lets a page notice a dead service within five.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from triage.store.database import Database
from triage.store.tables import EntryEvent, Refusal, StudyEvent

log = logging.getLogger(__name__)

BEAT = 2.0  # seconds
LOOK = 0.5  # seconds between looks at what other processes committed
#: A burst of commits becomes this many refreshes a second at most.
PAUSE = 0.1  # seconds


class Live:
    """Counts changes; `stream` tells one page of each."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.version = 0
        self.healthy = True
        db.on_commit(self._committed)

    async def start(self) -> None:
        """Begin to look; called on the loop that serves the streams."""
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._task = asyncio.create_task(self._look())

    def end(self) -> None:
        """End every stream, from any thread, so that the server can stop at once."""
        self._closing = True
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    async def stop(self) -> None:
        """End every stream and cease to look."""
        self.end()
        if self._task is not None:
            self._task.cancel()
        self._loop = None

    def _committed(self, topics: frozenset[str]) -> None:
        loop = self._loop
        if "list" in topics and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self.version += 1
        # Each waiter holds the event that was current when it began to wait.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _newest(self) -> tuple[int | None, ...]:
        with self._db.read() as session:
            return tuple(session.scalar(select(func.max(t.id))) for t in (EntryEvent, StudyEvent, Refusal))

    async def _look(self) -> None:
        seen: tuple[int | None, ...] | None = None
        while True:
            try:
                newest = await run_in_threadpool(self._newest)
            except SQLAlchemyError:
                if self.healthy:
                    log.exception("The list can't be read; pages say so.", extra={"event": "live_blind"})
                self._set_health(healthy=False)
            else:
                self._set_health(healthy=True)
                if seen is not None and newest != seen:
                    self._wake()
                seen = newest
            await asyncio.sleep(LOOK)

    def _set_health(self, *, healthy: bool) -> None:
        if healthy != self.healthy:
            self.healthy = healthy
            self._wake()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield `list` at the start and after each change, and `beat` in between; ends at shutdown."""
        told = -1
        yield b"retry: 1000\n\n"
        while not self._closing:
            changed = self._changed
            if self.version != told:
                told = self.version
                yield self._message("list")
                await asyncio.sleep(PAUSE)
                continue
            try:
                await asyncio.wait_for(changed.wait(), BEAT)
            except TimeoutError:
                yield self._message("beat")

    def _message(self, event: str) -> bytes:
        health = "true" if self.healthy else "false"
        now = self._clock().isoformat().replace("+00:00", "Z")
        data = f'{{"version": {self.version}, "healthy": {health}, "at": "{now}"}}'
        return f"event: {event}\nid: {self.version}\ndata: {data}\n\n".encode()
