"""The job of this room: write down a concluded study and hand the objects to the outbox.

The files are durable before the rows say that they exist; rows, jobs and the end of this job are one
transaction. A repeat finds the same UIDs and adds nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from errno import ENOENT
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from triage import __version__
from triage.domain.assessment import conclude
from triage.domain.header import Family, family
from triage.domain.result import RESULT, ResultState, ResultStep
from triage.report.build import Predecessor, ReportInput, Site
from triage.report.document import file_bytes
from triage.report.errors import NoReport
from triage.report.evidence import read_evidence, without_file
from triage.report.kinds import KINDS
from triage.store import assessments, installation, instances
from triage.store import results as rows
from triage.store.database import Database, announce
from triage.store.tables import Instance, Result, Study, StudyEvent
from triage.work.queue import Queue, Stage, TakenJob

log = logging.getLogger(__name__)


#: How often a report that can't be built is tried before a person is asked.
MAX_ATTEMPTS = 3
#: Without any destination the SR is still built and kept: `triage results` shows it.
KEEP_ONLY: Mapping[str, tuple[str, ...]] = {"": ("sr",)}
_RETRIABLE = RESULT.sources(ResultStep.RETRY)


@dataclass(frozen=True)
class _Built:
    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str


class ReportStage:
    """The handler of the stage `report`."""

    def __init__(
        self,
        db: Database,
        queue: Queue,
        *,
        spool: Path,
        results: Path,
        clock: Callable[[], datetime],
        site: str,
        ae_title: str,
        destinations: Mapping[str, tuple[str, ...]],
    ) -> None:
        """Read films below `spool`, write objects below `results`.

        `destinations` says by name which kinds each gets; `site` stands for the institution where the films
        name none.
        """
        self._routes = dict(destinations) or dict(KEEP_ONLY)
        with db.write() as session:
            namespace = installation.uid_namespace(session)
        self._site = Site(namespace, ae_title, __version__, site)
        self._db = db
        self._queue = queue
        self._spool = spool
        self._folder = results
        self._clock = clock

    def report_study(self, job: TakenJob) -> None:
        """Build the objects of one version of a study and queue them for every destination.

        A version that late images have overtaken, or that was written down before, asks for nothing,
        unless a person asked for a rebuild. A study that can't have a report keeps the reason in its history,
        where `problems` finds it; one for which no wanted kind is written keeps that there too.
        """
        study_id, version = int(job.payload["study_id"]), int(job.payload["version"])
        again = bool(job.payload.get("rebuild"))
        try:
            built = self._written_down(study_id, version, again)
        except NoReport as error:
            self._no_report(job, study_id, version, str(error))
            return
        except (OSError, SQLAlchemyError):
            # A full disk or a database that is away goes on by itself, however long it takes.
            raise
        except Exception as error:
            if job.attempts < MAX_ATTEMPTS:
                raise
            log.exception("A report could not be built.", extra={"event": "report_failed", "study": study_id})
            sentence = f"The report can't be built ({type(error).__name__}); read the log, then rebuild it."
            self._no_report(job, study_id, version, sentence)
            return
        with self._db.write() as session:
            for destination, kinds in self._routes.items():
                for item in built or ():
                    if item.kind in kinds:
                        self._route(session, study_id, version, item, destination, again)
            if built == []:
                cause = "Nothing that a destination wants is written for it."
                self._record(session, study_id, version, rows.NOTHING_TO_WRITE, cause)
            self._queue.finish(session, job)
        if built:
            log.info(
                "A study was reported.", extra={"event": "reported", "study": study_id, "version": version}
            )

    def _written_down(self, study_id: int, version: int, again: bool) -> list[_Built] | None:
        """Return the objects of a version, durable on disk; None where nothing is asked for."""
        with self._db.read() as session:
            study = session.get(Study, study_id)
            if study is None or study.version != version or (not again and self._is_done(session, study)):
                return None
            inp = self._input(session, study)
            same = self._predecessors(session, study, lambda made: made == version)
        return self._build(inp, same)

    def _is_done(self, session: Session, study: Study) -> bool:
        """Return whether every destination has a row for this version already."""
        query = select(Result.destination).where(
            Result.study_id == study.id, Result.study_version == study.version
        )
        return set(self._routes) <= set(session.scalars(query))

    def _input(self, session: Session, study: Study) -> ReportInput:
        objects = [
            one
            for one in instances.of_study(session, study.id)
            if family(one.sop_class_uid) is not Family.OTHER
        ]
        films = [assessments.to_domain(row) for row in assessments.of_study(session, study.id)]
        said = conclude(films, {item.unjudged for item in objects})
        evidence = self._evidence(study, objects)
        zone = _zone(evidence[0])
        seen = study.completed_at or study.last_instance_at
        judge = said.film or (films[0] if films else None)
        return ReportInput(
            site=self._site,
            evidence=evidence,
            films=films,
            conclusion=said,
            model=judge.model if judge else "",
            model_digest=judge.model_digest if judge else "",
            version=study.version,
            started_at=min((f.started_at for f in films), default=seen).astimezone(zone),
            finished_at=max((f.finished_at for f in films), default=seen).astimezone(zone),
            predecessors=self._predecessors(session, study, lambda made: made < study.version),
        )

    def _evidence(self, study: Study, objects: Sequence[Instance]) -> list[Dataset]:
        """Return the headers of the films that can be referenced, those without a file at the end.

        Raises:
            NoReport: there is no file of any; says why of the last one.
            OSError: a film is there, but can't be read now.
        """
        evidence, problem = [], NoReport("None of the study's films is on disk, so it can't be reported.")
        gone: list[Instance] = []
        for one in objects:
            try:
                header = read_evidence(self._spool / one.path) if one.path else None
            except FileNotFoundError:
                header = None
            except NoReport as error:
                problem = error
                continue
            if header is None:
                gone.append(one)
            elif header.StudyInstanceUID == study.study_uid:
                evidence.append(header)
        if not evidence:
            raise problem
        return [*evidence, *_without_files(evidence[0], gone)]

    def _predecessors(
        self, session: Session, study: Study, wanted: Callable[[int], bool]
    ) -> tuple[Predecessor, ...]:
        """Return the objects of the versions that are wanted, oldest first, each once."""
        earlier: dict[str, Predecessor] = {}
        for row in rows.of_study(session, study.id):
            if not wanted(row.study_version) or row.sop_instance_uid in earlier:
                continue
            try:
                series = str(dcmread(self._folder / row.path).SeriesInstanceUID)
            except Exception as error:
                # A file that is gone or broken is written anew; one that can't be read now is asked again.
                if isinstance(error, OSError) and error.errno not in (None, ENOENT):
                    raise
                continue
            earlier[row.sop_instance_uid] = Predecessor(
                row.kind, series, row.sop_class_uid, row.sop_instance_uid
            )
        return tuple(earlier.values())

    def _build(self, inp: ReportInput, same: Sequence[Predecessor]) -> list[_Built]:
        """Build each wanted kind; `same` are the objects of this very version, from earlier builds.

        What says the same as the newest of them is the same object; what says something else replaces all.
        """
        wanted = {kind for kinds in self._routes.values() for kind in kinds}
        built: list[_Built] = []
        for kind in KINDS:
            if kind not in wanted:
                continue
            made = tuple(one for one in same if one.kind == kind)
            ds = KINDS[kind](replace(inp, predecessors=(*inp.predecessors, *made[:-1])))
            if ds is not None and made and ds.SOPInstanceUID != made[-1].sop_instance_uid:
                ds = KINDS[kind](replace(inp, predecessors=(*inp.predecessors, *made)))
            if ds is not None:
                path = _write_durably(self._folder, str(ds.SOPInstanceUID), file_bytes(ds))
                built.append(_Built(kind, str(ds.SOPClassUID), str(ds.SOPInstanceUID), path))
        return built

    def _route(
        self, session: Session, study_id: int, version: int, item: _Built, destination: str, again: bool
    ) -> None:
        now = self._clock()
        row = rows.add(
            session,
            study_id=study_id,
            study_version=version,
            kind=item.kind,
            sop_class_uid=item.sop_class_uid,
            sop_instance_uid=item.sop_instance_uid,
            path=item.path,
            destination=destination,
            now=now,
        )
        step = ResultStep.QUEUE if row.state is ResultState.BUILT else ResultStep.RETRY
        if destination and (row.state is ResultState.BUILT or (again and row.state in _RETRIABLE)):
            rows.step(session, row, step, now, {"attempts": 0, "refusals": 0, "last_error": ""})
            self._queue.put(session, Stage.DELIVER, str(row.id), {"result_id": row.id}, now)

    def _no_report(self, job: TakenJob, study_id: int, version: int, sentence: str) -> None:
        with self._db.write() as session:
            self._record(session, study_id, version, rows.NO_REPORT, sentence)
            self._queue.finish(session, job)
        log.error(
            "A study can't be reported.", extra={"event": "no_report", "study": study_id, "error": sentence}
        )

    def _record(self, session: Session, study_id: int, version: int, step: str, cause: str) -> None:
        study = session.get_one(Study, study_id)
        event = StudyEvent(study_id=study_id, at=self._clock(), step=step, version=version, cause=cause)
        event.before = event.after = study.state.value
        session.add(event)
        announce(session, "list")


def _without_files(beside: Dataset, gone: Sequence[Instance]) -> Iterator[Dataset]:
    """Yield headers for films whose files are gone: what was found on them is still true, and still said."""
    for one in gone:
        known = {
            "SOPClassUID": one.sop_class_uid,
            "SOPInstanceUID": one.sop_instance_uid,
            "SeriesInstanceUID": one.series_uid,
            "Modality": one.modality,
        }
        with suppress(NoReport):
            yield without_file(beside, known)


def _zone(film: Dataset) -> tzinfo | None:
    """Return the zone that the film states, else None: this host's, in which dates are most likely meant."""
    stated = film.get("TimezoneOffsetFromUTC")
    return datetime.strptime(stated, "%z").tzinfo if stated else None


def _write_durably(folder: Path, uid: str, content: bytes) -> str:
    """Write a file that is there whole or not at all, even after a power cut; returns its relative path."""
    relative = Path(uid[-2:]) / f"{uid}.dcm"
    target = folder / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    for changed in (target.parent, folder):
        descriptor = os.open(changed, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return str(relative)
