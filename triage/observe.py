"""Logs and metrics: what the service did, without a word about a patient."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from triage.store.database import Database
from triage.store.tables import Entry, FilmAssessmentRow, Instance, Job, Refusal, Result, Study

#: Attributes that `extra=` added to a record are those that a plain record does not have.
_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

#: Libraries that would write data sets, identifiers or one line for each request.
_QUIET = (
    "pynetdicom",
    "pydicom",
    "apscheduler",
    "uvicorn.access",
    "alembic",
    "highdicom",
    "matplotlib",
    "httpx",
)


class _Lines(logging.Formatter):
    """One line for each event: time, level, sentence, then `event=… key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = {name: value for name, value in record.__dict__.items() if name not in _PLAIN}
        pairs = " ".join(f"{name}={json.dumps(str(value))}" for name, value in extra.items())
        text = f"{moment} {record.levelname.lower()} {record.getMessage()}"
        if pairs:
            text += f" | {pairs}"
        # The trace alone: the text of a foreign exception may quote a data set.
        if record.exc_info and record.exc_info[0]:
            text += f" | error={record.exc_info[0].__name__} at={_place(record)}"
        return text.replace("\n", " ")


def _place(record: logging.LogRecord) -> str:
    trace = record.exc_info[2] if record.exc_info else None
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if "triage" in code.co_filename:
            places.append(f"{code.co_filename.rsplit('/triage/', 1)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return ">".join(places[-4:])


def start_logging(level: str = "INFO") -> None:
    """Send every log line to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)


def _by(session: Session, column: object, table: type) -> Iterator[tuple[str, int]]:
    query = select(column, func.count()).select_from(table).group_by(column)  # type: ignore[call-overload]
    for value, count in session.execute(query):
        yield str(value), count


class _Tables(Collector):
    """Reads the numbers from the database when asked, so that every process tells the same."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        live: Mapping[str, tuple[str, Callable[[], float]]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._live = live

    def collect(self) -> Iterator[Metric]:
        with self._db.read() as session:
            yield from self._counts(session)
            yield from self._ages(session)
        for name, (sentence, value) in self._live.items():
            yield GaugeMetricFamily(name, sentence, value=value())

    def _counts(self, session: Session) -> Iterator[Metric]:
        tables: tuple[tuple[str, str, str, object, type], ...] = (
            ("triage_studies", "Studies by pipeline state.", "state", Study.state, Study),
            ("triage_entries", "Worklist entries by reading state.", "state", Entry.state, Entry),
            ("triage_results", "Result objects by delivery state.", "state", Result.state, Result),
            (
                "triage_assessments",
                "Judged films by outcome.",
                "outcome",
                FilmAssessmentRow.outcome,
                FilmAssessmentRow,
            ),
            ("triage_refusals", "Refusals by channel.", "channel", Refusal.channel, Refusal),
            ("triage_jobs", "Jobs by stage.", "stage", Job.stage, Job),
        )
        for name, sentence, label, column, table in tables:
            family = GaugeMetricFamily(name, sentence, labels=[label])
            for value, count in _by(session, column, table):
                family.add_metric([value], count)
            yield family
        instances = session.scalar(select(func.count()).select_from(Instance)) or 0
        yield GaugeMetricFamily("triage_instances", "Acknowledged objects.", value=instances)
        apart = (
            session.scalar(select(func.count()).select_from(Instance).where(Instance.quarantine != "")) or 0
        )
        yield GaugeMetricFamily("triage_quarantined_instances", "Objects that are kept apart.", value=apart)

    def _ages(self, session: Session) -> Iterator[Metric]:
        now = self._clock()
        oldest = session.scalar(select(func.min(Job.run_at)))
        age = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
        yield GaugeMetricFamily("triage_job_age_seconds", "How long the oldest job has been due.", value=age)
        late = session.scalar(
            select(func.count()).select_from(Entry).where(Entry.state == "waiting", Entry.due_at < now)
        )
        yield GaugeMetricFamily(
            "triage_overdue_entries", "Waiting entries past their due time.", value=late or 0
        )


def metrics(
    db: Database,
    clock: Callable[[], datetime],
    live: Mapping[str, tuple[str, Callable[[], float]]] | None = None,
) -> Callable[[], bytes]:
    """Return a function that gives every metric in Prometheus' text form.

    `live` holds what only this process knows: name -> (sentence, value).
    """
    registry = CollectorRegistry()
    registry.register(_Tables(db, clock, live or {}))
    return lambda: generate_latest(registry)
