"""Studies fetched from a real archive: found, fetched, kept, and not fetched twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.peers import wait_until
from tests.rawpeer import Object, RawPeer
from tests.receiving import EXPLICIT_LE, an_object, receiving
from tests.unit.receive.objects import CR
from triage.domain.study import CompletedBy, StudyState
from triage.errors import PeerUnreachable
from triage.receive.admission import PeerRule
from triage.receive.counting import Counting, sources
from triage.receive.query import Pacs, find_studies, get_study, move_study
from triage.settings import Peer


@pytest.fixture
def filled(orthanc):
    peer = RawPeer((orthanc.host, orthanc.dicom_port), [(CR, EXPLICIT_LE)], called=b"ORTHANC")
    for study, number in (("1.2.31", 1), ("1.2.31", 2), ("1.2.32", 1)):
        item: Object = an_object(number, study=study, PatientID=study, StudyDate="20260102")
        assert peer.store(item)[0] == 0
    peer.release()
    return orthanc


def test_studies_are_found_and_fetched_through_the_intake(filled, tmp_path):
    pacs = Pacs(filled.ae_title, filled.host, filled.dicom_port)
    found = {s.study_uid: s.objects for s in find_studies(pacs, {"StudyDate": "20260101-"})}
    assert found == {"1.2.31": 2, "1.2.32": 1}
    assert find_studies(pacs, {"PatientID": "nobody"}) == []
    with receiving(tmp_path) as room:
        seen = []
        brought = get_study(pacs, "1.2.31", room.intake, lambda: seen.append(1))
        assert (brought.done, brought.completed, len(seen)) == (True, 2, 2)
        assert sorted(row.sop_instance_uid for row in room.instances()) == ["1.2.31.1", "1.2.31.2"]
        assert room.jobs("assess") == 2


def test_an_archive_that_knows_us_moves_a_study_to_our_listener(late_orthanc, tmp_path):
    with receiving(tmp_path) as room:
        late_orthanc.start(DicomModalities={"us": ["TRIAGE", "127.0.0.1", room.address[1]]})
        peer = RawPeer((late_orthanc.host, late_orthanc.dicom_port), [(CR, EXPLICIT_LE)], called=b"ORTHANC")
        peer.store(an_object(1))
        peer.release()
        pacs = Pacs(late_orthanc.ae_title, late_orthanc.host, late_orthanc.dicom_port)
        assert move_study(pacs, "1.2.3", "TRIAGE", lambda: None).done
        wait_until(lambda: len(room.instances()) == 1, 10)


def test_a_study_is_complete_once_as_many_objects_are_here_as_its_source_counts(filled, tmp_path):
    asked = [(PeerRule("MODALITY"), Pacs(filled.ae_title, filled.host, filled.dicom_port))]
    with receiving(tmp_path, quiet=60) as room:
        counting = Counting(room.db, room.completion, asked, still=0.1)
        room.intake.on_stored(counting.stored)
        counting.start()
        # The association stays open: without the count nothing would complete the study for a minute.
        peer = RawPeer(room.address, [(CR, EXPLICIT_LE)], calling=b"MODALITY")
        assert peer.store(an_object(1, study="1.2.31", PatientID="1.2.31"))[0] == 0
        # Sources are asked one study after another: once the next one is complete, this one has been counted.
        assert peer.store(an_object(1, study="1.2.32", PatientID="1.2.32"))[0] == 0
        wait_until(lambda: room.studies()[1].state is StudyState.COMPLETE, 10)
        assert room.studies()[0].state is StudyState.RECEIVING
        assert peer.store(an_object(2, study="1.2.31", PatientID="1.2.31"))[0] == 0
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 10)
        assert room.studies()[0].completed_by is CompletedBy.COUNT
        peer.release()
        counting.stop()


def test_a_source_that_does_not_answer_completes_nothing_and_harms_nothing(tmp_path, caplog):
    asked = sources([Peer(ae_title="RAWPEER", count_at="NOBODY@127.0.0.1:1")], "TRIAGE")
    with receiving(tmp_path, quiet=1.5) as room:
        counting = Counting(room.db, room.completion, asked, still=0.1)
        room.intake.on_stored(counting.stored)
        counting.start()
        peer = RawPeer(room.address, [(CR, EXPLICIT_LE)])
        assert peer.store(an_object(1))[0] == 0
        wait_until(lambda: "could not be asked" in caplog.text, 10)
        peer.release()
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 10)
        counting.stop()


def test_nobody_there_is_one_sentence():
    with pytest.raises(PeerUnreachable, match="accepts no association"):
        find_studies(Pacs("NOBODY", "127.0.0.1", 1), {})


def test_the_command_fetches_once_and_then_knows(filled, tmp_path):
    environment = {**os.environ, "TRIAGE__SITE__DATA_DIR": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "triage", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert run("db", "upgrade").returncode == 0
    fetch = ("import", "--query", filled.destination, "--key", "StudyDate=20260101-", "--json")
    first, second = run(*fetch), run(*fetch)
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert json.loads(first.stdout) == {"studies": 2, "known": 0, "fetched": 2, "objects": 3, "failed": []}
    assert json.loads(second.stdout)["known"] == 2, second.stderr
    assert run("import", "--query", "nonsense").returncode == 2
