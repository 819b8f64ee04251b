"""What a stage may ask of a queue: a job joins the caller's transaction, or does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy.orm import Session


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

    def wait(self, stage: Stage, timeout: float) -> None:
        """Return when a job of the stage may be due, at the latest after `timeout` seconds."""
