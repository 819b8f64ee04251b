"""Films become answers, answers a place in the list, complete studies a conclusion: on a real database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from tests.films import DX, Encoding, encode, file_bytes, picture
from tests.models import described
from tests.peers import wait_until
from tests.rawpeer import Object, RawPeer, read_part10
from tests.receiving import EXPLICIT_LE, clock, receiving
from triage.assess.classifier import Classifier
from triage.assess.stage import AssessStage
from triage.domain.finding import NotEvaluated, Outcome
from triage.domain.header import Header
from triage.domain.policy import Policy
from triage.domain.study import CompletedBy, StudyState, StudyStep
from triage.store import entries, policies, studies
from triage.store.database import Database
from triage.store.tables import Base, Entry, FilmAssessmentRow, Instance, Job, Study
from triage.work.embedded import EmbeddedQueue
from triage.work.queue import Stage
from triage.work.worker import Worker
from triage.worklist import listing

FILM = file_bytes(encode(picture(80, 70), Encoding()))
MODEL = described(32)


class Said:
    """An engine that says the same of every film, or fails."""

    name = "said"
    batches = False

    def __init__(self) -> None:
        self.logits = [0.0, 0, 0, 0, 5, 0, 5]
        self.error: Exception | None = None
        self.calls = 0

    def infer(self, batch: np.ndarray) -> np.ndarray:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return np.tile(np.array(self.logits, np.float32), (len(batch), 1))


class Room:
    """The assess room on an empty database, with a clock that is set by hand."""

    def __init__(self, db: Database, spool: Path, now: datetime) -> None:
        self.db, self.spool, self.now = db, spool, now
        self.queue = EmbeddedQueue(db)
        self.engine = Said()
        classifier = Classifier(MODEL, self.engine, clock=self.clock)
        stage = AssessStage(
            db, self.queue, classifier, spool=spool, clock=self.clock, policy=lambda _session: Policy()
        )
        self.workers = {
            Stage.ASSESS: Worker(db, self.queue, Stage.ASSESS, stage.assess_film, self.clock),
            Stage.CONCLUDE: Worker(db, self.queue, Stage.CONCLUDE, stage.conclude_study, self.clock),
        }
        self.count = 0

    def clock(self) -> datetime:
        return self.now

    def study(self, uid: str = "1.2.3") -> int:
        with self.db.write() as session:
            head = studies.create_head(session, Header(uid, "", "", "", ""), sender="TEST", now=self.now)
            assert head is not None
            entries.place_new(session, head, self.now, Policy(), self.now, "first image")
            return head.id

    def film(self, study_id: int, data: bytes = FILM, **columns: object) -> int:
        self.count += 1
        name = f"{self.count}.dcm"
        (self.spool / name).write_bytes(data)
        with self.db.write() as session:
            values: dict[str, object] = {
                "study_id": study_id,
                "sop_instance_uid": f"1.2.3.{self.count}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "digest": str(self.count),
                "size": len(data),
                "path": name,
                "received_at": self.now,
                **columns,
            }
            row = Instance(**values)
            session.add(row)
            session.flush()
            self.put(session, row.id)
            return row.id

    def put(self, session, instance_id: int) -> None:
        self.queue.put(session, Stage.ASSESS, str(instance_id), {"instance_id": instance_id}, self.now)

    def complete(self, study_id: int) -> None:
        with self.db.write() as session:
            study = session.get(Study, study_id)
            studies.complete(session, study.id, CompletedBy.QUIET, self.now)
            session.refresh(study)
            payload = {"study_id": study_id, "version": study.version}
            self.queue.put(session, Stage.CONCLUDE, f"{study_id}/{study.version}", payload, self.now)

    def run(self, stage: Stage) -> int:
        done = 0
        while self.workers[stage].run_one():
            done += 1
        return done

    def answers(self) -> list[FilmAssessmentRow]:
        with self.db.read() as session:
            return list(session.scalars(select(FilmAssessmentRow).order_by(FilmAssessmentRow.id)))

    def jobs(self, stage: Stage) -> list[Job]:
        with self.db.read() as session:
            return list(session.scalars(select(Job).where(Job.stage == stage.value)))

    def state(self, study_id: int) -> StudyState:
        with self.db.read() as session:
            return session.get(Study, study_id).state

    def entry(self, study_id: int) -> Entry:
        with self.db.read() as session:
            return session.get(Entry, study_id)


@pytest.fixture
def room(tmp_path: Path, now: datetime) -> Iterator[Room]:
    spool = tmp_path / "spool"
    spool.mkdir()
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    Base.metadata.create_all(db.engine)
    yield Room(db, spool, now)
    db.close()


def test_a_diseased_film_moves_its_study_ahead_at_once(room: Room) -> None:
    study = room.study()
    assert room.entry(study).effective_at == room.now - timedelta(minutes=60)
    room.film(study)
    assert room.run(Stage.ASSESS) == 1
    (answer,) = room.answers()
    assert answer.outcome is Outcome.POSITIVE
    assert answer.sentence == "Appearance resembling tuberculosis (0.97)."
    assert (answer.any_disease_low, answer.any_disease_high) == (0.2, 0.5)
    assert room.entry(study).effective_at == room.now - timedelta(minutes=240)
    assert room.jobs(Stage.ASSESS) == []


def test_the_same_job_twice_leaves_one_answer(room: Room) -> None:
    instance = room.film(room.study())
    room.run(Stage.ASSESS)
    with room.db.write() as session:
        room.put(session, instance)
    assert room.run(Stage.ASSESS) == 1
    assert len(room.answers()) == 1
    assert room.engine.calls == 1


def test_a_film_that_was_replaced_is_not_judged(room: Room) -> None:
    room.film(room.study(), current=False)
    room.run(Stage.ASSESS)
    assert room.answers() == []
    assert room.jobs(Stage.ASSESS) == []


@pytest.mark.parametrize("poison", [b"", b"junk" * 100, FILM[:-50]])
def test_a_broken_film_has_an_answer_and_blocks_nobody(room: Room, poison: bytes) -> None:
    study = room.study()
    room.film(study, poison)
    room.film(study)
    assert room.run(Stage.ASSESS) == 2
    broken, good = room.answers()
    assert (broken.outcome, broken.reason) == (Outcome.NOT_EVALUATED, NotEvaluated.UNDECODABLE)
    assert good.outcome is Outcome.POSITIVE


def test_the_log_names_a_film_with_quirks_by_our_number_and_not_by_its_uid(room: Room, caplog) -> None:
    ds = encode(picture(80, 70), Encoding())
    ds.WindowCenter, ds.WindowWidth = "100", "0"
    caplog.set_level(logging.INFO)
    film = room.film(room.study(), file_bytes(ds))
    room.run(Stage.ASSESS)
    [line] = [record for record in caplog.records if getattr(record, "event", "") == "film_quirks"]
    assert (line.instance, line.quirks) == (film, "window-unusable")
    assert "1.2.3" not in str(vars(line))


def test_a_failing_model_is_tried_again_and_then_visible(room: Room) -> None:
    study = room.study()
    room.film(study)
    room.complete(study)
    room.engine.error = RuntimeError("boom")
    for attempt in range(3):
        assert room.answers() == []
        assert room.run(Stage.ASSESS) == 1, attempt
        room.now += timedelta(minutes=30)
    (answer,) = room.answers()
    assert answer.reason is NotEvaluated.MODEL_FAILURE
    room.run(Stage.CONCLUDE)
    assert room.state(study) is StudyState.FAILED
    assert len(room.jobs(Stage.REPORT)) == 1


def test_a_model_that_recovers_judges_the_film_after_all(room: Room) -> None:
    room.film(room.study())
    room.engine.error = RuntimeError("boom")
    room.run(Stage.ASSESS)
    room.engine.error = None
    room.now += timedelta(minutes=30)
    room.run(Stage.ASSESS)
    assert [answer.outcome for answer in room.answers()] == [Outcome.POSITIVE]


def test_a_missing_spool_file_is_an_answer_in_the_end(room: Room) -> None:
    room.film(room.study(), path="nowhere.dcm")
    for _ in range(3):
        room.run(Stage.ASSESS)
        room.now += timedelta(minutes=30)
    assert [answer.reason for answer in room.answers()] == [NotEvaluated.NO_PIXELS]


def test_a_complete_study_is_concluded_when_its_last_film_is_judged(room: Room) -> None:
    study = room.study()
    room.film(study)
    room.film(study)
    room.complete(study)
    room.run(Stage.CONCLUDE)
    assert room.state(study) is StudyState.ASSESSING
    assert room.workers[Stage.ASSESS].run_one()
    assert room.jobs(Stage.CONCLUDE) == []
    room.run(Stage.ASSESS)
    assert room.run(Stage.CONCLUDE) == 1
    assert room.state(study) is StudyState.ASSESSED
    (report,) = room.jobs(Stage.REPORT)
    assert report.payload == {"study_id": study, "version": 1}


def test_a_study_without_a_frontal_film_is_not_evaluated_and_keeps_its_place(room: Room) -> None:
    study = room.study()
    room.engine.logits[-1] = -5
    room.film(study)
    room.run(Stage.ASSESS)
    room.complete(study)
    room.run(Stage.CONCLUDE)
    assert room.state(study) is StudyState.NOT_EVALUATED
    assert room.entry(study).advance_micros == 60 * 60 * 1_000_000


def test_a_study_of_raw_films_says_so(room: Room) -> None:
    study = room.study()
    room.film(study, unjudged=NotEvaluated.FOR_PROCESSING)
    room.run(Stage.ASSESS)
    room.complete(study)
    room.run(Stage.CONCLUDE)
    with room.db.read() as session:
        assert "for processing" in session.get(Study, study).state_sentence


def test_a_version_that_late_images_overtook_is_not_concluded(room: Room) -> None:
    study = room.study()
    room.film(study)
    room.complete(study)
    with room.db.write() as session:
        row = session.get(Study, study)
        studies.step(session, row, StudyStep.REOPEN, room.now, cause="late image")
    room.run(Stage.CONCLUDE)
    assert room.state(study) is StudyState.RECEIVING
    assert room.jobs(Stage.REPORT) == []


@pytest.mark.parametrize(
    ("logits", "outcome"),
    [
        ([9, 0, 0, 0, 0, 0, 5], Outcome.NEGATIVE),
        ([2.4, 0, 0, 0, 0, 0, 5], Outcome.UNDETERMINED),
        ([0, 4, 0, 0, 0, 0, 5], Outcome.POSITIVE),
        ([0, 0, 0, 0, 0, 0, 5], Outcome.POSITIVE),
        ([9, 0, 0, 0, 0, 0, -5], Outcome.NOT_EVALUATED),
    ],
)
def test_outcomes_follow_the_thresholds(tmp_path: Path, logits: list[float], outcome: Outcome) -> None:
    engine = Said()
    engine.logits = logits
    (tmp_path / "film.dcm").write_bytes(FILM)
    assert Classifier(MODEL, engine).judge_file(tmp_path / "film.dcm").assessment.outcome is outcome


def on_the_wire(folder: Path, number: int, *, pixels: bool) -> Object:
    """Return a film of a study and a patient of its own, with its Pixel Data or without any."""
    ds = encode(picture(80, 70), Encoding())
    ds.StudyInstanceUID, ds.PatientID = f"1.2.{number}", f"SYN-{number}"
    ds.SOPInstanceUID = f"1.2.{number}.1"
    if not pixels:
        del ds.PixelData
    (folder / "film.dcm").write_bytes(file_bytes(ds))
    return read_part10(folder / "film.dcm")


def test_a_film_without_pixels_is_taken_and_list_and_log_say_why_it_has_no_answer(
    tmp_path: Path, caplog
) -> None:
    caplog.set_level(logging.INFO)
    with receiving(tmp_path / "room", evidence={CompletedBy.ASSOCIATION_RELEASE}) as room:
        peer = RawPeer(room.address, [(DX, EXPLICIT_LE)])
        assert peer.store(on_the_wire(tmp_path, 1, pixels=False))[0] == 0x0000
        assert peer.store(on_the_wire(tmp_path, 2, pixels=True))[0] == 0x0000
        peer.release()
        wait_until(lambda: room.jobs("conclude") == 2, 10)
        classifier = Classifier(MODEL, Said())
        stage = AssessStage(
            room.db, room.queue, classifier, spool=room.spool.folder, clock=clock, policy=policies.active
        )
        for name, handler in ((Stage.ASSESS, stage.assess_film), (Stage.CONCLUDE, stage.conclude_study)):
            worker = Worker(room.db, room.queue, name, handler, clock)
            assert [worker.run_one() for _ in range(3)] == [True, True, False]
        with room.db.read() as session:
            listed = {item["study_instance_uid"]: item for item in listing.page(session, clock())["items"]}
            [film] = listing.study(session, "1.2.1", clock())["instances"]
    sentence = "The object has no Pixel Data."
    assert (film["outcome"], film["reason"], film["sentence"]) == ("not_evaluated", "no-pixels", sentence)
    empty, next_one = (listed[uid]["assessment"] for uid in ("1.2.1", "1.2.2"))
    assert (empty["state"], empty["sentence"]) == ("not_evaluated", sentence)
    assert next_one["outcome"] == "positive"
    lines = [record for record in caplog.records if getattr(record, "event", "") == "assessed"]
    assert [getattr(line, "sentence", "") for line in lines] == [sentence, ""]
    assert "SYN" not in str([vars(line) for line in lines])
