"""A receive room of one's own for a test: spool, database, intake and listener in a temporary folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from tests.rawpeer import Object
from tests.unit.receive.objects import CR, film
from triage.domain.study import CompletedBy
from triage.receive.completion import Completion
from triage.receive.intake import Intake
from triage.receive.listener import Listener, ListenerConfig
from triage.receive.recovery import Recovered, recover
from triage.receive.refusals import RefusalLog
from triage.receive.spool import Spool
from triage.store import policies, refusals
from triage.store.database import Database
from triage.store.tables import Base, Instance, Job, Study
from triage.work.embedded import EmbeddedQueue

EXPLICIT_LE = "1.2.840.10008.1.2.1"


def clock() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)


def an_object(number: int = 1, *, study: str = "1.2.3", **changes: Any) -> Object:
    """Return a tiny film as it goes over the wire; `number` makes its SOP Instance UID."""
    uid = f"{study}.{number}"
    values = {"StudyInstanceUID": study, "SOPInstanceUID": uid, "SeriesInstanceUID": f"{study}.0", **changes}
    return Object(str(values.get("SOPClassUID", CR)), uid, EXPLICIT_LE, film(values))


class Room:
    """Everything that receives, and short ways to look at what it kept."""

    def __init__(
        self,
        folder: Path,
        *,
        fast: bool | None = None,
        quiet: float = 0.3,
        evidence: set[CompletedBy] | None = None,
        low_water: int = 0,
        busy_timeout: float = 5.0,
        hold: float = 120.0,
        look_every: float = 60.0,
        **config: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.db = Database(f"sqlite:///{folder / 'triage.db'}", busy_timeout=busy_timeout)
        Base.metadata.create_all(self.db.engine)
        self.queue = EmbeddedQueue(self.db)
        self.spool = Spool(folder / "spool", low_water, config.pop("max_object_bytes", 512 << 20))
        self.refusals = RefusalLog(self.db, clock)
        self.intake = Intake(self.db, self.queue, self.spool, clock, policies.active, self.refusals)
        self.completion = Completion(
            self.db,
            self.queue,
            clock,
            quiet=timedelta(seconds=quiet),
            evidence=evidence or set(CompletedBy),
            longest_hold=timedelta(seconds=hold),
            look_every=timedelta(seconds=look_every),
        )
        self.intake.on_stored(self.completion.stored)
        settings = ListenerConfig(**{"port": 0, **config})
        self.listener = Listener(settings, self.intake, self.completion, fast=fast)
        self.recovered = Recovered()

    def start(self) -> Room:
        """Recover, then listen."""
        self.recovered = recover(self.db, self.intake)
        self.refusals.start()
        self.completion.start()
        self.listener.start()
        return self

    def stop(self) -> None:
        """End every thread."""
        self.listener.stop()
        self.completion.stop()
        self.refusals.stop()
        self.db.close()
        self.spool.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self.listener.address

    def instances(self) -> list[Instance]:
        """Return every instance row."""
        with self.db.read() as session:
            return list(session.scalars(select(Instance).order_by(Instance.id)))

    def studies(self) -> list[Study]:
        """Return every study row."""
        with self.db.read() as session:
            return list(session.scalars(select(Study).order_by(Study.id)))

    def jobs(self, stage: str) -> int:
        """Return how many jobs of a stage wait."""
        with self.db.read() as session:
            return session.scalar(select(func.count()).select_from(Job).where(Job.stage == stage)) or 0

    def refused(self) -> list[tuple[str, str, str]]:
        """Return channel, status and sentence of every refusal, newest first."""
        with self.db.read() as session:
            return [(row.channel, row.status, row.sentence) for row in refusals.newest(session)]

    def files(self) -> list[str]:
        """Return every file of the spool but its lock."""
        found = (p for p in self.spool.folder.rglob("*") if p.is_file() and p.name != ".lock")
        return [str(p.relative_to(self.spool.folder)) for p in found]


def refusals_in(caplog: Any) -> list[str]:
    """Return what the log says of refusals, each at once when it is decided; rows come a little later."""
    return [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "refused"]


@contextmanager
def receiving(folder: Path, **settings: Any) -> Iterator[Room]:
    """Run a receive room for the length of a block."""
    room = Room(folder, **settings).start()
    try:
        yield room
    finally:
        room.stop()
