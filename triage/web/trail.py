"""The audit log as the web writes it: gathered for a moment, committed together, never dropped silently.

A row for each request would make every reader a writer of the database. Reads are therefore committed
in batches by one thread, at most `DELAY` after they were served; when the log can't be written, patient
data is no longer served (`Trail.check`).
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError

from triage.store import audits
from triage.store.audits import AuditEvent, AuditOutcome, AuditRecord
from triage.store.database import Database
from triage.web.problems import WebError

log = logging.getLogger(__name__)

DELAY = 0.25  # seconds
#: A page that refreshes itself is one access a minute, not one for each refresh.
SAME_ACCESS = timedelta(minutes=1)
#: Each of so many alerts of an address within the span is a row; of more than that, the same again is joined.
EACH_ALERT = 30
ALERT_SPAN = timedelta(minutes=15)
_MOST = 20_000
_REMEMBERED = 5_000


class Trail:
    """Takes records from any thread; `start` and `stop` frame its own."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: list[AuditRecord] = []
        self._recent: OrderedDict[tuple[str, ...], datetime] = OrderedDict()
        self._alerts: OrderedDict[str, list[datetime]] = OrderedDict()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.flush()

    def check(self) -> None:
        """Refuse to go on when the log can't be written.

        Raises:
            WebError: too many records wait.
        """
        if len(self._pending) >= _MOST:
            sentence = "The audit log can't be written, so no patient data is shown; see the service's log."
            raise WebError("overloaded", sentence)

    def accessed(
        self, event: AuditEvent, actor: str, host: str, *, study_uid: str = "", detail: str = ""
    ) -> None:
        """Record that somebody read a patient's data; the same again within a minute is one access."""
        self.check()
        now = self._clock()
        with self._lock:
            is_new = self._is_new((event.value, actor, host, study_uid, detail), now)
        if is_new:
            action = "E" if event is AuditEvent.QUERY else "R"
            self._put(AuditRecord(now, event, action, actor, host, study_uid, detail=detail))

    def alerted(self, host: str, detail: str) -> None:
        """Record that somebody unknown was turned away; a stranger who goes on and on can't flood the log."""
        event, failed, now = AuditEvent.SECURITY_ALERT, AuditOutcome.MINOR_FAILURE, self._clock()
        with self._lock:
            times = [at for at in self._alerts.pop(host, ()) if timedelta(0) <= now - at < ALERT_SPAN]
            is_rare = len(times) < EACH_ALERT
            self._alerts[host] = [*times, now] if is_rare else times
            while len(self._alerts) > _REMEMBERED:
                self._alerts.popitem(last=False)
            is_new = self._is_new((event.value, host, detail), now)
        if is_rare or is_new:
            self._put(AuditRecord(now, event, "E", "", host, outcome=failed, detail=detail))

    def _is_new(self, key: tuple[str, ...], now: datetime) -> bool:
        """Return whether the last of its kind is a while ago, and remember this one if so."""
        last = self._recent.get(key)
        if last is not None and timedelta(0) <= now - last < SAME_ACCESS:
            return False
        self._recent[key] = now
        self._recent.move_to_end(key)
        while len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return True

    def record(
        self,
        event: AuditEvent,
        action: str,
        actor: str,
        host: str,
        *,
        study_uid: str = "",
        outcome: AuditOutcome = AuditOutcome.SUCCESS,
        detail: str = "",
    ) -> None:
        """Record an event that is never joined with another."""
        self._put(AuditRecord(self._clock(), event, action, actor, host, study_uid, outcome, detail))

    def flush(self) -> None:
        """Commit what waits, now."""
        with self._lock:
            batch, self._pending = self._pending, []
        if not batch:
            return
        try:
            with self._db.write() as session:
                audits.append(session, batch)
        except SQLAlchemyError:
            log.exception(
                "The audit log could not be written; it is tried again.", extra={"event": "audit_failed"}
            )
            with self._lock:
                self._pending = batch + self._pending

    def _put(self, record: AuditRecord) -> None:
        with self._lock:
            self._pending.append(record)
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            self._stopping.wait(DELAY)
            self.flush()
            if self._pending and not self._stopping.is_set():
                self._stopping.wait(1.0)
                self._wake.set()
