"""Orders by REST, HL7 and modality worklist: by identity, early or late, once, never a stranger's."""

from __future__ import annotations

import socket
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind
from sqlalchemy import func, select

from tests.reading_room import arrive, uid_of
from triage.domain.priority import Urgency
from triage.errors import PeerUnreachable
from triage.store.tables import EntryEvent, Message, Order
from triage.worklist import listing, messages, mwl, orders
from triage.worklist.mllp import MAX_MESSAGE, MllpServer
from triage.worklist.orders import BadOrder, OrderRequest, Person, Source

MINUTE = timedelta(minutes=1)


def receive(db, now, **values):
    values.setdefault("source", Source.REST)
    with db.write() as session:
        return orders.receive(session, OrderRequest(**values), now, "ris")


def uids(db, now, status=listing.Status.WAITING):
    with db.read() as session:
        return [item["study_instance_uid"] for item in listing.page(session, now, status)["items"]]


def study(db, now, number):
    with db.read() as session:
        return listing.study(session, uid_of(number), now)


def events(db):
    with db.read() as session:
        return session.scalar(select(func.count()).select_from(EntryEvent))


def test_a_late_stat_order_takes_the_study_to_the_front_and_says_so(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    done = receive(db, now + 2 * MINUTE, accession_number="ACC00002", urgency=Urgency.STAT)
    assert done.studies == (uid_of(2),)
    assert not done.waiting_for_images
    assert uids(db, now) == [uid_of(2), uid_of(1)]
    last = study(db, now, 2)["events"][-1]
    assert (last["verb"], last["cause"], last["actor"]) == ("ordered", "order by rest: stat", "ris")


def test_an_order_that_comes_before_the_images_waits_for_them(db, now):
    assert receive(db, now, study_uid=uid_of(2), urgency=Urgency.URGENT).waiting_for_images
    with db.read() as session:
        assert [o["study_instance_uid"] for o in orders.without_images(session)] == [uid_of(2)]
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    assert uids(db, now) == [uid_of(2), uid_of(1)]
    assert study(db, now, 2)["urgency"] == "urgent"
    with db.read() as session:
        assert orders.without_images(session) == []


def test_images_without_an_order_are_shown_as_such(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now)
    receive(db, now, accession_number="ACC00002")
    with db.read() as session:
        shown = {i["study_instance_uid"]: i["ordered"] for i in listing.page(session, now)["items"]}
    assert shown == {uid_of(1): False, uid_of(2): True}


def test_why_says_what_would_change_the_place(db, now):
    for number in (1, 2, 3):
        arrive(db, number, now + number * MINUTE)
    with db.read() as session:
        shown = listing.why(session, uid_of(3), now)
    assert shown["position"] == 3
    assert [c["event"].split(" at ")[0] for c in shown["would_change"]] == [
        "a STAT order",
        "an urgent order",
        "the upper limit",
    ]
    assert [c["position"] for c in shown["would_change"]] == [1, 1, 1]


def test_the_same_order_again_changes_nothing(db, now):
    arrive(db, 1, now)
    receive(db, now, accession_number="ACC00001", urgency=Urgency.URGENT)
    before = events(db), study(db, now, 1)["revision"]
    again = receive(db, now + MINUTE, accession_number="ACC00001", urgency=Urgency.URGENT)
    assert not again.created
    assert (events(db), study(db, now, 1)["revision"]) == before


def test_an_order_of_another_patient_moves_nothing_and_is_named(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    done = receive(db, now, accession_number="ACC00002", patient_id="SOMEBODY-ELSE", urgency=Urgency.STAT)
    assert done.studies == ()
    assert done.other_patient == (uid_of(2),)
    assert uids(db, now) == [uid_of(1), uid_of(2)]


def test_an_order_that_says_nothing_of_urgency_takes_no_word_away(db, now):
    arrive(db, 1, now, priority="STAT")
    arrive(db, 2, now)
    receive(db, now, accession_number="ACC00001")
    assert study(db, now, 1)["band"] == 0, "the object's own word"
    receive(db, now, accession_number="ACC00002", urgency=Urgency.STAT)
    receive(db, now + MINUTE, study_uid=uid_of(2), source=Source.MWL)
    assert study(db, now, 2)["band"] == 0, "an earlier order's word"
    assert [order["urgency"] for order in study(db, now, 2)["orders"]] == [None, "stat"]
    assert study(db, now, 2)["events"][-1]["cause"] == "order by mwl: no urgency stated"


def test_a_change_that_says_nothing_of_urgency_makes_no_older_word_the_newest(db, now):
    arrive(db, 1, now)
    receive(db, now, accession_number="ACC00001", urgency=Urgency.ROUTINE)
    receive(db, now + MINUTE, study_uid=uid_of(1), source=Source.HL7, urgency=Urgency.STAT)
    receive(db, now + 2 * MINUTE, accession_number="ACC00001", description="Chest PA, standing")
    assert study(db, now, 1)["band"] == 0


def test_an_urgency_that_came_before_the_images_holds_in_spite_of_a_later_order_without_one(db, now):
    receive(db, now, accession_number="ACC00001", urgency=Urgency.STAT)
    receive(db, now + MINUTE, study_uid=uid_of(1))
    arrive(db, 1, now + 2 * MINUTE)
    assert study(db, now, 1)["band"] == 0


def test_a_cancelled_order_withdraws_and_a_new_one_brings_back(db, now):
    arrive(db, 1, now)
    receive(db, now, accession_number="ACC00001")
    receive(db, now + MINUTE, accession_number="ACC00001", cancelled=True)
    assert uids(db, now) == []
    assert uids(db, now, listing.Status.WITHDRAWN) == [uid_of(1)]
    receive(db, now + 2 * MINUTE, accession_number="ACC00001", urgency=Urgency.STAT)
    assert uids(db, now) == [uid_of(1)]
    assert study(db, now, 1)["band"] == 0


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"study_uid": "1.2.x"},
        {"accession_number": "A" * 65},
        {"accession_number": "A\x00B"},
    ],
)
def test_an_order_that_names_no_study_is_refused(db, now, values):
    with pytest.raises(BadOrder):
        receive(db, now, **values)


def test_a_merge_renames_studies_and_orders_and_keeps_their_places(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    receive(db, now, accession_number="ACC00002", patient_id="SYN-00002", urgency=Urgency.URGENT)
    before = uids(db, now)
    with db.write() as session:
        done = orders.merge(
            session, Person("SYN-00002"), Person("SYN-9", name="SYNTHETIC^NEW"), now + MINUTE, "hl7"
        )
    assert done == (uid_of(2),)
    assert uids(db, now) == before
    shown = study(db, now, 2)
    assert shown["patient"]["id"] == "SYN-9"
    assert shown["patient"]["name"] == "SYNTHETIC^NEW"
    assert "patient_changed" in [event["verb"] for event in shown["events"]]
    assert shown["urgency"] == "urgent"


# HL7


def orm(control="17", order="NW", accession="ACC00002", word="S", patient="SYN-00002", kind="ORM^O01"):
    segments = [
        f"MSH|^~\\&|RIS|HOSP|TRIAGE|X|20260301120000||{kind}|{control}|P|2.3.1||||||UNICODE UTF-8",
        f"PID|1||{patient}^^^||SYNTHETIC^ADA^M^JR^DR||",
        f"ORC|{order}|P1|F1||||^^^^^{word}",
        f"OBR|1|P1|F1|CXR^Chest||||||||||||||{accession}",
    ]
    return ("\r".join(segments) + "\r").encode()


def test_an_order_message_is_accepted_after_its_effect(db, now):
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    reply = messages.answer(db, orm(), lambda: now)
    assert reply.code == "AA"
    assert "MSA|AA|17" in reply.text
    assert uids(db, now) == [uid_of(2), uid_of(1)]


@pytest.mark.parametrize(
    ("word", "urgency"),
    [
        ("S", "stat"),
        ("A", "urgent"),
        ("P", "urgent"),
        ("C", "urgent"),
        ("T", "urgent"),
        ("R", "routine"),
        ("", "routine"),
    ],
)
def test_priority_letters_are_read_as_the_table_says(db, now, word, urgency):
    arrive(db, 2, now)
    assert messages.answer(db, orm(word=word), lambda: now).code == "AA"
    assert study(db, now, 2)["urgency"] == urgency


def test_a_status_change_without_a_priority_leaves_stat_as_it_is(db, now):
    arrive(db, 2, now)
    messages.answer(db, orm("1", word="S"), lambda: now)
    assert messages.answer(db, orm("2", order="SC", word=""), lambda: now + MINUTE).code == "AA"
    assert study(db, now, 2)["band"] == 0
    messages.answer(db, orm("3", order="SC", word="R"), lambda: now + 2 * MINUTE)
    assert study(db, now, 2)["urgency"] == "routine"


def test_a_control_id_is_worked_on_once(db, now):
    arrive(db, 2, now)
    messages.answer(db, orm("1", word="S"), lambda: now)
    messages.answer(db, orm("2", order="XO", word="R"), lambda: now + MINUTE)
    assert study(db, now, 2)["urgency"] == "routine"
    assert messages.answer(db, orm("1", word="S"), lambda: now + 2 * MINUTE).code == "AA"
    assert study(db, now, 2)["urgency"] == "routine"
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 2


def test_a_control_id_that_is_counted_anew_swallows_no_order(db, now, caplog):
    arrive(db, 1, now)
    arrive(db, 2, now)
    messages.answer(db, orm("1", word="R", accession="ACC00001", patient="SYN-00001"), lambda: now)
    assert messages.answer(db, orm("1", word="S"), lambda: now + MINUTE).code == "AA"
    assert study(db, now, 2)["band"] == 0
    with caplog.at_level("INFO"):
        messages.answer(db, orm("1", word="S"), lambda: now + 2 * MINUTE)
    assert [record.event for record in caplog.records] == ["hl7_repeated"]
    assert "SYN" not in caplog.text


def test_messages_are_forgotten_when_nobody_repeats_them_any_more(db, now):
    messages.answer(db, orm("1"), lambda: now)
    messages.answer(db, orm("2"), lambda: now + timedelta(days=29))
    assert messages.forget(db, lambda: now + timedelta(days=31)) == 1
    with db.read() as session:
        assert session.scalars(select(Message.control_id)).all() == ["2"]


def test_adt_a40_merges(db, now):
    arrive(db, 2, now)
    message = (
        "MSH|^~\\&|RIS|HOSP|TRIAGE|X|20260301||ADT^A40|5|P|2.5\rPID|1||SYN-9||SYNTHETIC^NEW\rMRG|SYN-00002\r"
    )
    assert messages.answer(db, message.encode(), lambda: now).code == "AA"
    assert study(db, now, 2)["patient"]["id"] == "SYN-9"


@pytest.mark.parametrize("escape", ["Z01", "C2842", "M284242", "XQQ", ".sp+x", ""])
def test_a_name_with_an_escape_that_is_not_understood_stays_out_of_the_log(db, now, caplog, escape):
    arrive(db, 2, now)
    message = f"MSH|^~\\&|RIS|HOSP|T|X|2026||ADT^A08|8|P|2.5\rPID|1||SYN-00002||SECRET\\{escape}\\^JANE\r"
    with caplog.at_level("DEBUG"):
        assert messages.answer(db, message.encode(), lambda: now).code == "AA"
    assert study(db, now, 2)["patient"]["name"].replace(" ", "") == "SECRET^JANE"
    assert "an HL7 message was answered" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    "between", [b"\\.br\\", b"\\.sp\\", b"\\.sp+x\\", b"\\.in999999999\\", b"\\X0A\\", b"\t", b"\xc2\xa0"]
)
def test_a_description_is_one_line_whatever_the_sender_wrote_between_its_words(db, now, between):
    arrive(db, 2, now)
    words = b"two" + between + b"words"
    assert messages.answer(db, orm().replace(b"Chest", words), lambda: now).code == "AA"
    assert study(db, now, 2)["orders"][0]["description"] == "two words"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (orm(order="ZZ"), "AE"),
        (orm(kind="ORU^R01"), "AR"),
        (orm(control=""), "AR"),
        (orm(accession="A" * 70), "AE"),
        (orm().replace(b"MSH|^~\\&|", b"MSH|^^^^|"), "AR"),
        (orm().replace(b"|^~\\&|", b"|abcd|"), "AR"),
        (orm().replace(b"Chest", b"C" * 1_000_000), "AR"),
        (orm().replace(b"UNICODE UTF-8", b"KLINGON"), "AR"),
        (orm().replace(b"Chest", b"\xff\xfe"), "AR"),
        (b"GET / HTTP/1.1\r\n", "AR"),
        (b"", "AR"),
        (b"MSH|^~\\&|RIS|HOSP|T|X|2026||ADT^A40|9|P|2.5\rPID|1||SYN-9\r", "AE"),
    ],
)
def test_bad_messages_are_answered_and_change_nothing(db, now, raw, code):
    arrive(db, 2, now)
    before = events(db)
    assert messages.answer(db, raw, lambda: now).code == code
    with db.read() as session:
        assert session.scalar(select(func.count()).select_from(Order)) == 0
    assert events(db) == before


def _read(connection):
    data = b""
    while not data.endswith(b"\x1c\r"):
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    return data


@pytest.fixture
def mllp(db, now):
    server = MllpServer(db, lambda: now, "127.0.0.1", 0)
    server.start()
    yield server.address
    server.stop()


def test_orders_come_over_mllp_one_after_the_other(db, now, mllp):
    arrive(db, 2, now)
    with socket.create_connection(mllp, 10) as connection:
        for number in (1, 2):
            connection.sendall(b"\x0b" + orm(str(number)) + b"\x1c\r")
            assert b"MSA|AA|%d" % number in _read(connection)
    assert study(db, now, 2)["urgency"] == "stat"


def header(kind, *after):
    return "|".join(["MSH", "^~\\&", "RIS", "HOSP", "T", "X", "2026", "", kind, *after]).encode()


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (header("ORM^O01", "31", "P"), b"MSA|AA|31"),
        (header("ORM^O01", "31"), b"MSA|AA|31"),
        (header("ORM^O01"), b"MSA|AR|"),
        (header("ORM", "31", "P", "2.3.1"), b"MSA|AR|31"),
        (b"MSH|^~\\&|", b"MSA|AR|"),
    ],
)
def test_a_header_that_ends_early_is_answered_so_that_the_sender_goes_on(db, now, mllp, head, answer):
    arrive(db, 2, now)
    with socket.create_connection(mllp, 10) as connection:
        connection.sendall(b"\x0b" + head + b"\r" + orm().split(b"\r", 1)[1] + b"\x1c\r")
        assert answer in _read(connection)
    assert study(db, now, 2)["urgency"] == ("stat" if b"AA" in answer else "routine")


def test_a_failure_of_ours_leaves_the_message_with_its_sender(db, now, mllp, monkeypatch):
    arrive(db, 2, now)

    def broken(*_args):
        raise ValueError

    with monkeypatch.context() as failing:
        failing.setattr(messages.orders, "apply_all", broken)
        with socket.create_connection(mllp, 10) as connection:
            connection.sendall(b"\x0b" + orm("1") + b"\x1c\r")
            assert _read(connection) == b""
    with socket.create_connection(mllp, 10) as connection:
        connection.sendall(b"\x0b" + orm("1") + b"\x1c\r")
        assert b"MSA|AA|1" in _read(connection)
    assert study(db, now, 2)["urgency"] == "stat"


def test_an_endless_message_is_refused_and_the_next_connection_served(db, now, mllp):
    with socket.create_connection(mllp, 10) as connection:
        connection.sendall(b"\x0b" + b"MSH" + b"x" * (MAX_MESSAGE + 100_000) + b"\x1c\r")
        assert b"MSA|AR" in _read(connection)
    arrive(db, 2, now)
    with socket.create_connection(mllp, 10) as connection:
        connection.sendall(b"\x0b" + orm("3") + b"\x1c\r")
        assert b"MSA|AA|3" in _read(connection)


# Modality worklist


@pytest.fixture
def ris():
    """A worklist SCP that answers what the test puts into it."""
    entries = []

    def find(_event):
        for entry in entries:
            yield 0xFF00, entry

    ae = AE("RIS")
    ae.add_supported_context(ModalityWorklistInformationFind)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, find)])
    yield entries, mwl.WorklistPeer("RIS", *server.socket.getsockname()[:2], "TRIAGE", ("DX",))
    server.shutdown()


def test_a_worklist_tells_the_priority_and_is_believed_once(db, now, ris):
    entries, peer = ris
    arrive(db, 1, now)
    arrive(db, 2, now + MINUTE)
    entry = Dataset()
    entry.AccessionNumber = "ACC00002"
    entry.RequestedProcedurePriority = "STAT"
    unusable = Dataset()
    unusable.StudyInstanceUID = "1.2.3"
    unusable.AccessionNumber = "A" * 80
    entries += [entry, unusable]
    assert mwl.poll(db, peer, lambda: now) == 1
    assert uids(db, now) == [uid_of(2), uid_of(1)]
    before = events(db)
    mwl.poll(db, peer, lambda: now + MINUTE)
    assert events(db) == before


def test_a_worklist_without_a_priority_leaves_stat_as_it_is(db, now, ris):
    entries, peer = ris
    arrive(db, 2, now, priority="STAT")
    entry = Dataset()
    entry.AccessionNumber = "ACC00002"
    entry.RequestedProcedurePriority = ""
    entries.append(entry)
    assert mwl.poll(db, peer, lambda: now) == 1
    assert study(db, now, 2)["band"] == 0


def test_a_worklist_that_can_not_be_reached_is_named(db, now):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(PeerUnreachable, match="RIS"):
        mwl.poll(db, mwl.WorklistPeer("RIS", "127.0.0.1", port, "TRIAGE"), lambda: now)
