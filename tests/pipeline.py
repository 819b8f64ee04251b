"""A data folder with a database in it, filled as the earlier stages fill it, for report and deliver tests."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tests.reports import film_header
from triage.deliver.dicom import DicomDestination
from triage.deliver.outbox import Outbox
from triage.domain.assessment import FilmAssessment
from triage.domain.header import Header
from triage.domain.study import StudyState, StudyStep
from triage.report.stage import ReportStage
from triage.store import assessments, migrations, results, studies
from triage.store.database import Database
from triage.store.tables import Instance, Result, Study
from triage.work.embedded import EmbeddedQueue
from triage.work.queue import Stage
from triage.work.worker import Worker

START = datetime(2026, 3, 4, 6, 0, tzinfo=UTC)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Site:
    """One installation on disk."""

    folder: Path
    clock: Any = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.db = Database(f"sqlite:///{self.folder}/triage.db")
        migrations.upgrade(self.db)
        self.queue = EmbeddedQueue(self.db)
        for name in ("spool", "results"):
            (self.folder / name).mkdir(exist_ok=True)

    def film(self, study_uid: str = "1.2.3", number: int = 1, **attributes: object) -> Dataset:
        """Write a film into the spool and return it."""
        ds = film_header(number, StudyInstanceUID=study_uid, **attributes)
        ds.SOPInstanceUID = attributes.get("SOPInstanceUID", f"{study_uid}.4.{number}")
        ds.SeriesInstanceUID = f"{study_uid}.4"
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(self.folder / "spool" / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
        return ds

    def study(self, *answers: FilmAssessment, study_uid: str = "1.2.3", version: int = 1) -> int:
        """Make a concluded study with one film for each answer, ask for its report, return its id."""
        with self.db.write() as session:
            known = studies.find(session, study_uid)
            if known is None:
                header = Header(study_uid, "", "", "", "")
                head = studies.create_head(session, header, sender="TEST", now=self.clock())
                assert head is not None
                known = session.get_one(Study, head.id)
            known.state, known.version, known.completed_at = StudyState.COMPLETE, version, self.clock()
            session.flush()
            for number, said in enumerate(answers, 1):
                self._film(session, known, said, number)
            studies.step(session, known, StudyStep.ASSESS, self.clock())
            studies.step(session, known, StudyStep.ASSESSED, self.clock())
            payload = {"study_id": known.id, "version": version}
            self.queue.put(session, Stage.REPORT, f"{known.id}/{version}", payload, self.clock())
            return known.id

    def _film(self, session: Any, study: Study, said: FilmAssessment, number: int) -> None:
        uid = said.sop_instance_uid
        if session.query(Instance).filter_by(sop_instance_uid=uid).count():
            return
        ds = self.film(study.study_uid, number, SOPInstanceUID=uid)
        row = Instance(
            study_id=study.id,
            study_uid=study.study_uid,
            series_uid=str(ds.SeriesInstanceUID),
            sop_instance_uid=uid,
            sop_class_uid=str(ds.SOPClassUID),
            transfer_syntax_uid=str(ExplicitVRLittleEndian),
            digest=hashlib.sha256(uid.encode()).hexdigest(),
            size=1,
            path=f"{uid}.dcm",
            received_at=self.clock(),
        )
        session.add(row)
        session.flush()
        assessments.add(session, row, said)

    def reporter(self, **destinations: tuple[str, ...]) -> ReportStage:
        """Return the stage that writes reports for these destinations."""
        return ReportStage(
            self.db,
            self.queue,
            spool=self.folder / "spool",
            results=self.folder / "results",
            clock=self.clock,
            site="Test Hospital",
            ae_title="TRIAGE",
            destinations=destinations,
        )

    def outbox(self, patience_seconds: float | None = None, **ports: int) -> Outbox:
        """Return the stage that sends to these ports of the loopback interface."""
        return Outbox(
            self.db,
            self.queue,
            results=self.folder / "results",
            clock=self.clock,
            destinations=[
                DicomDestination(name, "PEER", "127.0.0.1", port, "TRIAGE") for name, port in ports.items()
            ],
            patience_seconds=patience_seconds,
        )

    def run(self, stage: Stage, handler: Any) -> int:
        """Run the jobs of a stage that are due now, and return how many there were."""
        count = 0
        while (job := self.queue.take(stage, self.clock())) is not None:
            handler(job)
            count += 1
        return count

    def worker(self, stage: Stage, handler: Any, threads: int = 1) -> Worker:
        """Return a started worker on this site's clock."""
        worker = Worker(self.db, self.queue, stage, handler, self.clock, threads)
        worker.start()
        return worker

    def results(self, study_id: int) -> list[Result]:
        """Return the results of a study, oldest first."""
        with self.db.read() as session:
            return list(results.of_study(session, study_id))


def wall_clock() -> datetime:
    """Return the real time, for tests with real waits."""
    return datetime.now(UTC)


class Storing:
    """A real listener whose answers the test gives one after another; the last one repeats."""

    def __init__(self, *statuses: int, title: str = "") -> None:
        from pynetdicom import AE, evt
        from pynetdicom.sop_class import Comprehensive3DSRStorage

        self.statuses = list(statuses)
        self.stored: list[str] = []
        #: Objects on which the association is aborted instead of answered, each time they come.
        self.aborts_on: set[str] = set()
        #: Every object that came, taken or not.
        self.begun: list[str] = []
        #: How long each answer takes; the last one repeats.
        self.seconds = [0.0]
        self.arrived = threading.Event()
        ae = AE(title or "PEER")
        ae.require_called_aet = bool(title)
        ae.add_supported_context(Comprehensive3DSRStorage, ExplicitVRLittleEndian)
        self._server = ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        self.port = self._server.server_address[1]

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.begun.append(uid)
        threading.Event().wait(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])
        if uid in self.aborts_on:
            event.assoc.abort()
            return 0x0110
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            self.stored.append(uid)
            self.arrived.set()
        return status

    def __enter__(self) -> Storing:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
