"""What was turned away: a log line at once, a row soon, and no flood of either."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from triage.receive.text import clean
from triage.store import refusals
from triage.store.database import Database

log = logging.getLogger(__name__)

#: The same refusal of the same sender is written once in this time; the log and the metric count them all.
QUIET = timedelta(seconds=5)
_WAITING = 1000


class Peer(Protocol):
    """Who was refused."""

    @property
    def ae_title(self) -> str:
        """The title as the peer gave it."""

    @property
    def host(self) -> str:
        """The peer's address."""


@dataclass(frozen=True)
class _Note:
    at: datetime
    ae_title: str
    host: str
    channel: str
    status: str
    sentence: str


class RefusalLog:
    """Notes refusals for the log, the metrics and the page, without ever holding up or failing an answer."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        """Write nothing yet; `start` begins the thread that writes rows."""
        self._db = db
        self._clock = clock
        self._notes: queue.Queue[_Note | None] = queue.Queue(_WAITING)
        self._lock = threading.Lock()
        self._recent: dict[tuple[str, str, str, str, str], datetime] = {}
        self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)

    def start(self) -> None:
        """Begin to write rows."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Write what waits, then end."""
        if self._thread.is_alive():
            self._notes.put(None)
            self._thread.join(timeout)

    def note(self, peer: Peer, channel: str, status: str, sentence: str) -> None:
        """Note that `peer` was told `status`; `sentence` names no patient."""
        now = self._clock()
        title, host = clean(peer.ae_title, 64), clean(peer.host, 64)
        with self._lock:
            key = (title, host, channel, status, sentence)
            last = self._recent.get(key)
            if last is not None and abs(now - last) < QUIET:
                return
            if len(self._recent) > _WAITING:
                self._recent = {k: at for k, at in self._recent.items() if abs(now - at) < QUIET}
            self._recent[key] = now
        log.warning(
            sentence,
            extra={"event": "refused", "channel": channel, "status": status, "sender": title, "host": host},
        )
        try:
            self._notes.put_nowait(_Note(now, title, host, channel, status, sentence))
        except queue.Full:
            log.error("too many refusals to write down", extra={"event": "refusals_dropped"})

    def _run(self) -> None:
        while True:
            note = self._notes.get()
            if note is None:
                return
            try:
                with self._db.write() as session:
                    refusals.record(
                        session,
                        now=note.at,
                        sender=note.ae_title,
                        host=note.host,
                        channel=note.channel,
                        status=note.status,
                        sentence=note.sentence,
                    )
            except SQLAlchemyError as error:
                log.error(
                    "a refusal could not be written down",
                    extra={"event": "refusal_lost", "error": type(error).__name__},
                )
