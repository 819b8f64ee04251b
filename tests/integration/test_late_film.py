"""A film that comes after its study was read, or while a reader has it, is never hidden."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.rawpeer import send
from tests.receiving import an_object, clock, receiving
from tests.unit.receive.objects import SR
from triage.domain.policy import Policy
from triage.errors import Conflict, RefusedOnce
from triage.web import words
from triage.worklist import actions, history, listing, orders, policy_change, ups
from triage.worklist.orders import OrderRequest, Source
from triage.worklist.scheduler import age_out

STUDY = "1.2.3"


@pytest.fixture
def room(tmp_path):
    with receiving(tmp_path, quiet=60) as room:
        assert send(room.address, an_object(1))[0] == 0x0000
        yield room


def act(room, action, **more):
    with room.db.write() as session:
        action(session, STUDY, "ada", clock(), **more)


def study(room):
    with room.db.read() as session:
        return listing.study(session, STUDY, clock())


def waiting(room):
    with room.db.read() as session:
        return listing.page(session, clock())["items"]


def read(room):
    act(room, actions.claim)
    act(room, actions.complete)
    assert waiting(room) == []


def test_a_film_after_the_reading_lists_its_study_again_in_its_old_place_and_says_why(room):
    before = waiting(room)[0]
    send(room.address, an_object(9, study="1.2.4"))
    unread = clock()
    act(room, actions.claim)
    act(room, actions.complete)
    assert [item["study_instance_uid"] for item in waiting(room)] == ["1.2.4"]
    assert send(room.address, an_object(2))[0] == 0x0000
    first, second = waiting(room)
    assert (first["study_instance_uid"], second["study_instance_uid"]) == (STUDY, "1.2.4")
    assert (first["arrived_at"], first["effective_at"]) == (before["arrived_at"], before["effective_at"])
    assert first["claimed_by"] is None
    assert first["reasons"][0] == "new film after it was read"
    assert words.why_line(first).startswith("New film after it was read")
    with room.db.read() as session:
        why = listing.why(session, STUDY, clock())
        past = history.at(session, unread)
    assert why["reasons"][0] == "new film after it was read"
    assert sum(term["minutes"] for term in why["terms"] if term["used"]) == why["advance_minutes"]
    assert [event["verb"] for event in why["history"]][:4] == ["arrived", "claim", "complete", "reopen"]
    assert STUDY in [item["study_instance_uid"] for item in past["items"]]


def test_what_was_listed_again_can_be_read_and_listed_again(room):
    for number in (2, 3):
        read(room)
        send(room.address, an_object(number))
        assert waiting(room)[0]["reasons"].count("new film after it was read") == 1
    read(room)
    assert study(room)["status"] == "read"


@pytest.mark.parametrize(
    "item", [an_object(1), an_object(2, SOPClassUID=SR, Modality="SR")], ids=["a duplicate", "a report"]
)
def test_what_is_no_new_film_lists_nothing_again(room, item):
    read(room)
    assert send(room.address, item)[0] == 0x0000
    assert waiting(room) == []


def test_a_film_under_the_readers_hand_is_shown_and_what_was_decided_before_it_is_refused(room):
    act(room, actions.claim)
    seen = study(room)
    assert send(room.address, an_object(2))[0] == 0x0000
    with pytest.raises(Conflict):
        act(room, actions.complete, revision=seen["revision"])
    now = study(room)
    assert (now["status"], now["claimed_by"]) == ("claimed", "ada")
    assert now["reasons"][0] == "new film since it was claimed"
    assert now["events"][-1]["cause"] == "new film since it was claimed"
    with pytest.raises(RefusedOnce, match="A film came since the study was claimed"):
        act(room, actions.complete, revision=now["revision"])
    told = study(room)
    assert (told["status"], told["claimed_by"]) == ("claimed", "ada")
    assert (told["events"][-1]["verb"], told["events"][-1]["actor"]) == ("refused", "ada")
    act(room, actions.complete, revision=told["revision"])
    assert study(room)["status"] == "read"


def test_each_film_under_the_readers_hand_is_refused_once(room):
    act(room, actions.claim)
    for number in (2, 3):
        send(room.address, an_object(number))
        with pytest.raises(RefusedOnce):
            act(room, actions.complete)
        assert "new film since it was claimed" not in study(room)["reasons"]
    act(room, actions.complete)
    assert study(room)["status"] == "read"


def test_news_of_a_claim_ends_with_it(room):
    act(room, actions.claim)
    send(room.address, an_object(2))
    act(room, actions.release)
    assert "new film since it was claimed" not in waiting(room)[0]["reasons"]


def workitem(room):
    with room.db.read() as session:
        (item,) = ups.search(session, ups.Dataset())
    assert item.ProcedureStepState == "SCHEDULED"
    return item.SOPInstanceUID


def order(room, **values):
    with room.db.write() as session:
        orders.receive(session, OrderRequest(Source.REST, study_uid=STUDY, **values), clock(), "ris")


def test_a_machine_reader_gets_another_workitem_to_do(room):
    done = workitem(room)
    read(room)
    send(room.address, an_object(2))
    assert workitem(room) != done


@pytest.mark.parametrize("back", ["film", "order"])
def test_a_cancelled_workitem_comes_back_as_another_one_that_no_old_key_opens(room, back):
    cancelled = workitem(room)
    change = ups.Dataset()
    change.TransactionUID, change.ProcedureStepState = "2.25.4711", "IN PROGRESS"
    with room.db.write() as session:
        ups.change_state(session, cancelled, change, "ae:READER", clock())
    order(room, cancelled=True)
    assert waiting(room) == []
    send(room.address, an_object(2)) if back == "film" else order(room)
    fresh = workitem(room)
    assert fresh != cancelled
    act(room, actions.claim)
    change.ProcedureStepState = "COMPLETED"
    with room.db.write() as session, pytest.raises(ups.UpsError) as refused:
        ups.change_state(session, fresh, change, "ae:READER", clock())
    assert refused.value.status == 0xC301


@pytest.mark.parametrize("back", ["reopened", "restored by a film", "restored by an order"])
def test_what_comes_back_under_a_longer_limit_does_not_stand_at_the_old_one(room, back):
    late = clock() + timedelta(minutes=Policy().upper_limit_minutes + 1)
    with room.db.write() as session:
        assert age_out(session, Policy(), late) == 1
    assert "moved to the limit" in waiting(room)[0]["reasons"][0]
    if back == "reopened":
        read(room)
    else:
        order(room, cancelled=True)
    with room.db.write() as session:
        policy_change.switch(session, Policy(name="patient", upper_limit_minutes=1000), clock(), "admin")
    order(room) if back == "restored by an order" else send(room.address, an_object(2))
    (shown,) = waiting(room)
    assert not any("moved to the limit" in reason for reason in shown["reasons"])
    assert shown["advance_minutes"] == Policy().minutes["not_evaluated"]
