"""Files are purged when the report has gone out, and not before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.peers import wait_until
from tests.rawpeer import Object, send
from tests.receiving import EXPLICIT_LE, an_object, clock, receiving
from tests.unit.receive.objects import SR, film
from triage.domain.result import ResultState
from triage.domain.study import StudyState
from triage.receive.retention import Retention, purge
from triage.store import results
from triage.store.tables import Result, Study

LATER = timedelta(days=8)


def a_result(room, state: ResultState) -> None:
    with room.db.write() as session:
        row = results.add(
            session,
            study_id=1,
            study_version=1,
            kind="sr",
            sop_class_uid=SR,
            sop_instance_uid="2.25.1",
            path="x.dcm",
            destination="pacs",
            now=clock(),
        )
        row.state = state


def settle(room, state: StudyState) -> None:
    with room.db.write() as session:
        session.execute(update(Study).values(state=state))


def test_a_file_goes_only_when_its_study_is_settled_and_its_result_delivered(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))

        def purged() -> int:
            return purge(room.db, room.spool, clock() + LATER, timedelta(days=7))

        settle(room, StudyState.ASSESSING)
        assert purged() == 0
        settle(room, StudyState.ASSESSED)
        assert purged() == 0, "the report is not built yet"
        a_result(room, ResultState.QUEUED)
        assert purged() == 0, "the report is not sent yet"
        with room.db.write() as session:
            session.execute(update(Result).values(state=ResultState.SENT))
        assert purge(room.db, room.spool, clock(), timedelta(days=7)) == 0, "it is too young"
        assert purged() == 1
        assert room.files() == []
        assert room.instances()[0].purged_at is not None


def test_a_purged_object_that_comes_again_has_its_file_again_and_no_second_row(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))
        settle(room, StudyState.ASSESSED)
        a_result(room, ResultState.SENT)
        purge(room.db, room.spool, clock() + LATER, timedelta(days=7))
        assert send(room.address, an_object(1))[0] == 0
        (row,) = room.instances()
        assert room.files() == [row.path]


def done_with(room) -> None:
    """Let the room hold one object that nothing needs any more."""
    send(room.address, an_object(1))
    settle(room, StudyState.ASSESSED)
    a_result(room, ResultState.SENT)


def after_the_next_write(room, monkeypatch, then: Callable[[], object]) -> None:
    """Call `then` once, right after the next transaction has committed."""
    real, once = room.db.write, [then]

    @contextmanager
    def write(**options):
        with real(**options) as session:
            yield session
        if once:
            once.pop()()

    monkeypatch.setattr(room.db, "write", write)


def purge_all(room) -> int:
    return purge(room.db, room.spool, clock() + LATER, timedelta(days=7))


def test_an_object_that_comes_again_in_the_middle_of_its_purge_keeps_its_file(tmp_path, monkeypatch):
    with receiving(tmp_path, quiet=60) as room:
        done_with(room)
        answers = []
        after_the_next_write(room, monkeypatch, lambda: answers.append(send(room.address, an_object(1))[0]))
        purge_all(room)
        assert answers == [0]
        (row,) = room.instances()
        assert room.files() == [row.path], "what was acknowledged is there"


def test_an_object_whose_file_is_purged_before_its_commit_is_asked_for_again(tmp_path, monkeypatch):
    with receiving(tmp_path, quiet=60) as room:
        done_with(room)
        real = room.intake.write_down

        def write_down(arrival):
            purge_all(room)
            return real(arrival)

        monkeypatch.setattr(room.intake, "write_down", write_down)
        status, sentence = send(room.address, an_object(1))
        assert (status, sentence) == (
            0xA700,
            "The file of the object was being purged just now; send it again.",
        )
        (row,) = room.instances()
        assert (row.path, room.files()) == ("", []), "no row names a file that is gone"
        monkeypatch.undo()
        assert send(room.address, an_object(1))[0] == 0
        (row,) = room.instances()
        assert room.files() == [row.path]


def test_a_purge_that_is_killed_loses_nothing_and_leaves_nothing(tmp_path, monkeypatch):
    def killed() -> None:
        raise KeyboardInterrupt

    with receiving(tmp_path, quiet=60) as room:
        done_with(room)
        after_the_next_write(room, monkeypatch, killed)
        with pytest.raises(KeyboardInterrupt):
            purge_all(room)
        assert len(room.files()) == 1
    with receiving(tmp_path, quiet=60) as room:
        assert (room.recovered.readmitted, room.recovered.missing) == (1, ())
        (row,) = room.instances()
        assert room.files() == [row.path]
        assert purge_all(room) == 1
        assert room.files() == []


def test_quarantined_objects_wait_for_a_person(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))
        send(room.address, an_object(2, PatientID="P2"))
        settle(room, StudyState.ASSESSED)
        a_result(room, ResultState.SENT)
        assert purge(room.db, room.spool, clock() + LATER, timedelta(days=7)) == 1
        assert room.files() == [room.instances()[1].path]


def test_a_study_without_a_film_goes_once_it_is_complete(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        data = film({"SOPClassUID": SR, "SOPInstanceUID": "1.2.3.50"}, pixels=b"")
        send(room.address, Object(SR, "1.2.3.50", EXPLICIT_LE, data))
        settle(room, StudyState.COMPLETE)
        assert purge(room.db, room.spool, clock() + LATER, timedelta(days=7)) == 1


def test_a_full_disk_makes_everything_go_that_is_done_with(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))
        settle(room, StudyState.ASSESSED)
        a_result(room, ResultState.SENT)
        retention = Retention(room.db, room.spool, clock, timedelta(days=7), timedelta(seconds=0.05))
        retention.start()
        assert room.files()
        room.spool.low_water_bytes = 1 << 60
        wait_until(lambda: not room.files(), 5)
        retention.stop()
