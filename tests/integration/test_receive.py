"""The listener over real sockets; protocol tests run over the fast path and over pynetdicom as it comes."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import AE

from tests.peers import wait_until
from tests.rawpeer import (
    VERIFICATION,
    Aborted,
    Object,
    RawPeer,
    Rejected,
    associate_request,
    pdata,
    send,
    store_command,
)
from tests.receiving import EXPLICIT_LE, an_object, clock, receiving, refusals_in
from tests.unit.receive.objects import CR, SR, film
from triage.domain.study import CompletedBy, StudyState
from triage.receive.admission import Admission, PeerRule
from triage.receive.intake import Intake, Sender
from triage.receive.parse import Claim
from triage.receive.refusals import RefusalLog
from triage.store import instances, policies
from triage.worklist import listing, orders
from triage.worklist.orders import Person as Patient

both_paths = pytest.mark.parametrize("fast", [True, False], ids=["fast", "ordinary"])
CT = "1.2.840.10008.5.1.4.1.1.2"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
CONTEXTS = [(CR, EXPLICIT_LE), (VERIFICATION, "1.2.840.10008.1.2")]


@both_paths
def test_what_is_acknowledged_lies_on_disk_byte_for_byte_and_in_a_row(tmp_path, fast):
    item = an_object()
    with receiving(tmp_path, fast=fast) as room:
        assert send(room.address, item)[0] == 0x0000
        (row,) = room.instances()
        stored = room.spool.path(row.path).read_bytes()
        assert stored.endswith(item.data)
        assert stored[128:132] == b"DICM"
        assert row.digest == hashlib.sha256(item.data).hexdigest()
        assert row.size == len(item.data)
        assert "1.2.3" not in row.path
        assert room.jobs("assess") == 1
        assert room.files() == [row.path]


@both_paths
def test_an_echo_is_answered_also_between_objects(tmp_path, fast):
    with receiving(tmp_path, fast=fast) as room:
        ae = AE("ECHO")
        ae.add_requested_context(VERIFICATION)
        assoc = ae.associate(*room.address)
        assert assoc.send_c_echo().Status == 0x0000
        assert send(room.address, an_object())[0] == 0x0000
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


@both_paths
def test_a_command_and_its_data_in_many_small_fragments_are_one_object(tmp_path, fast):
    item = an_object()
    with receiving(tmp_path, fast=fast) as room:
        peer = RawPeer(room.address, CONTEXTS)
        command = store_command(item.sop_class, item.sop_instance, 7)
        for at in range(0, len(command), 20):
            peer.sock.sendall(pdata(1, 3 if at + 20 >= len(command) else 1, command[at : at + 20]))
        peer.send_data(1, item.data, piece=37)
        assert peer.answer()[0] == 0x0000
        peer.release()
        assert room.spool.path(room.instances()[0].path).read_bytes().endswith(item.data)


@both_paths
def test_command_and_data_may_share_one_pdu(tmp_path, fast):
    item = an_object()
    with receiving(tmp_path, fast=fast) as room:
        peer = RawPeer(room.address, CONTEXTS)
        command = store_command(item.sop_class, item.sop_instance, 7)
        half = len(item.data) // 2
        values = b"".join(
            struct.pack(">LBB", len(part) + 2, 1, control) + part
            for control, part in ((3, command), (0, item.data[:half]), (2, item.data[half:]))
        )
        peer.sock.sendall(struct.pack(">BBL", 4, 0, len(values)) + values)
        assert peer.answer()[0] == 0x0000
        peer.release()


@both_paths
def test_many_objects_of_one_association_and_several_at_once(tmp_path, fast):
    def one(study: int) -> list[int]:
        peer = RawPeer(room.address, CONTEXTS)
        answers = [peer.store(an_object(n, study=f"1.2.{study}"))[0] for n in range(1, 6)]
        peer.release()
        return answers

    with receiving(tmp_path, fast=fast) as room, ThreadPoolExecutor(8) as pool:
        assert {status for answers in pool.map(one, range(10, 18)) for status in answers} == {0}
        assert len(room.instances()) == 40
        assert len(room.studies()) == 8


@both_paths
@pytest.mark.parametrize(
    ("item", "status"),
    [
        (Object(CR, "1.2.3.4", EXPLICIT_LE, film()[:-5]), 0xC000),
        (Object(CR, "1.2.3.4", EXPLICIT_LE, film(drop=("StudyInstanceUID",))), 0xA900),
        (Object(CR, "1.2.3.99", EXPLICIT_LE, film()), 0xA900),
        (Object(CR, "1.2.3.4", EXPLICIT_LE, b"no DICOM at all, just a long text" * 9), 0xC000),
    ],
    ids=["cut", "no study", "another UID", "text"],
)
def test_a_refused_object_leaves_a_sentence_and_no_file_and_the_next_one_is_fine(
    tmp_path, fast, item, status
):
    with receiving(tmp_path, fast=fast) as room:
        peer = RawPeer(room.address, CONTEXTS)
        answer, comment = peer.store(item)
        assert answer == status
        assert comment
        assert peer.store(an_object(7))[0] == 0x0000
        peer.release()
        wait_until(lambda: room.refused(), 5)
        channel, told, sentence = room.refused()[0]
        assert (channel, told) == ("c-store", f"0x{status:04X}")
        assert sentence.endswith(".")
        assert len(room.files()) == 1


@both_paths
def test_an_object_above_the_limit_is_refused_and_not_kept(tmp_path, fast):
    with receiving(tmp_path, fast=fast, max_object_bytes=100_000) as room:
        peer = RawPeer(room.address, CONTEXTS)
        big = an_object(2, Rows=1000, Columns=1000)
        status, comment = peer.store(Object(CR, big.sop_instance, EXPLICIT_LE, big.data + bytes(2_000_000)))
        assert status == 0xC000
        assert "larger" in comment
        assert peer.store(an_object(3))[0] == 0x0000
        peer.release()
        assert len(room.files()) == 1


def test_the_same_bytes_again_change_nothing(tmp_path):
    with receiving(tmp_path) as room:
        assert [send(room.address, an_object())[0] for _ in range(3)] == [0, 0, 0]
        assert len(room.instances()) == len(room.files()) == room.jobs("assess") == 1


def test_the_same_object_on_many_associations_at_once_is_one_row(tmp_path):
    with receiving(tmp_path) as room, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: send(room.address, an_object())[0], range(24)))
        assert answers == [0] * 24
        assert len(room.instances()) == len(room.files()) == 1


def test_other_bytes_under_one_uid_are_both_kept_and_the_newer_counts(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object())
        send(room.address, an_object(PatientComments="again"))
        old, new = room.instances()
        assert (old.current, old.conflict) == (False, True)
        assert (new.current, new.conflict) == (True, True)
        assert len(room.files()) == 2
        assert room.jobs("assess") == 2


def under_one_uid(sop_class: str, comment: str = "") -> Object:
    """Return an object of that class that has the UID of every other one made here."""
    data = film({"SOPClassUID": sop_class, "SOPInstanceUID": "1.2.3.1", "PatientComments": comment})
    return Object(sop_class, "1.2.3.1", EXPLICIT_LE, data)


@pytest.mark.parametrize(
    ("classes", "counts"),
    [
        ((CR, SR), CR),
        ((SR, CR), CR),
        ((CR, DX_FOR_PROCESSING), CR),
        ((DX_FOR_PROCESSING, SR), DX_FOR_PROCESSING),
    ],
    ids=["a report after it", "a report before it", "a raw film", "a report and a raw film"],
)
def test_what_is_no_film_never_takes_the_place_of_the_film_whose_uid_it_has(tmp_path, classes, counts):
    with receiving(tmp_path, quiet=60) as room:
        assert [send(room.address, under_one_uid(sop_class))[0] for sop_class in classes] == [0, 0]
        with room.db.read() as session:
            shown = listing.study(session, "1.2.3", clock())["instances"]
            pending = instances.films_pending(session, room.studies()[0].id)
        assert [one["sop_class_uid"] for one in shown if one["current"]] == [counts]
        assert [one["conflict"] for one in shown] == [True, True]
        assert (pending, room.jobs("assess")) == ((1, 1) if CR in classes else (0, 0))
        assert len(room.files()) == 2
        send(room.address, under_one_uid(counts, "corrected"))
        assert [row.current for row in room.instances()] == [False, False, True], "a newer film does"


def test_another_patient_under_a_known_study_is_kept_apart(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        assert send(room.address, an_object(2, PatientID="P2", PatientName="Other^Person"))[0] == 0x0000
        first, second = room.instances()
        assert second.study_id is None
        assert second.quarantine
        assert first.study_id is not None
        assert room.jobs("assess") == 1
        wait_until(lambda: room.refused(), 5)
        assert room.refused()[0][1] == "quarantined"
        assert "Other" not in room.refused()[0][2]


@pytest.mark.parametrize(
    ("second", "merged"),
    [
        ({"PatientID": "P1", "PatientName": "Doe^J"}, True),
        ({"PatientID": "", "PatientName": "Doe^Jane"}, True),
        ({"PatientID": "", "PatientName": ""}, False),
        ({"PatientID": "P1", "PatientBirthDate": "19991231"}, False),
        ({"PatientID": "P1", "IssuerOfPatientID": "Elsewhere"}, True),
    ],
)
def test_whose_object_it_is_is_compared_and_empty_values_match_nobody(tmp_path, second, merged):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        send(room.address, an_object(2, **second))
        assert (room.instances()[1].study_id is not None) is merged


def change(room, *patients: Patient) -> None:
    """Tell that a patient's record changed: one is corrected, of two the first goes into the second."""
    with room.db.write() as session:
        orders.merge(session, patients[0], patients[-1], clock(), "his")


@pytest.mark.parametrize(
    "changes",
    [
        [(Patient("P1"), Patient("P2"))],
        [(Patient("P1"), Patient("P2", "HOSP", "Roe^Jane", "19710101"))],
        [(Patient("P1", birth_date="19710101"),)],
        [(Patient("P1"), Patient("P2")), (Patient("P2"), Patient("P3"))],
    ],
    ids=["merged", "merged and renamed", "corrected", "merged twice"],
)
def test_the_next_film_of_a_study_is_its_own_although_his_changed_the_patient_meanwhile(tmp_path, changes):
    """The modality goes on with the record that it has."""
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))
        for patients in changes:
            change(room, *patients)
        new = changes[-1][-1]
        send(room.address, an_object(2))
        send(room.address, an_object(3, IssuerOfPatientID="MODALITY"))
        told = {"PatientID": new.patient_id, "PatientName": new.name or "Doe^Jane"}
        send(room.address, an_object(4, **told, PatientBirthDate=new.birth_date or "19700101"))
        assert room.jobs("assess") == 4
        send(room.address, an_object(5, PatientID="P9", PatientName="Other^Person"))
        send(room.address, an_object(6, PatientBirthDate="19991231"))
        assert [bool(row.quarantine) for row in room.instances()] == [False] * 4 + [True] * 2
        (study,) = room.studies()
        assert study.patient_id == new.patient_id
        if new.patient_id != "P1":
            assert study.patient_id_issuer == new.issuer, "an earlier ID's issuer says nothing of this one"


def test_a_birth_date_that_his_fills_in_tells_two_patients_apart(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1, PatientBirthDate=""))
        change(room, Patient("P1", birth_date="19700101"))
        send(room.address, an_object(2, PatientBirthDate=""))
        send(room.address, an_object(3, PatientBirthDate="19991231"))
        assert [bool(row.quarantine) for row in room.instances()] == [False, False, True]


def test_of_another_modality_the_log_and_the_study_say_that_it_is_not_assessed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    slice_ = {"SOPClassUID": CT, "Modality": "CT"}
    with receiving(tmp_path) as room:
        assert send(room.address, an_object(1, **slice_))[0] == 0
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        said = "A study without a radiograph is kept; it is not assessed and has no place in the list."
        assert caplog.messages.count(said) == 1
        with room.db.read() as session:
            assert listing.study(session, "1.2.3", clock())["assessment"]["sentence"] == said
        assert send(room.address, an_object(2))[0] == 0
        with room.db.read() as session:
            assert listing.study(session, "1.2.3", clock())["assessment"]["sentence"] == ""


def test_a_paper_without_a_film_has_no_place_in_the_list_and_never_reopens_a_study(tmp_path):
    paper = {"SOPClassUID": SR, "Modality": "SR"}
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        data = film({**paper, "SOPInstanceUID": "1.2.3.50"}, pixels=b"")
        assert send(room.address, Object(SR, "1.2.3.50", EXPLICIT_LE, data))[0] == 0
        assert room.studies()[0].state is StudyState.COMPLETE
        assert send(room.address, an_object(2))[0] == 0
        assert room.studies()[0].version == 2


def test_a_study_is_complete_after_the_release_and_once(tmp_path):
    with receiving(tmp_path, quiet=30) as room:
        send(room.address, an_object(1))
        study = wait_until(lambda: [s for s in room.studies() if s.state is StudyState.COMPLETE], 5)[0]
        assert study.completed_by is CompletedBy.ASSOCIATION_RELEASE
        assert room.jobs("conclude") == 1


def test_an_open_association_holds_the_quiet_timer_back(tmp_path):
    with receiving(tmp_path, quiet=0.2, evidence={CompletedBy.QUIET}) as room:
        peer = RawPeer(room.address, CONTEXTS)
        peer.store(an_object(1))
        # Another study that came later and is complete: the first one's quiet time is over too.
        send(room.address, an_object(1, study="1.2.8"))
        wait_until(lambda: room.studies()[1].state is StudyState.COMPLETE, 5)
        assert room.studies()[0].state is StudyState.RECEIVING
        peer.store(an_object(2))
        peer.release()
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        assert room.studies()[0].completed_by is CompletedBy.QUIET
        assert room.studies()[0].version == 1


def in_the_middle(room, number: int) -> RawPeer:
    """Return an association that has begun an object of another study, and does not end it."""
    item = an_object(number, study="1.2.9")
    peer = RawPeer(room.address, CONTEXTS)
    peer.sock.sendall(pdata(1, 3, store_command(item.sop_class, item.sop_instance, 1)))
    peer.sock.sendall(pdata(1, 0, item.data[:100]))
    wait_until(lambda: bool(room.spool.being_written), 5)
    return peer


def test_a_sender_that_is_never_idle_delays_what_it_released_no_longer_than_the_quiet_time(tmp_path):
    with receiving(tmp_path, quiet=1.5) as room:
        other = in_the_middle(room, 1)
        send(room.address, an_object(1))
        study = wait_until(lambda: [s for s in room.studies() if s.state is StudyState.COMPLETE], 10)[0]
        assert study.completed_by is CompletedBy.ASSOCIATION_RELEASE
        assert (study.completed_at - study.last_instance_at).total_seconds() > 1.2, "the next film may come"
        other.abort()


def test_without_the_quiet_timer_a_study_waits_for_the_release_of_its_association(tmp_path):
    evidence = {CompletedBy.ASSOCIATION_RELEASE}
    with receiving(tmp_path, quiet=0.05, hold=0.1, evidence=evidence) as room:
        peer = RawPeer(room.address, CONTEXTS)
        peer.store(an_object(1))
        # Others come and are complete until far more has passed than the quiet time and the longest hold.
        for number in itertools.count(1):
            send(room.address, an_object(1, study=f"1.2.8.{number}"))
            wait_until(lambda: room.studies()[-1].state is StudyState.COMPLETE, 5)
            first, *_, last = room.studies()
            if last.completed_at - first.last_instance_at > timedelta(seconds=0.5):
                break
        assert first.state is StudyState.RECEIVING
        peer.release()
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        assert room.jobs("conclude") == len(room.studies())


def test_a_study_that_another_process_left_is_completed_without_a_restart(tmp_path):
    with receiving(tmp_path, quiet=0.05, hold=0.05, look_every=0.1) as room:
        item = an_object(1)
        # An intake that tells nobody: what a process leaves that ended in the middle of a study.
        alone = Intake(room.db, room.queue, room.spool, clock, policies.active, room.refusals)
        file = alone.open(Claim(item.sop_class, item.sop_instance, item.syntax), Sender("IMPORT", ""))
        file.write(memoryview(item.data))
        assert alone.accept(file, Sender("IMPORT", "")).stored
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        assert room.studies()[0].completed_by is CompletedBy.QUIET
        assert room.jobs("conclude") == 1


def test_the_word_of_an_object_makes_its_study_urgent(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        assert room.studies()[0].object_urgency.value == "routine"
        send(room.address, an_object(2, RequestedProcedurePriority="STAT"))
        assert room.studies()[0].object_urgency.value == "stat"
        send(room.address, an_object(3, RequestedProcedurePriority="LOW"))
        assert room.studies()[0].object_urgency.value == "stat"


@both_paths
def test_peers_that_are_not_listed_and_wrong_called_titles_are_rejected_and_noted(tmp_path, fast):
    peers = (PeerRule(ae_title="GOOD", host="127.0.0.0/8"), PeerRule(ae_title="SAFE", tls_only=True))
    with receiving(tmp_path, fast=fast, peers=peers, check_called_ae=True) as room:
        RawPeer(room.address, CONTEXTS, calling=b"GOOD").release()
        for calling, called, reason in (
            (b"BAD", b"TRIAGE", 3),
            (b"GOOD", b"OTHER", 7),
            (b"SAFE", b"TRIAGE", 3),
        ):
            with pytest.raises(Rejected) as caught:
                RawPeer(room.address, CONTEXTS, calling=calling, called=called)
            assert caught.value.args[0] == (1, 1, reason)
        wait_until(lambda: len(room.refused()) == 3, 5)
        assert {status for _, status, _ in room.refused()} == {"1/1/3", "1/1/7"}


ECHO_ONLY = [(VERIFICATION, EXPLICIT_LE)]


@both_paths
def test_with_peers_listed_this_machine_may_ask_for_a_sign_of_life_and_import(tmp_path, caplog, fast):
    """Over loopback only, and an import is known by its title, a sign of life by asking for nothing else."""
    peers = (PeerRule(ae_title="GOOD"), PeerRule(ae_title="TRIAGE", host="192.0.2.0/24"))
    with receiving(tmp_path, fast=fast, peers=peers) as room:
        for _ in range(2):
            RawPeer(room.address, ECHO_ONLY, calling=b"TRIAGE").release()
        peer = RawPeer(room.address, CONTEXTS, calling=b"TRIAGE_IMPORT")
        assert peer.store(an_object(1))[0] == 0x0000
        peer.release()
        assert not refusals_in(caplog)
        for calling, contexts in ((b"TRIAGE", CONTEXTS), (b"TRIAGE", CONTEXTS[:1]), (b"OTHER", ECHO_ONLY)):
            with pytest.raises(Rejected):
                RawPeer(room.address, contexts, calling=calling)
        sneaky = RawPeer(room.address, ECHO_ONLY, calling=b"TRIAGE")
        sneaky.sock.sendall(pdata(1, 3, store_command(CR, "1.2.3.2", 1)))
        with suppress(Aborted, OSError):  # one path aborts, the other answers
            sneaky.send_data(1, an_object(2).data)
            assert sneaky.answer()[0] == 0x0122
        sneaky.sock.close()
        wait_until(lambda: room.listener.open_associations == 0, 5)
        assert [row.sop_instance_uid for row in room.instances()] == ["1.2.3.1"]


@pytest.mark.parametrize(
    ("calling", "host", "tls_only", "is_in"),
    [
        ("TRIAGE", "127.0.0.1", False, True),
        ("TRIAGE", "127.0.0.1", True, True),
        ("TRIAGE", "::1", False, True),
        ("TRIAGE", "::ffff:127.0.0.1", False, True),
        ("TRIAGE", "192.0.2.7", False, False),
        ("TRIAGE", "::ffff:192.0.2.7", False, False),
        ("TRIAGE_IMPORT", "192.0.2.7", False, False),
        ("TRIAGE_IMPORT", "::ffff:192.0.2.7", False, False),
        ("GOOD", "::ffff:198.51.100.7", False, True),
    ],
)
def test_our_own_titles_open_nothing_to_another_machine(calling, host, tls_only, is_in):
    other = PeerRule(ae_title="" if tls_only else "GOOD", host="" if tls_only else "198.51.100.0/24")
    admission = Admission("TRIAGE", rules=(replace(other, tls_only=tls_only),))
    decided = admission.decide(
        calling=calling, called="TRIAGE", host=host, tls=False, only_echo=True, others=0, room=True
    )
    assert isinstance(decided, PeerRule) is is_in


def test_a_clock_that_goes_back_hides_no_refusal(tmp_path, caplog):
    now = clock()
    times = [now, now, now - timedelta(hours=1)]
    with receiving(tmp_path) as room:
        noted = RefusalLog(room.db, lambda: times.pop(0))
        for _ in range(3):
            noted.note(Sender("PACS", "127.0.0.1"), "c-store", "0xC000", "It is no film.")
    assert caplog.messages.count("It is no film.") == 2, "once, not again at once, and again by another hour"


@both_paths
def test_too_many_associations_are_told_to_come_back(tmp_path, fast):
    with receiving(tmp_path, fast=fast, max_associations=2) as room:
        held = [RawPeer(room.address, CONTEXTS) for _ in range(2)]
        with pytest.raises(Rejected) as caught:
            RawPeer(room.address, CONTEXTS)
        assert caught.value.args[0] == (2, 3, 2)
        held[0].release()
        wait_until(lambda: room.listener.open_associations < 2, 5)
        RawPeer(room.address, CONTEXTS).release()
        held[1].release()


def test_a_hundred_associations_at_once_each_store(tmp_path):
    with receiving(tmp_path) as room:
        peers = [RawPeer(room.address, CONTEXTS) for _ in range(100)]
        for number, peer in enumerate(peers):
            peer.send_object(an_object(number + 1))
        assert [peer.answer()[0] for peer in peers] == [0] * 100
        for peer in peers:
            peer.release()
        wait_until(lambda: room.listener.open_associations == 0, 10)


@both_paths
def test_a_private_class_does_not_fail_the_association(tmp_path, fast):
    with receiving(tmp_path, fast=fast) as room:
        peer = RawPeer(room.address, [*CONTEXTS, ("1.3.6.1.4.1.5962.301.9", EXPLICIT_LE)])
        assert peer.store(an_object())[0] == 0
        if fast:
            data = film({"SOPClassUID": "1.3.6.1.4.1.5962.301.9", "SOPInstanceUID": "1.2.3.9"})
            assert peer.store(Object("1.3.6.1.4.1.5962.301.9", "1.2.3.9", EXPLICIT_LE, data))[0] == 0
        peer.release()


@both_paths
def test_who_asks_the_same_again_is_answered_the_same_but_let_in_only_if_it_may(tmp_path, fast):
    with receiving(tmp_path, fast=fast) as room:
        for number in range(4):
            peer = RawPeer(room.address, [*CONTEXTS, ("1.2.3.4", EXPLICIT_LE)])
            assert peer.accepted == ({1, 3, 5} if fast else {1, 3})
            assert peer.store(an_object(number + 1))[0] == 0
            peer.release()
        other = RawPeer(room.address, [(SR, EXPLICIT_LE)])
        assert other.accepted == {1}
        other.release()
        assert len({row.sop_instance_uid for row in room.instances()}) == 4
        room.spool.low_water_bytes = 1 << 60
        with pytest.raises(Rejected) as caught:
            RawPeer(room.address, [*CONTEXTS, ("1.2.3.4", EXPLICIT_LE)])
        assert caught.value.args[0] == (2, 3, 1)
        wait_until(lambda: room.listener.open_associations == 0, 5)


def test_an_abort_in_the_middle_leaves_nothing_and_is_noted(tmp_path):
    with receiving(tmp_path) as room:
        peer = RawPeer(room.address, CONTEXTS)
        peer.sock.sendall(pdata(1, 3, store_command(CR, "1.2.3.1", 1)) + pdata(1, 0, film()[:100]))
        peer.abort()
        wait_until(lambda: room.refused(), 5)
        assert room.refused()[0][1] == "aborted"
        assert room.files() == []
        assert send(room.address, an_object())[0] == 0


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack(">BBL", 4, 0, 0xFFFFFFF0),
        struct.pack(">BBL", 1, 0, 0x7FFFFFFF),
        struct.pack(">BBL", 9, 0, 10) + bytes(10),
        associate_request(b"\x00\x07\xff\xfe", b"\x1b[31m", [("\xe9", "\xff")], 0),
        associate_request(b"X", b"Y", [], 16384)[:-9],
    ],
)
def test_rubbish_ends_its_own_connection_only(tmp_path, rubbish):
    with receiving(tmp_path, acse_timeout=1.0, dimse_timeout=1.0) as room:
        with socket.create_connection(room.address, 10) as sock:
            sock.sendall(rubbish)
            sock.settimeout(10)
            try:
                while sock.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        assert send(room.address, an_object())[0] == 0
        wait_until(lambda: room.listener.open_associations == 0, 5)


@pytest.mark.parametrize("length", [0, 1, 0xFFFFFFFF, 1 << 20])
def test_fragments_that_lie_about_their_length_are_aborted(tmp_path, length):
    with receiving(tmp_path) as room:
        peer = RawPeer(room.address, CONTEXTS)
        peer.sock.sendall(struct.pack(">BBLLBB", 4, 0, 20, length, 1, 3) + bytes(14))
        with pytest.raises((Aborted, ConnectionResetError)):
            peer.answer()
        assert send(room.address, an_object())[0] == 0


def test_a_sender_that_stalls_is_cut_off_and_the_others_are_not(tmp_path):
    with receiving(tmp_path, dimse_timeout=0.5) as room:
        slow = RawPeer(room.address, CONTEXTS)
        slow.sock.sendall(
            pdata(1, 3, store_command(CR, "1.2.3.1", 1)) + struct.pack(">BBLLBB", 4, 0, 5000, 4996, 1, 0)
        )
        assert send(room.address, an_object())[0] == 0
        with pytest.raises((Aborted, ConnectionResetError)):
            slow.answer()
        assert len(room.files()) == 1


def test_a_trickle_of_single_bytes_is_cut_off(tmp_path):
    with receiving(tmp_path, dimse_timeout=0.5) as room:
        slow = RawPeer(room.address, CONTEXTS)
        slow.sock.sendall(
            pdata(1, 3, store_command(CR, "1.2.3.1", 1)) + struct.pack(">BBLLBB", 4, 0, 5000, 4996, 1, 0)
        )
        cut = threading.Event()

        def drip() -> None:
            try:
                for _ in range(100):
                    slow.sock.sendall(b"x")
                    cut.wait(0.05)
            except OSError:
                cut.set()

        thread = threading.Thread(target=drip)
        thread.start()
        thread.join(10)
        assert cut.is_set()


def test_an_association_that_is_never_released_is_ended(tmp_path):
    with receiving(tmp_path, network_timeout=0.5) as room:
        peer = RawPeer(room.address, CONTEXTS)
        peer.store(an_object())
        with pytest.raises((Aborted, ConnectionResetError)):
            peer.answer()
        wait_until(lambda: room.listener.open_associations == 0, 5)


def test_a_full_disk_is_told_before_and_during(tmp_path):
    with receiving(tmp_path) as room:
        peer = RawPeer(room.address, CONTEXTS)
        room.spool.low_water_bytes = 1 << 60
        assert peer.store(an_object())[0] == 0xA700
        with pytest.raises(Rejected) as caught:
            RawPeer(room.address, CONTEXTS)
        assert caught.value.args[0] == (2, 3, 1)
        room.spool.low_water_bytes = 0
        assert peer.store(an_object())[0] == 0x0000
        peer.release()


def test_a_locked_database_is_told_and_recovers_by_itself(tmp_path):
    with receiving(tmp_path, busy_timeout=0.2) as room:
        peer = RawPeer(room.address, CONTEXTS)
        with room.db.engine.connect() as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            assert peer.store(an_object())[0] == 0xA700
            other.exec_driver_sql("ROLLBACK")
        assert peer.store(an_object())[0] == 0x0000
        peer.release()
        assert len(room.instances()) == len(room.files()) == 1


def test_a_restart_joins_spool_and_database(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        send(room.address, an_object(2))
        kept, gone = room.instances()
        (room.spool.folder / "incoming" / "half").write_bytes(b"half")
        (room.spool.folder / "ab" / "orphan.dcm").write_bytes(b"whole")
        room.spool.path(gone.path).unlink()
    with receiving(tmp_path) as room:
        assert (room.recovered.temporary, room.recovered.orphans) == (1, 1)
        assert room.recovered.missing == (gone.id,)
        assert room.files() == [kept.path]


def test_what_a_power_cut_takes_from_the_database_comes_back_from_the_spool(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(1))
    saved = (tmp_path / "triage.db").read_bytes()
    with receiving(tmp_path, quiet=60) as room:
        send(room.address, an_object(2, study="1.2.4"))
        peer = RawPeer(room.address, CONTEXTS, calling=b"MODALITY")
        peer.store(an_object(3, study="1.2.4"))
        peer.release()
        before = [(row.sop_instance_uid, row.digest, row.size, row.path) for row in room.instances()]
        arrived = {study.study_uid: study.arrived_at for study in room.studies()}
        torn = room.spool.path(before[0][3]).with_name("0" * 64 + ".dcm")
        torn.write_bytes(room.spool.path(before[0][3]).read_bytes()[:-9])
    (tmp_path / "triage.db").write_bytes(saved)
    with receiving(tmp_path, quiet=60) as room:
        assert (room.recovered.readmitted, room.recovered.orphans) == (2, 1)
        rows = room.instances()
        assert sorted((r.sop_instance_uid, r.digest, r.size, r.path) for r in rows) == sorted(before)
        assert room.jobs("assess") == 3
        assert {row.sender for row in rows if row.sop_instance_uid == "1.2.4.3"} == {"MODALITY"}
        for study in room.studies():
            assert abs((study.arrived_at - arrived[study.study_uid]).total_seconds()) < 1
        assert send(room.address, an_object(2, study="1.2.4"))[0] == 0x0000
        assert len(room.instances()) == len(room.files()) == 3


def lose_the_database(folder: Path) -> None:
    for file in folder.glob("triage.db*"):
        file.unlink()


def test_what_comes_back_from_the_spool_comes_in_the_order_in_which_it_came(tmp_path):
    """The first object says whose the study is, and of two under one UID the later counts."""
    with receiving(tmp_path, quiet=60) as room:
        for number in range(6):
            send(room.address, an_object(1, PatientComments=str(number)))
        for number in range(2, 5):
            send(room.address, an_object(number, PatientID="P2", PatientName="Other^Person"))
        for minute, row in enumerate(room.instances()):  # a file system's clock may tick slower than we send
            os.utime(room.spool.path(row.path), (minute * 60, minute * 60))
        before = [(row.digest, row.current, bool(row.quarantine)) for row in room.instances()]
    lose_the_database(tmp_path)
    with receiving(tmp_path, quiet=60) as room:
        assert [(row.digest, row.current, bool(row.quarantine)) for row in room.instances()] == before
        assert room.studies()[0].patient_id == "P1"


def test_a_whole_file_that_can_not_be_read_any_more_is_kept_and_named(tmp_path, caplog):
    """Its sender may have been told that it is safe: only what is not whole is deleted."""
    said = Claim(CR, "1.2.3.1", EXPLICIT_LE)
    with receiving(tmp_path) as room:
        file = room.spool.open(said, "PACS")
        file.write(memoryview(film({"PatientName": "Doe^Jane"}, drop=("StudyInstanceUID",))))
        relative = file.publish()
        send(room.address, an_object(2))
        torn = room.spool.path(room.instances()[0].path)
        torn.write_bytes(torn.read_bytes()[:-9])
    lose_the_database(tmp_path)
    for _ in range(2):
        with receiving(tmp_path) as room:
            assert room.files() == [relative]
            assert room.recovered.unreadable == (relative,)
            assert room.instances() == []
    (record, _) = [record for record in caplog.records if getattr(record, "event", "") == "file_unreadable"]
    assert record.path == relative
    assert "Doe" not in caplog.text


def test_the_port_in_use_is_one_sentence(tmp_path):
    from triage.errors import ConfigurationError

    with receiving(tmp_path / "a") as room:
        with pytest.raises(ConfigurationError, match="choose another"):
            receiving(tmp_path / "b", port=room.address[1]).__enter__()


def test_big_objects_arrive_whole_whatever_the_fragments(tmp_path):
    data = film({"Rows": 1000, "Columns": 1500}, pixels=bytes(range(256)) * 11719)
    with receiving(tmp_path) as room:
        for number, piece in enumerate((0, 16376, 131066, 4999), start=1):
            item = Object(CR, "1.2.3.4", EXPLICIT_LE, data + bytes(number))
            peer = RawPeer(room.address, CONTEXTS)
            peer.send_object(item, piece)
            assert peer.answer()[0] == 0
            peer.release()
            row = room.instances()[-1]
            assert room.spool.path(row.path).read_bytes().endswith(item.data)


def test_a_late_film_opens_the_next_version_and_brings_its_own_urgency(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        wait_until(lambda: room.studies()[0].state is StudyState.COMPLETE, 5)
        send(room.address, an_object(2, RequestedProcedurePriority="STAT"))
        study = room.studies()[0]
        assert (study.version, study.object_urgency.value) == (2, "stat")
        assert [row.study_version for row in room.instances()] == [1, 2]
        wait_until(lambda: room.jobs("conclude") == 2, 5)


def test_a_file_that_was_damaged_on_the_disk_is_replaced_when_its_object_comes_again(tmp_path):
    with receiving(tmp_path) as room:
        send(room.address, an_object(1))
        path = room.spool.path(room.instances()[0].path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-40])
        assert send(room.address, an_object(1))[0] == 0
        assert path.read_bytes() == whole
        assert len(room.files()) == 1
