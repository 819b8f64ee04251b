"""MPPS and IAN complete a study when everything that they list is here, whichever comes first."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

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
