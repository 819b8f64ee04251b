"""Results reach real peers, however late or unwilling they are, and never wait for one that is frozen."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Comprehensive3DSRStorage
from sqlalchemy import func, select

from tests.peers import Dcmtk, Orthanc, free_port, wait_until
from tests.pipeline import Site, Storing, wall_clock
from tests.reports import answer, report_input
from triage.app import Role, Service
from triage.deliver import outbox
from triage.deliver.dicom import DicomDestination, Sender, StoredObject
from triage.domain.policy import Policy
from triage.domain.result import ResultState
from triage.errors import PeerUnreachable
from triage.report.document import file_bytes
from triage.report.sr import build_sr
from triage.settings import Settings
from triage.store.tables import Job
from triage.work.queue import Stage


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def frozen() -> Iterator[int]:
    """The port of a peer that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
    for one in kept:
        one.close()


def report(site: Site, *destinations: str, study_uid: str = "1.2.3", version: int = 1) -> int:
    study = site.study(answer(f"{study_uid}.4.1"), study_uid=study_uid, version=version)
    site.run(Stage.REPORT, site.reporter(**dict.fromkeys(destinations, ("sr",))).report_study)
    return study


def next_run(site: Site) -> datetime | None:
    """When the next result is due."""
    with site.db.read() as session:
        return session.scalar(select(func.min(Job.run_at)))


def states(site: Site, study: int) -> dict[str, ResultState]:
    return {row.destination: row.state for row in site.results(study)}


def test_storescp_gets_the_report(site: Site, dcmtk: Dcmtk, tmp_path: Path) -> None:
    study = report(site, "pacs")
    (tmp_path / "out").mkdir()
    with dcmtk.storescp(tmp_path / "out") as port:
        box = site.outbox(pacs=port)
        assert site.run(Stage.DELIVER, box.deliver_result) == 1
        box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_orthanc_files_the_report_under_the_films_study(site: Site, orthanc: Orthanc) -> None:
    study = report(site, "pacs", study_uid="1.2.826.77.1")
    film = site.folder / "spool" / "1.2.826.77.1.4.1.dcm"
    orthanc.post("/instances", film.read_bytes())
    box = site.outbox(pacs=orthanc.dicom_port)
    site.run(Stage.DELIVER, box.deliver_result)
    box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}
    stored = {one["MainDicomTags"]["SOPInstanceUID"] for one in orthanc.instances("1.2.826.77.1")}
    assert stored == {"1.2.826.77.1.4.1", site.results(study)[0].sop_instance_uid}


def test_orthanc_that_starts_late_gets_it_in_the_end(tmp_path: Path, late_orthanc: Orthanc) -> None:
    site = Site(tmp_path, wall_clock)
    study = report(site, "pacs", study_uid="1.2.826.77.2")
    box = site.outbox(pacs=late_orthanc.dicom_port)
    worker = site.worker(Stage.DELIVER, box.deliver_result)
    try:
        wait_until(lambda: site.results(study)[0].attempts >= 1)
        row = site.results(study)[0]
        assert (row.state, bool(row.last_error)) == (ResultState.QUEUED, True)
        late_orthanc.start()
        wait_until(lambda: states(site, study)["pacs"] is ResultState.SENT)
    finally:
        worker.stop()
        box.close()
    assert len(late_orthanc.instances("1.2.826.77.2")) == 1


def test_a_peer_out_of_resources_is_asked_again_with_growing_waits(site: Site) -> None:
    study = report(site, "pacs")
    with Storing(0xA700, 0xA700, 0xA700, 0xA700, 0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        waits = []
        while states(site, study)["pacs"] is ResultState.QUEUED:
            site.run(Stage.DELIVER, box.deliver_result)
            due = next_run(site)
            if due is not None:
                waits.append((due - site.clock()).total_seconds())
                assert "out of resources" in site.results(study)[0].last_error
                site.clock.advance(waits[-1])
        box.close()
    assert waits == [1, 2, 4, 8]
    assert states(site, study) == {"pacs": ResultState.SENT}
    assert site.results(study)[0].last_error == ""


def test_an_object_that_is_refused_is_dead_after_a_few_tries_and_a_person_can_retry(site: Site) -> None:
    study, other = report(site, "pacs"), report(site, "pacs", study_uid="1.2.9")
    with Storing(0xC000, 0x0000, 0xC000, 0xC000, 0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        for _ in range(5):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(10)
        # The one that is refused does not hold up the one behind it.
        assert (states(site, study), states(site, other)) == (
            {"pacs": ResultState.DEAD},
            {"pacs": ResultState.SENT},
        )
        assert "0xC000" in site.results(study)[0].last_error
        with site.db.write() as session:
            outbox.retry(session, site.queue, session.merge(site.results(study)[0]), site.clock())
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}


def test_an_object_on_which_the_peer_aborts_is_dead_after_a_few_tries_and_blocks_nobody(site: Site) -> None:
    poison = report(site, "pacs", study_uid="1.2.9")
    uid = site.results(poison)[0].sop_instance_uid
    with Storing(0x0000) as peer:
        peer.aborts_on.add(uid)
        box = site.outbox(pacs=peer.port)
        others = []
        for number in range(outbox.MAX_REFUSALS):
            others += [report(site, "pacs", study_uid=f"1.2.{number}.{n}") for n in range(2)]
            for _ in range(4):
                site.run(Stage.DELIVER, box.deliver_result)
                site.clock.advance(1)
            assert peer.stored == [site.results(study)[0].sop_instance_uid for study in others]
        box.close()
        assert set(peer.begun) - set(peer.stored) == {uid}
    row = site.results(poison)[0]
    assert (row.state, row.refusals) == (ResultState.DEAD, outbox.MAX_REFUSALS - 1)
    assert "aborted the association" in row.last_error


def test_a_peer_that_aborts_on_everything_kills_nothing_and_is_asked_ever_less_often(site: Site) -> None:
    studies = [report(site, "pacs", study_uid=f"1.2.{n}") for n in range(4)]
    with Storing(0x0000) as peer:
        peer.aborts_on.update(site.results(study)[0].sop_instance_uid for study in studies)
        box = site.outbox(pacs=peer.port)
        for _ in range(600):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(1)
        # after 1, 2, 4, 8, 15, 30 seconds and then every minute
        assert len(peer.begun) == 15
        peer.aborts_on.clear()
        for _ in range(2):
            site.clock.advance(60)
            site.run(Stage.DELIVER, box.deliver_result)
        box.close()
        assert set(peer.stored) == {site.results(study)[0].sop_instance_uid for study in studies}


def test_stops_of_the_service_in_the_middle_of_an_object_never_kill_it(site: Site, monkeypatch) -> None:
    monkeypatch.setattr(outbox, "_STOP_SECONDS", 0.05)
    study = report(site, "pacs")
    with Storing(0x0000) as peer:
        peer.seconds = [2.0] * outbox.MAX_REFUSALS + [0.0]
        for stops in range(1, outbox.MAX_REFUSALS + 1):
            box = site.outbox(pacs=peer.port)
            sending = threading.Thread(target=site.run, args=(Stage.DELIVER, box.deliver_result))
            sending.start()
            wait_until(lambda stops=stops: len(peer.begun) == stops, 5)
            box.close()
            sending.join(5)
            site.clock.advance(60)
        assert states(site, study) == {"pacs": ResultState.QUEUED}
        box = site.outbox(pacs=peer.port)
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}


def test_tries_while_the_destination_was_away_are_no_refusals(site: Site) -> None:
    study = report(site, "pacs")
    box = site.outbox(pacs=free_port())
    for _ in range(4):
        site.run(Stage.DELIVER, box.deliver_result)
        site.clock.advance(60)
    box.close()
    assert site.results(study)[0].attempts == 4
    with Storing(0x0110, 0x0110, 0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        for _ in range(3):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(60)
        box.close()
    row = site.results(study)[0]
    assert (row.state, row.attempts) == (ResultState.SENT, 7)


@pytest.mark.parametrize("status", [0x0111, 0xB000, 0xB006])
def test_a_duplicate_or_a_warning_is_success(site: Site, status: int) -> None:
    study = report(site, "pacs")
    with Storing(status) as peer:
        box = site.outbox(pacs=peer.port)
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}


def test_a_class_that_the_peer_does_not_take_is_dead_with_that_reason(site: Site, dcmtk: Dcmtk) -> None:
    study = report(site, "pacs")
    profile = site.folder / "storescp.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Native]\nTransferSyntax1=LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Only]\n"
        "PresentationContext1=1.2.840.10008.5.1.4.1.1.7\\Native\n"
        "[[Profiles]]\n[Default]\nPresentationContexts=Only\n"
    )
    with dcmtk.storescp(site.folder, "-xf", profile, "Default") as port:
        box = site.outbox(pacs=port)
        for _ in range(4):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(60)
        box.close()
    row = site.results(study)[0]
    assert row.state is ResultState.DEAD
    assert "1.2.840.10008.5.1.4.1.1.88.34" in row.last_error


def test_a_frozen_peer_holds_up_nobody(tmp_path: Path, frozen: int) -> None:
    site = Site(tmp_path, wall_clock)
    studies = [report(site, "frozen", "pacs", study_uid=f"1.2.{n}") for n in range(4)]
    with Storing(0x0000) as peer:
        box = site.outbox(patience_seconds=6.0, frozen=frozen, pacs=peer.port)
        worker = site.worker(Stage.DELIVER, box.deliver_result, threads=2)
        started = time.monotonic()
        try:
            wait_until(lambda: len(peer.stored) == 4, 5)
            assert time.monotonic() - started < 5
            wait_until(lambda: "did not answer in time" in _errors(site, studies, "frozen"), 12)
        finally:
            worker.stop()
    assert {states(site, study)["pacs"] for study in studies} == {ResultState.SENT}
    assert {states(site, study)["frozen"] for study in studies} == {ResultState.QUEUED}


def _errors(site: Site, studies: list[int], destination: str) -> str:
    rows = [row for study in studies for row in site.results(study)]
    return " ".join(row.last_error for row in rows if row.destination == destination)


def test_results_that_wait_for_a_destination_arrive_in_their_order(site: Site) -> None:
    port = free_port()
    studies = [report(site, "pacs", study_uid=f"1.2.{n}") for n in range(5)]
    box = site.outbox(pacs=port)
    site.run(Stage.DELIVER, box.deliver_result)
    # One try found the destination away; the others did not hammer it.
    assert sorted(site.results(study)[0].attempts for study in studies) == [0, 0, 0, 0, 1]
    box.close()
    with Storing(0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        site.clock.advance(2)
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
        assert peer.stored == [site.results(study)[0].sop_instance_uid for study in studies]


def test_a_destination_that_is_away_costs_one_try_a_round_however_many_results_wait(site: Site) -> None:
    for number in range(4):
        report(site, "away", study_uid=f"1.2.{number}")
    arriving = report(site, "pacs", study_uid="1.3")
    with Storing(0x0000) as peer:
        box = site.outbox(away=free_port(), pacs=peer.port)
        for tries in (1, 2, 3):
            site.run(Stage.DELIVER, box.deliver_result)
            with site.db.read() as session:
                taken = session.scalar(select(func.sum(Job.attempts)))
            assert taken == tries, "the other results were not even looked at"
            site.clock.advance(70)
        box.close()
    assert states(site, arriving) == {"pacs": ResultState.SENT}


def test_results_that_wait_behind_a_slow_answer_go_on_as_soon_as_it_is_there(tmp_path: Path) -> None:
    site = Site(tmp_path, wall_clock)
    studies = [report(site, "pacs", study_uid=f"1.2.{n}") for n in range(3)]
    with Storing(0x0000) as peer:
        peer.seconds = [1.0, 0.0]
        box = site.outbox(pacs=peer.port)
        worker = site.worker(Stage.DELIVER, box.deliver_result, threads=2)
        try:
            wait_until(lambda: len(peer.stored) == 3, 4)
        finally:
            worker.stop()
            box.close()
    assert peer.stored == [site.results(study)[0].sop_instance_uid for study in studies]


def test_a_clock_that_goes_back_does_not_stop_the_results(site: Site) -> None:
    study = report(site, "pacs")
    box = site.outbox(pacs=free_port())
    site.run(Stage.DELIVER, box.deliver_result)
    site.clock.advance(-3600)
    assert site.run(Stage.DELIVER, box.deliver_result) == 1
    assert site.results(study)[0].attempts == 2, "the destination was asked again"
    box.close()


def test_a_frozen_peer_does_not_hold_up_the_end_of_the_service(tmp_path: Path, frozen: int) -> None:
    site = Site(tmp_path, wall_clock)
    study = report(site, "frozen")
    settings = Settings.model_validate(
        {
            "site": {"data_dir": tmp_path},
            "destination": [{"name": "frozen", "ae_title": "PEER", "host": "127.0.0.1", "port": frozen}],
        }
    )
    service = Service(settings, Policy(), roles=frozenset({Role.DELIVER}))
    service.start()
    wait_until(lambda: _sending(site), 5)
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 5
    assert not any(thread.name.startswith("deliver") for thread in threading.enumerate())
    assert states(site, study) == {"frozen": ResultState.QUEUED}
    assert not _sending(site), "the next start goes on with it"


def test_a_send_that_begins_after_the_end_asks_no_peer(tmp_path: Path, frozen: int) -> None:
    site = Site(tmp_path, wall_clock)
    study = report(site, "frozen")
    sender = Sender(DicomDestination("frozen", "PEER", "127.0.0.1", frozen, "TRIAGE"))
    sender.close(time.monotonic())
    with pytest.raises(PeerUnreachable, match="the service was stopped"):
        sender.send(StoredObject.read(tmp_path / "results" / site.results(study)[0].path))


def _sending(site: Site) -> bool:
    with site.db.read() as session:
        return any(session.scalars(select(Job.leased_until)))


def test_a_later_version_waits_for_the_earlier_one(site: Site) -> None:
    study = report(site, "pacs")
    report(site, "pacs", version=2)
    with Storing(0xC000, 0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        for _ in range(3):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(5)
        box.close()
        assert peer.stored == [row.sop_instance_uid for row in site.results(study)]


def test_a_destination_that_was_removed_leaves_a_dead_letter_that_says_so(site: Site) -> None:
    study = report(site, "old_pacs")
    box = site.outbox()
    site.run(Stage.DELIVER, box.deliver_result)
    row = site.results(study)[0]
    assert row.state is ResultState.DEAD
    assert "old_pacs" in row.last_error


def test_a_file_that_was_deleted_is_a_dead_letter(site: Site) -> None:
    study = report(site, "pacs")
    (site.folder / "results" / site.results(study)[0].path).unlink()
    box = site.outbox(pacs=free_port())
    site.run(Stage.DELIVER, box.deliver_result)
    row = site.results(study)[0]
    assert row.state is ResultState.DEAD
    assert "triage results rebuild" in row.last_error


def test_a_file_that_can_not_be_read_for_a_while_is_sent_afterwards(site: Site) -> None:
    study, other = report(site, "pacs"), report(site, "pacs", study_uid="1.2.9")
    path = site.folder / "results" / site.results(study)[0].path
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(path)
    with Storing(0x0000) as peer:
        box = site.outbox(pacs=peer.port)
        for _ in range(5):
            site.run(Stage.DELIVER, box.deliver_result)
            site.clock.advance(60)
        row = site.results(study)[0]
        assert (row.state, states(site, other)["pacs"]) == (ResultState.QUEUED, ResultState.SENT)
        assert "can't be read now" in row.last_error
        path.unlink()
        path.write_bytes(kept)
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}


def test_an_object_that_was_sent_before_a_crash_is_not_doubled(site: Site, orthanc: Orthanc) -> None:
    study = report(site, "pacs", study_uid="1.2.826.77.3")
    row = site.results(study)[0]
    peer = DicomDestination("pacs", orthanc.ae_title, orthanc.host, orthanc.dicom_port, "TRIAGE")
    sender = Sender(peer)
    # What a process did that died before it could commit:
    assert sender.send(StoredObject.read(site.folder / "results" / row.path)) == 0
    sender.release()
    box = site.outbox(pacs=orthanc.dicom_port)
    site.run(Stage.DELIVER, box.deliver_result)
    box.close()
    assert states(site, study) == {"pacs": ResultState.SENT}
    assert len(orthanc.instances("1.2.826.77.3")) == 1


def _accepting_and_deaf(server: socket.socket, kept: list[socket.socket]) -> None:
    """Accept one association with its first context, then never read another byte."""
    connection = server.accept()[0]
    kept.append(connection)
    head = connection.recv(6, socket.MSG_WAITALL)
    body = connection.recv(int.from_bytes(head[2:6], "big"), socket.MSG_WAITALL)
    request = A_ASSOCIATE_RQ()
    request.decode(bytes(head + body))
    primitive = request.to_primitive()
    chosen = build_context(Comprehensive3DSRStorage, ExplicitVRLittleEndian)
    chosen.context_id, chosen.result = primitive.presentation_context_definition_list[0].context_id, 0
    primitive.presentation_context_definition_results_list = [chosen]
    primitive.presentation_context_definition_list = []
    primitive.result = 0
    answer = A_ASSOCIATE_AC()
    answer.from_primitive(primitive)
    connection.sendall(answer.encode())


def test_a_peer_that_stops_reading_in_the_middle_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "large.dcm"
    ds = build_sr(report_input(answer()))
    ds.add_new(0x00420011, "OB", bytes(20_000_000))
    path.write_bytes(file_bytes(ds))
    kept: list[socket.socket] = []
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as server:
        deaf = threading.Thread(target=_accepting_and_deaf, args=(server, kept), daemon=True)
        deaf.start()
        peer = DicomDestination("deaf", "DEAF", "127.0.0.1", server.getsockname()[1], "TRIAGE")
        item = replace(StoredObject.read(path), size=0)
        sender = Sender(peer, patience_seconds=3)
        with pytest.raises(PeerUnreachable, match="did not take the data in time"):
            sender.send(item)
        deaf.join(5)
        # The threads that hung on it come to their end too.
        wait_until(lambda: threading.active_count() <= before, 10)
    for one in kept:
        one.close()


def test_a_peer_that_rejects_us_is_quoted(site: Site) -> None:
    study = report(site, "pacs")
    with Storing(0x0000, title="OTHER") as peer:
        box = site.outbox(pacs=peer.port)
        site.run(Stage.DELIVER, box.deliver_result)
        box.close()
    row = site.results(study)[0]
    assert row.state is ResultState.QUEUED
    assert "Called AE title not recognised" in row.last_error
