"""The only things that time alone changes: upper limits, due dates and idle claims.

APScheduler keeps the beat and nothing else: which entry is due stands in the tables, so a killed
scheduler loses nothing and the list it leaves is right.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import select, true
from sqlalchemy.orm import Session

from triage.domain.entry import EntryState, EntryVerb
from triage.domain.policy import Policy
from triage.errors import TriageError
from triage.store import entries, installation, policies
from triage.store.database import Database
from triage.store.tables import Entry, Study
from triage.worklist import actions

log = logging.getLogger(__name__)

#: Another process takes over when the one that keeps the beat was silent for so many beats.
_SILENT_BEATS = 3

#: Entries that one beat ages out, so that the writers behind it wait for milliseconds; the rest is next.
_AT_ONCE = 500


class Scheduler:
    """Runs `beat` at a fixed interval; of several processes on one database only one does the work."""

    def __init__(
        self, db: Database, clock: Callable[[], datetime], *, every: timedelta, claim_idle: timedelta
    ) -> None:
        """Start nothing yet."""
        self._db = db
        self._clock = clock
        self._every = every
        self._claim_idle = claim_idle
        self._name = secrets.token_hex(8)
        self._polls: list[tuple[str, Callable[[], object], float]] = []
        # Late or overlapping beats are one beat: a beat looks at the tables, not at what it missed.
        self._beats = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )

    def start(self) -> None:
        """Begin the beat, the first at once."""
        self._beats.add_job(self._safely, "interval", seconds=self._every.total_seconds())
        self._beats.add_job(self._safely)
        for name, act, seconds in self._polls:
            self._beats.add_job(self._poll, "interval", [name, act], seconds=seconds)
        self._beats.start()

    def also(self, name: str, act: Callable[[], object], every: timedelta) -> None:
        """Do something else at an interval, e.g. ask a modality worklist; called before `start`."""
        self._polls.append((name, act, every.total_seconds()))

    def _poll(self, name: str, act: Callable[[], object]) -> None:
        now = self._clock()
        with self._db.write() as session:
            mine = installation.take_lease(session, "scheduler", self._name, now, self._every * _SILENT_BEATS)
        if not mine:
            return
        try:
            act()
        except TriageError as error:
            log.warning("a poll failed", extra={"event": "poll_failed", "of": name, "why": str(error)})
        except Exception:  # the top of a poll: the next one asks again
            log.exception("a poll failed", extra={"event": "poll_failed", "of": name})

    def stop(self) -> None:
        """End the beat after the running one."""
        if self._beats.running:
            self._beats.shutdown(wait=True)

    def _safely(self) -> None:
        try:
            self.beat()
        except Exception:  # the top of a beat: the next one looks at the same tables again
            log.exception("a beat of the scheduler failed", extra={"event": "scheduler_failed"})

    def beat(self) -> None:
        """Do whatever has become due; a second beat at the same time changes nothing."""
        now = self._clock()
        with self._db.write() as session:
            if not installation.take_lease(
                session, "scheduler", self._name, now, self._every * _SILENT_BEATS
            ):
                return
            policy = policies.active(session)
            # Idle claims first: what comes back may itself have waited too long, or be overdue.
            changed = (
                return_idle(session, now, self._claim_idle)
                + age_out(session, policy, now)
                + watch_due(session, policy, now)
                + correct(session, policy, now)
            )
        if changed:
            log.info("the list was looked after", extra={"event": "scheduler_beat", "changed": changed})


def age_out(session: Session, policy: Policy, now: datetime) -> int:
    """Move what waited longer than the upper limit to the most that the policy allows; returns how many."""
    limit = now - timedelta(minutes=policy.upper_limit_minutes)
    query = (
        select(Entry, Study)
        .join(Study, Study.id == Entry.study_id)
        .where(entries.WAITING, Entry.arrived_at <= limit, Entry.aged_out != true())
        .limit(_AT_ONCE)
    )
    rows = session.execute(query).all()
    for entry, study in rows:
        entries.guarded_update(session, entry, entry.state, {"aged_out": True})
        cause = f"waited {policy.upper_limit_minutes:g} min"
        verb = EntryVerb.AGED_OUT
        if not entries.rerank(session, study, policy, now, verb=verb, cause=cause, actor="scheduler"):
            entries.record(session, entry, verb, now, actor="scheduler", cause=cause)
    return len(rows)


def watch_due(session: Session, policy: Policy, now: datetime) -> int:
    """Record once that an entry's due time is near, and once that it has passed; returns how many."""
    soon = now + timedelta(minutes=policy.due_warning_minutes)
    query = select(Entry).where(entries.WAITING, Entry.due_at <= soon, Entry.due_breached != true())
    changed = 0
    for entry in session.scalars(query).all():
        late = entry.due_at <= now
        if late:
            entries.guarded_update(session, entry, entry.state, {"due_breached": True, "due_warned": True})
            entries.record(session, entry, EntryVerb.DUE_BREACHED, now, actor="scheduler")
        elif not entry.due_warned:
            entries.guarded_update(session, entry, entry.state, {"due_warned": True})
            entries.record(session, entry, EntryVerb.DUE_WARNED, now, actor="scheduler")
        else:
            continue
        changed += 1
    return changed


def return_idle(session: Session, now: datetime, idle: timedelta) -> int:
    """Give claims back whose reader showed no sign of life for `idle`; returns how many."""
    query = (
        select(Entry, Study)
        .join(Study, Study.id == Entry.study_id)
        .where(entries.in_state(EntryState.CLAIMED), Entry.claim_seen_at < now - idle)
    )
    rows = session.execute(query).all()
    for entry, study in rows:
        actions.expire(session, entry, study, now)
    return len(rows)


def correct(session: Session, policy: Policy, now: datetime) -> int:
    """Rank entries anew that stand under another policy than the one in force; returns how many changed.

    Every event ranks its own entry, so this finds nothing unless a process died between two releases of
    this software.
    """
    query = (
        select(Study)
        .join(Entry, Entry.study_id == Study.id)
        .where(Entry.state.in_((EntryState.WAITING, EntryState.CLAIMED)), Entry.policy != policy.version)
        .limit(500)
    )
    return sum(
        entries.rerank(
            session, study, policy, now, verb=EntryVerb.RERANKED, cause="policy", actor="scheduler"
        )
        for study in session.scalars(query).all()
    )
