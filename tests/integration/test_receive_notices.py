"""MPPS and IAN complete a study when everything that they list is here, whichever comes first."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from sqlalchemy import event

from tests.peers import wait_until
from tests.rawpeer import EXPLICIT_LE, RawPeer
from tests.receiving import an_object, receiving
from tests.unit.receive.objects import CR
from triage.domain.study import CompletedBy, StudyState
from triage.receive.contexts import IAN, MPPS


def item(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def step(status: str, *uids: str) -> Dataset:
    images = [item(ReferencedSOPClassUID=CR, ReferencedSOPInstanceUID=uid) for uid in uids]
    series = item(SeriesInstanceUID="1.2.3.0", ReferencedImageSequence=images)
    return item(PerformedProcedureStepStatus=status, PerformedSeriesSequence=[series])


@pytest.fixture(params=[True, False], ids=["fast", "ordinary"])
def room(request, tmp_path):
    evidence = {CompletedBy.MPPS, CompletedBy.IAN}
    with receiving(tmp_path, fast=request.param, quiet=60, evidence=evidence) as made:
        yield made


def a_peer(room, sop_class):
    ae = AE("MODALITY")
    ae.add_requested_context(sop_class)
    return ae.associate(*room.address)


def complete(room) -> bool:
    return bool(room.studies()) and room.studies()[0].state is StudyState.COMPLETE


@pytest.mark.parametrize("images_first", [True, False])
def test_a_completed_step_completes_its_study_once_all_its_images_are_here(room, images_first):
    images = RawPeer(room.address, [(CR, EXPLICIT_LE)])
    if images_first:
        for number in (1, 2):
            images.store(an_object(number))
    mpps = a_peer(room, MPPS)
    begun = item(ScheduledStepAttributesSequence=[item(StudyInstanceUID="1.2.3")])
    begun.PerformedProcedureStepStatus = "IN PROGRESS"
    assert mpps.send_n_create(begun, MPPS, "1.9.1")[0].Status == 0
    assert mpps.send_n_set(step("COMPLETED", "1.2.3.1", "1.2.3.2"), MPPS, "1.9.1")[0].Status == 0
    if not images_first:
        images.store(an_object(1))
        assert not complete(room)
        images.store(an_object(2))
    wait_until(lambda: complete(room), 5)
    assert room.studies()[0].completed_by is CompletedBy.MPPS
    assert room.jobs("conclude") == 1
    mpps.release()
    images.release()


def test_a_step_that_nobody_began_is_told_so(room):
    mpps = a_peer(room, MPPS)
    assert mpps.send_n_set(step("COMPLETED", "1.2.3.1"), MPPS, "1.9.9")[0].Status == 0x0112
    mpps.release()


def test_a_notice_of_availability_completes_its_study(room):
    images = RawPeer(room.address, [(CR, EXPLICIT_LE)])
    images.store(an_object(1))
    ian = a_peer(room, IAN)
    listed = item(ReferencedSOPClassUID=CR, ReferencedSOPInstanceUID="1.2.3.1", InstanceAvailability="ONLINE")
    series = item(SeriesInstanceUID="1.2.3.0", ReferencedSOPSequence=[listed])
    notice = item(StudyInstanceUID="1.2.3", ReferencedSeriesSequence=[series])
    assert ian.send_n_create(notice, IAN, "1.9.2")[0].Status == 0
    wait_until(lambda: complete(room), 5)
    assert room.studies()[0].completed_by is CompletedBy.IAN
    ian.release()
    images.release()


def test_notices_of_studies_that_never_come_cost_an_object_nothing(room):
    """A PACS tells of all that it has, and sends the chest films only."""
    looks: list[str] = []

    def look(connection, cursor, statement, *rest) -> None:
        if "instance.sop_instance_uid" in statement and "JOIN study" in statement:
            looks.append(statement)

    event.listen(room.db.engine, "before_cursor_execute", look)
    for number in range(900):
        room.completion.expect(f"1.9.{number}", ["1.9.9"], CompletedBy.IAN)
    room.completion.expect("1.2.3", ["1.2.3.1", "1.2.3.2"], CompletedBy.IAN)
    wait_until(lambda: len(looks) >= 901, 60)
    looks.clear()
    images = RawPeer(room.address, [(CR, EXPLICIT_LE)])
    for number in range(1, 6):
        images.store(an_object(number, study="1.2.4"))
    for number in (1, 2):
        images.store(an_object(number))
    wait_until(lambda: any(study.state is StudyState.COMPLETE for study in room.studies()), 60)
    images.release()
    assert len(looks) <= 2, "one for each object of the study that a notice names"


def test_a_step_adds_to_the_notice_of_its_study_also_when_many_wait(room):
    for number in range(1000):
        room.completion.expect(f"1.2.{number + 3}", [f"1.2.{number + 3}.1"], CompletedBy.MPPS)
    room.completion.expect("1.2.3", ["1.2.3.2"], CompletedBy.MPPS)
    images = RawPeer(room.address, [(CR, EXPLICIT_LE)])
    images.store(an_object(2))
    images.store(an_object(1, study="1.2.4"))
    wait_until(lambda: any(study.state is StudyState.COMPLETE for study in room.studies()), 60)
    assert [study.study_uid for study in room.studies() if study.state is StudyState.COMPLETE] == ["1.2.4"]
    images.store(an_object(1))
    wait_until(lambda: all(study.state is StudyState.COMPLETE for study in room.studies()), 60)
    images.release()


def test_a_notice_that_could_not_be_looked_at_is_looked_at_again_by_itself(room, caplog):
    images = RawPeer(room.address, [(CR, EXPLICIT_LE)])
    images.store(an_object(1))
    images.release()
    with room.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE instance RENAME TO away")
    room.completion.expect("1.2.3", ["1.2.3.1"], CompletedBy.IAN)
    wait_until(lambda: "notices wait" in caplog.messages, 10)
    with room.db.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO instance")
    wait_until(lambda: complete(room), 10)
    assert room.studies()[0].completed_by is CompletedBy.IAN
