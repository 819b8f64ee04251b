"""When a study is complete: by the first evidence that says so, with the reason kept.

No certain signal exists (PS3.4 has none for storage), so films are judged as they come and only the report
waits for this. A late film opens the next version.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from triage.domain.study import CompletedBy, StudyState
from triage.errors import TriageError
from triage.receive.intake import Sender, Stored
from triage.receive.watch import Watch, Watches
from triage.store import entries, instances, studies
from triage.store.database import Database
from triage.work.queue import Queue, Stage

log = logging.getLogger(__name__)

#: After an association was released its sender may open the next one for the next object of the study.
RELEASE_GRACE = 1.0  # seconds
_NOT_LISTED = "A study without a radiograph is kept; it is not assessed and has no place in the list."
#: Notices about studies that never come must not pile up: the oldest goes first.
_MAX_EXPECTED = 1000
_RETRY = 1.0  # seconds until another look at what the database did not take or show


class Completion:
    """Watches the studies that are being received and completes each by the first evidence."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        clock: Callable[[], datetime],
        *,
        quiet: timedelta,
        evidence: Collection[CompletedBy],
        longest_hold: timedelta = timedelta(seconds=120),
        look_every: timedelta = timedelta(minutes=1),
    ) -> None:
        """Watch nothing yet; an open association holds the quiet timer back for at most `longest_hold`.

        Every `look_every` the studies are taken up that another process began and left.
        """
        self._db = db
        self._queue = queue
        self._clock = clock
        self._quiet = quiet.total_seconds()
        self._evidence = frozenset(evidence)
        self._hold = longest_hold.total_seconds()
        self._changed = threading.Condition()
        self._watched = Watches()
        #: Open associations, and whether each is in the middle of an object.
        self._open: dict[int, tuple[tuple[str, str], bool]] = {}
        #: Studies of which an association brought objects.
        self._brought: defaultdict[int, set[int]] = defaultdict(set)
        #: Studies that a notice lists, until all that it lists is here.
        self._expected: dict[str, tuple[frozenset[str], CompletedBy]] = {}
        #: Those of them of which something is new.
        self._to_check: set[str] = set()
        self._stopping = False
        #: When the thread looks again by itself; only what is due before that needs to wake it.
        self._wakes_at = 0.0
        self._look_every = look_every.total_seconds()
        self._look_at = math.inf
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)

    def start(self) -> None:
        """Take up the studies that an earlier run left, and begin."""
        self._take_up(None)
        self._thread.start()

    def _take_up(self, before: datetime | None) -> None:
        """Watch the studies that are being received, with `before` those without an object since then."""
        with self._db.read() as session:
            found = studies.receiving(session, before)
            left = [(study.id, study.sender, study.last_instance_at) for study in found]
        now, moment = time.monotonic(), self._clock()
        with self._changed:
            for study_id, sender, last in left:
                age = max((moment - last).total_seconds(), 0.0)
                due = max(self._quiet_after(now - age), now)
                self._watched.add(study_id, Watch(now - age, due, CompletedBy.QUIET, (sender, "")))
            self._look_at = now + self._look_every

    def _quiet_after(self, last: float) -> float:
        """Return when the quiet timer runs out; never where the site does not count it as evidence."""
        return last + self._quiet if CompletedBy.QUIET in self._evidence else math.inf

    def stop(self, timeout: float = 5.0) -> None:
        """Complete nothing more; what is being received is taken up again at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def stored(self, stored: Stored) -> None:
        """Note that an object of a study was kept just now; an `Intake` calls this."""
        now = time.monotonic()
        sender = (stored.sender.ae_title, stored.sender.host)
        with self._changed:
            due = self._quiet_after(now)
            watch = self._watched.add(stored.study_id, Watch(now, due, CompletedBy.QUIET, sender))
            watch.last, watch.due, watch.sender = now, due, sender
            watch.reason = CompletedBy.QUIET
            if stored.sender.association:
                watch.associations.add(stored.sender.association)
                self._brought[stored.sender.association].add(stored.study_id)
            if stored.study_uid in self._expected:
                self._to_check.add(stored.study_uid)
            self._wake_for(watch.due)

    def _wake_for(self, due: float) -> None:
        """Wake the thread, unless it looks soon enough anyway: an object must not cost it a look at all."""
        if self._to_check or due < self._wakes_at:
            self._changed.notify_all()

    def opened(self, sender: Sender) -> None:
        """Note that a sender opened an association."""
        with self._changed:
            self._open[sender.association] = ((sender.ae_title, sender.host), False)

    def busy(self, sender: Sender, *, busy: bool) -> None:
        """Note that an association is, or is no longer, in the middle of an object."""
        with self._changed:
            if sender.association in self._open:
                self._open[sender.association] = ((sender.ae_title, sender.host), busy)

    def closed(self, sender: Sender, *, released: bool) -> None:
        """Note that an association ended; only an orderly release is a sign that everything was sent."""
        now = time.monotonic()
        soon = now + min(RELEASE_GRACE, self._quiet)
        with self._changed:
            self._open.pop(sender.association, None)
            for study_id in self._brought.pop(sender.association, ()):
                watch = self._watched.get(study_id)
                if watch is None:
                    continue
                watch.associations.discard(sender.association)
                if not released or CompletedBy.ASSOCIATION_RELEASE not in self._evidence:
                    continue
                if soon < watch.due or watch.due <= now:
                    watch.reason = CompletedBy.ASSOCIATION_RELEASE
                    self._watched.hurry(study_id, watch, soon)
            self._watched.look_at_held(now)
            self._wake_for(self._watched.next)

    def expect(self, study_uid: str, instance_uids: Collection[str], by: CompletedBy) -> None:
        """Complete a study as soon as every listed object is here: a notice often comes before the images."""
        if by not in self._evidence or not instance_uids:
            return
        with self._changed:
            before = self._expected.pop(study_uid, (frozenset[str](), by))[0]
            if len(self._expected) >= _MAX_EXPECTED:
                self._expected.pop(next(iter(self._expected)))
            # Several performed steps of one study: all that any of them lists.
            self._expected[study_uid] = (before | frozenset(instance_uids), by)
            self._to_check.add(study_uid)
            self._changed.notify_all()

    def _check_expected(self, study_uids: Collection[str]) -> None:
        with self._changed:
            expected = {uid: self._expected[uid] for uid in study_uids if uid in self._expected}
        here = {}
        with self._db.read() as session:
            for study_uid in expected:
                here[study_uid] = instances.uids_of_study(session, study_uid)
        for study_uid, (listed, by) in expected.items():
            if listed <= here[study_uid]:
                self.said(study_uid, by)
                with self._changed:
                    self._expected.pop(study_uid, None)

    def said(self, study_uid: str, by: CompletedBy) -> bool:
        """Complete a study because a notice or a count says so; returns whether it was being received."""
        if by not in self._evidence:
            return False
        with self._db.read() as session:
            study = studies.find(session, study_uid)
            if study is None or study.state is not StudyState.RECEIVING:
                return False
            study_id = study.id
        now = time.monotonic()
        done = bool(self._complete([(study_id, by)]))
        if done:
            with self._changed:
                self._watched.forget(study_id, now)
        return done

    def _due(self, now: float) -> list[tuple[int, CompletedBy]]:
        """Return the studies that are complete by now, and forget them."""
        longest = max(self._hold, self._quiet)
        sending = {sender for sender, busy in self._open.values() if busy}

        def held(watch: Watch) -> bool:
            """Say whether an open association may still bring more of a study."""
            still = now - watch.last
            if still > longest:
                return False
            if not watch.associations.isdisjoint(self._open):
                return True
            # What another association of its sender brings may be the next film of this study, for some open
            # one for each; but a PACS that is never idle must not keep what it has released.
            released = watch.reason is CompletedBy.ASSOCIATION_RELEASE and still >= self._quiet
            return watch.sender in sending and not released

        return self._watched.take_due(now, held)

    def _wait(self) -> list[tuple[int, CompletedBy]]:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                ready = self._due(now)
                if ready or self._to_check:
                    return ready
                self._wakes_at = min(self._watched.next, self._look_at)
                if self._wakes_at <= now:
                    return []
                self._changed.wait(self._wakes_at - now)
            return []

    def _run(self) -> None:
        while not self._stopping:
            ready = self._wait()
            if self._to_check:
                self._look_at_notices()
            if ready:
                self._complete(ready)
            if time.monotonic() >= self._look_at:
                self._look_for_left()

    def _look_for_left(self) -> None:
        """Take up what another process began and left: nothing that it may still hold back."""
        self._look_at = time.monotonic() + self._look_every
        longest = timedelta(seconds=self._quiet + self._hold)
        with self._changed:
            # what another process stored says nothing here
            self._to_check.update(self._expected)
        try:
            self._take_up(self._clock() - longest)
        except SQLAlchemyError as error:
            log.error("studies wait", extra={"event": "completion_failed", "error": type(error).__name__})

    def _look_at_notices(self) -> None:
        with self._changed:
            to_check, self._to_check = self._to_check, set()
        try:
            self._check_expected(to_check)
        except SQLAlchemyError as error:
            log.error("notices wait", extra={"event": "completion_failed", "error": type(error).__name__})
            with self._changed:
                self._to_check |= to_check
                if not self._stopping:
                    self._changed.wait(_RETRY)

    def _complete(self, due: Sequence[tuple[int, CompletedBy]]) -> int:
        """Take the step of each study and ask for its conclusion, in one transaction; return how many."""
        now = self._clock()
        done = []
        try:
            with self._db.write() as session:
                done = [study_id for study_id, by in due if self._step(session, study_id, by, now)]
        except (SQLAlchemyError, TriageError) as error:
            log.error(
                "studies could not be completed and are tried again",
                extra={"event": "completion_failed", "error": type(error).__name__},
            )
            moment = time.monotonic()
            with self._changed:
                for study_id, by in due:
                    self._watched.add(study_id, Watch(moment, moment + _RETRY, by, ("", "")))
            return 0
        for study_id in done:
            log.info("a study is complete", extra={"event": "completed", "study_id": study_id})
        return len(done)

    def _step(self, session: Session, study_id: int, by: CompletedBy, now: datetime) -> bool:
        listed = entries.state_of(session, study_id) is not None
        version = studies.complete(session, study_id, by, now, "" if listed else _NOT_LISTED)
        if version is None:
            return False
        if listed:
            payload = {"study_id": study_id, "version": version}
            self._queue.put(session, Stage.CONCLUDE, f"{study_id}/{version}", payload, now)
        else:
            # It is kept, but nobody waits for a word on it.
            log.info(_NOT_LISTED, extra={"event": "not_listed", "study_id": study_id})
        return True
