"""What a stage may ask of a queue: a job joins the caller's transaction, or does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

#: No job is ever put off for longer. One that is due later than that from now was put off by a clock that has
#: gone back since, and is due.
LONGEST_WAIT = timedelta(minutes=10)
#: By how much two looks at the time may differ while nobody's clock goes back.
SLACK = timedelta(minutes=1)


class Stage(StrEnum):
    """The stages that take jobs."""

    #: Judge one film: `instance_id`.
    ASSESS = "assess"
    #: Say what a complete study's films mean together: `study_id`, `version`.
    CONCLUDE = "conclude"
    #: Build the result objects of a concluded study: `study_id`, `version`.
    REPORT = "report"
    #: Send one result to one destination: `result_id`.
    DELIVER = "deliver"


@dataclass(frozen=True)
class TakenJob:
    """A job that this worker holds until its lease runs out; `attempts` counts this one."""

    id: int
    stage: Stage
    key: str
    payload: Mapping[str, Any]
    attempts: int
    created_at: datetime


class Queue(Protocol):
    """At-least-once: a job is gone only when `finish` committed with the stage's own work."""

    def put(
        self, session: Session, stage: Stage, key: str, payload: Mapping[str, Any], run_at: datetime
    ) -> None:
        """Add a job in the caller's transaction; a waiting job of the stage with that key stays as it is."""

    def take(self, stage: Stage, now: datetime) -> TakenJob | None:
        """Lease the job that has been due longest, or return None."""

    def finish(self, session: Session, job: TakenJob) -> None:
        """Remove a job in the transaction of the work that it asked for."""

    def retry(self, session: Session, job: TakenJob, error: str, run_at: datetime) -> None:
        """Give a job back for a later time; `error` is one sentence without patient data."""

    def move(
        self,
        session: Session,
        stage: Stage,
        among: Callable[[ColumnElement[str]], ColumnElement[bool]],
        run_at: datetime,
    ) -> None:
        """Let the waiting jobs of a stage be due at `run_at`; `among` says by their key which are meant."""

    def wait(self, stage: Stage, timeout: float) -> None:
        """Return when a job of the stage may be due, at the latest after `timeout` seconds."""
