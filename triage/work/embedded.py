"""The queue of an embedded site: rows with a lease, in the same database and transaction as the states."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    JSON,
    ColumnElement,
    String,
    Table,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from triage.store.database import Database, announce
from triage.store.prepared import Prepared
from triage.store.tables import Job
from triage.store.types import UtcDateTime
from triage.work.queue import LONGEST_WAIT, SLACK, Stage, TakenJob

#: A worker that did not finish within this time is taken for dead and its job is given to another.
LEASE = timedelta(minutes=5)

_JOB = cast("Table", Job.__table__)
_COLUMNS = ("stage", "job_key", "payload", "run_at", "created_at", "attempts", "last_error")
_WAITING = exists().where(
    _JOB.c.stage == bindparam("stage"), _JOB.c.job_key == bindparam("key"), _JOB.c.leased_until.is_(None)
)
_PUT = Prepared(
    lambda _: insert(_JOB).from_select(
        _COLUMNS,
        select(
            bindparam("stage", type_=String),
            bindparam("key", type_=String),
            bindparam("payload", type_=JSON),
            bindparam("run_at", type_=UtcDateTime),
            bindparam("run_at", type_=UtcDateTime),
            literal_column("0"),
            literal_column("''"),
        ).where(~_WAITING),
    )
)


class EmbeddedQueue:
    """A `Queue` on the job table; workers of this process wake at once, others within their wait."""

    def __init__(self, db: Database) -> None:
        """Listen to the commits of `db`, so that a new job wakes its worker without polling."""
        self._db = db
        self._ready = {stage: threading.Condition() for stage in Stage}
        self._generation = dict.fromkeys(Stage, 0)
        self._seen = threading.local()
        db.on_commit(self._committed)

    def put(
        self, session: Session, stage: Stage, key: str, payload: Mapping[str, Any], run_at: datetime
    ) -> None:
        """See `Queue.put`. A job that is being worked on does not swallow a new one."""
        values = {"stage": stage.value, "key": key, "payload": dict(payload), "run_at": run_at}
        _PUT.run(session, [values])
        announce(session, f"job:{stage.value}")

    def take(self, stage: Stage, now: datetime) -> TakenJob | None:
        """See `Queue.take`. Looks before it locks, so that an idle worker never becomes the writer."""
        with self._db.read() as session:
            if self._due(session, stage, now) is None:
                return None
        with self._db.write() as session:
            job_id = self._due(session, stage, now)
            if job_id is None:
                return None
            session.execute(
                update(Job)
                .where(Job.id == job_id)
                .values(leased_until=now + LEASE, attempts=Job.attempts + 1)
            )
            row = session.get(Job, job_id, populate_existing=True)
            if row is None:
                return None
            return TakenJob(row.id, stage, row.job_key, dict(row.payload), row.attempts, row.created_at)

    def _due(self, session: Session, stage: Stage, now: datetime) -> int | None:
        """Return the job that has been due longest; for clocks that go back see `LONGEST_WAIT`."""
        taken = Job.leased_until.between(now, now + LEASE + SLACK)
        free = select(Job.id).where(Job.stage == stage.value, or_(Job.leased_until.is_(None), ~taken))
        for due in (Job.run_at <= now, Job.run_at > now + LONGEST_WAIT + SLACK):
            found = session.scalars(free.where(due).order_by(Job.run_at, Job.id).limit(1)).first()
            if found is not None:
                return found
        return None

    def finish(self, session: Session, job: TakenJob) -> None:
        """See `Queue.finish`."""
        session.execute(delete(Job).where(Job.id == job.id))

    def retry(self, session: Session, job: TakenJob, error: str, run_at: datetime) -> None:
        """See `Queue.retry`."""
        session.execute(
            update(Job).where(Job.id == job.id).values(leased_until=None, run_at=run_at, last_error=error)
        )
        announce(session, f"job:{job.stage.value}")

    def move(
        self,
        session: Session,
        stage: Stage,
        among: Callable[[ColumnElement[str]], ColumnElement[bool]],
        run_at: datetime,
    ) -> None:
        """See `Queue.move`: one statement, however many jobs."""
        waiting = update(_JOB).where(_JOB.c.stage == stage.value, _JOB.c.leased_until.is_(None))
        session.execute(waiting.where(among(_JOB.c.job_key)).values(run_at=run_at))
        announce(session, f"job:{stage.value}")

    def wait(self, stage: Stage, timeout: float) -> None:
        """See `Queue.wait`. A job committed since this thread's last wait makes it return at once."""
        seen: dict[Stage, int] = self._seen.__dict__.setdefault("generation", {})
        with self._ready[stage]:
            self._ready[stage].wait_for(lambda: self._generation[stage] != seen.get(stage), timeout)
            seen[stage] = self._generation[stage]

    def _committed(self, topics: frozenset[str]) -> None:
        for stage in Stage:
            if f"job:{stage.value}" in topics:
                self.wake(stage)

    def wake(self, stage: Stage) -> None:
        """Let every worker of a stage look for jobs now."""
        with self._ready[stage]:
            self._generation[stage] += 1
            self._ready[stage].notify_all()

    def release_all(self, now: datetime) -> int:
        """Free the leases of a previous run of this process, at start; returns how many there were."""
        with self._db.write() as session:
            held = session.scalars(select(Job.id).where(Job.leased_until.is_not(None))).all()
            session.execute(update(Job).where(Job.id.in_(held)).values(leased_until=None, run_at=now))
            return len(held)
