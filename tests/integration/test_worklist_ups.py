"""The list for machines: a standard UPS client and an HTTP one work from the order that REST shows."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import UnifiedProcedureStepPull, UnifiedProcedureStepPush

from tests.reading_room import fill, uid_of
from triage.store import entries, policies, studies
from triage.worklist import actions, listing, ups, ups_rs
from triage.worklist.ups_service import UpsService

TRANSACTION = "2.25.4711"


def rest(db, now):
    with db.read() as session:
        return [item["study_instance_uid"] for item in listing.page(session, now)["items"]]


def status(db, now, uid):
    with db.read() as session:
        item = listing.study(session, uid, now)
        return item["status"], item["claimed_by"]


@pytest.fixture
def association(db, now):
    fill(db, now, 9)
    service = UpsService(db, lambda: now, ae_title="TRIAGE", host="127.0.0.1", port=0)
    service.start()
    ae = AE("READER")
    ae.add_requested_context(UnifiedProcedureStepPull)
    opened = ae.associate(*service.address, ae_title="TRIAGE")
    assert opened.is_established
    yield opened
    opened.release()
    service.stop()


def find(association, **keys):
    query = Dataset()
    query.ScheduledProcedureStepPriority = ""
    query.ScheduledProcedureStepStartDateTime = ""
    query.StudyInstanceUID = ""
    for name, value in keys.items():
        setattr(query, name, value)
    answers = list(association.send_c_find(query, UnifiedProcedureStepPull))
    assert answers[-1][0].Status == 0
    return [item for code, item in answers if code.Status == 0xFF00]


def change(association, uid, state, transaction=TRANSACTION):
    information = Dataset()
    information.ProcedureStepState = state
    information.TransactionUID = transaction
    code, _ = association.send_n_action(
        information, 1, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
    )
    return code.Status


def test_a_ups_client_that_sorts_has_the_order_of_rest(db, now, association):
    found = find(association)
    rank = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
    found.sort(key=lambda i: (rank[i.ScheduledProcedureStepPriority], i.ScheduledProcedureStepStartDateTime))
    assert [str(item.StudyInstanceUID) for item in found] == rest(db, now)


def test_the_model_never_sets_the_priority(association):
    high = find(association, ScheduledProcedureStepPriority="HIGH")
    assert [str(item.StudyInstanceUID) for item in high] == [uid_of(3)]


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({"PatientName": "synthetic^a*"}, 1),
        ({"PatientID": "SYN-00002"}, 1),
        ({"StudyInstanceUID": f"{uid_of(1)}\\{uid_of(2)}"}, 2),
        ({"PatientID": "NOBODY"}, 0),
        ({"ProcedureStepState": "COMPLETED"}, 0),
        ({"ProcedureStepState": "LOST"}, 0),
    ],
)
def test_a_query_matches_as_the_standard_says(association, keys, count):
    assert len(find(association, **keys)) == count


def test_claim_and_completion_by_change_of_state(db, now, association):
    first = rest(db, now)[0]
    [item] = find(association, StudyInstanceUID=first)
    uid = item.SOPInstanceUID
    assert change(association, uid, "COMPLETED") == 0xC310
    assert change(association, uid, "IN PROGRESS") == 0
    assert status(db, now, first) == ("claimed", "ae:READER")
    assert change(association, uid, "IN PROGRESS", "2.25.9") == 0xC302
    assert change(association, uid, "COMPLETED", "2.25.9") == 0xC301
    assert change(association, uid, "COMPLETED") == 0
    assert status(db, now, first)[0] == "read"
    assert change(association, uid, "COMPLETED") == 0xB306
    assert change(association, uid, "IN PROGRESS") == 0xC300
    assert change(association, "1.2.3", "IN PROGRESS") == 0xC307
    code, got = association.send_n_get(
        [0x00741000], UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepPull
    )
    assert (code.Status, got.ProcedureStepState) == (0, "COMPLETED")


def film_comes(db, now, uid):
    with db.write() as session:
        study, policy = studies.by_uid(session, uid), policies.active(session)
        entries.show_new_film(session, study, policy, now, actor="receive")


def test_a_completion_after_a_film_that_came_meanwhile_fails_once(db, now, association):
    first = rest(db, now)[0]
    [item] = find(association, StudyInstanceUID=first)
    assert change(association, item.SOPInstanceUID, "IN PROGRESS") == 0
    film_comes(db, now, first)
    assert change(association, item.SOPInstanceUID, "COMPLETED") == 0x0110
    assert status(db, now, first) == ("claimed", "ae:READER")
    assert change(association, item.SOPInstanceUID, "COMPLETED") == 0
    assert status(db, now, first)[0] == "read"


def test_a_client_that_cancels_gives_the_study_back_to_the_list(db, now, association):
    before = rest(db, now)
    [item] = find(association, StudyInstanceUID=before[0])
    assert change(association, item.SOPInstanceUID, "IN PROGRESS") == 0
    assert change(association, item.SOPInstanceUID, "CANCELED") == 0
    assert rest(db, now) == before
    assert find(association, StudyInstanceUID=before[0])[0].SOPInstanceUID != item.SOPInstanceUID


def test_what_another_reader_claimed_on_the_page_is_in_progress_and_locked(db, now, association):
    first = rest(db, now)[0]
    with db.write() as session:
        actions.claim(session, first, "ada", now)
    [item] = find(association, StudyInstanceUID=first, ProcedureStepState="IN PROGRESS")
    assert change(association, item.SOPInstanceUID, "IN PROGRESS") == 0xC302
    assert change(association, item.SOPInstanceUID, "COMPLETED") == 0xC301
    assert status(db, now, first) == ("claimed", "ada")


def test_the_web_search_answers_in_reading_order(db, now):
    fill(db, now, 9)
    with db.read() as session:
        answer = ups_rs.search(
            session, [("ProcedureStepState", "SCHEDULED"), ("limit", "4"), ("offset", "1")]
        )
        nothing = ups_rs.search(session, [("00100020", "NOBODY")])
    assert [item["0020000D"]["Value"][0] for item in answer.body] == rest(db, now)[1:5]
    assert nothing.status == 204
    json.dumps(answer.body)


def test_the_web_client_claims_and_completes(db, now):
    fill(db, now, 3)
    first = rest(db, now)[0]
    with db.read() as session:
        [item] = ups_rs.search(session, [("StudyInstanceUID", first)]).body
    uid = item["00080018"]["Value"][0]

    def put(state, transaction=TRANSACTION):
        body = {
            "00741000": {"vr": "CS", "Value": [state]},
            "00081195": {"vr": "UI", "Value": [transaction]},
        }
        with db.write() as session:
            return ups_rs.change_state(session, uid, json.dumps(body).encode(), "ada", now).status

    assert put("IN PROGRESS") == 200
    assert put("IN PROGRESS", "2.25.1") == 409
    assert put("COMPLETED", "2.25.1") == 400
    film_comes(db, now, first)
    assert put("COMPLETED") == 409
    assert status(db, now, first) == ("claimed", "ada")
    assert put("COMPLETED") == 200
    assert status(db, now, first)[0] == "read"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[[]]", b'{"00741000": 3}', b"\xff", b"null"])
def test_a_foreign_body_is_refused_and_changes_nothing(db, now, body):
    fill(db, now, 1)
    with db.read() as session:
        uid = next(iter(ups.search(session, Dataset()))).SOPInstanceUID
    with db.write() as session:
        assert ups_rs.change_state(session, uid, body, "ada", now).status == 400
    assert status(db, now + timedelta(0), uid_of(1))[0] == "waiting"


@pytest.mark.parametrize("query", [[("limit", "-1")], [("Nonsense", "1")], [("limit", "1" * 20)]])
def test_a_query_that_can_not_be_is_refused(db, query):
    with db.read() as session:
        assert ups_rs.search(session, query).status == 400
