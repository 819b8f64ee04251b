"""The API as a script meets it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests import reading_room
from tests.reading_room import uid_of
from tests.web_room import Room, open_room
from triage.domain.finding import Finding
from triage.domain.policy import Policy
from triage.domain.result import ResultStep
from triage.store import entries, policies, results, studies
from triage.store.accounts import Role
from triage.store.tables import Instance, Job, StudyEvent
from triage.worklist.scheduler import Scheduler


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as opened:
        reading_room.fill(opened.db, opened.clock(), 12)
        yield opened


def get(room: Room, path: str, role: Role = Role.VIEWER) -> dict:
    answer = room.client.get(path, headers=room.bearer(role))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(room: Room, path: str, body: object = None, **headers: str):
    more = {**room.bearer(Role.RADIOLOGIST), "If-Match": "*", **headers}
    return room.client.post(f"/api/v1/studies/{path}", json=body, headers=more)


def test_the_list_is_in_reading_order_with_everything_of_the_contract(room: Room) -> None:
    page = get(room, "/api/v1/worklist")
    items = page["items"]
    keys = [(i["band"], i["effective_at"], i["arrived_at"], i["study_instance_uid"]) for i in items]
    assert keys == sorted(keys)
    assert [item["position"] for item in items] == list(range(1, 13))
    assert items[0]["urgency"] == "stat"
    first = next(item for item in items if item["study_instance_uid"] == uid_of(1))
    assert first["patient"] == {
        "id": "SYN-00001",
        "name": "SYNTHETIC^ADA",
        "birth_date": "19310211",
        "sex": "M",
    }
    assert first["assessment"]["outcome"] == "positive"
    assert first["reasons"] == ["tuberculosis 0.93: 240 min ahead"]
    assert first["arrived_at"].endswith("Z")
    assert page["next_cursor"] is None


def test_pages_by_cursor_are_the_list(room: Room) -> None:
    seen, cursor = [], ""
    while True:
        page = get(room, f"/api/v1/worklist?limit=5{cursor}")
        seen += [(item["position"], item["study_instance_uid"]) for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    whole = get(room, "/api/v1/worklist?limit=500")["items"]
    assert seen == [(item["position"], item["study_instance_uid"]) for item in whole]


@pytest.mark.parametrize(
    ("given_by", "used_in"),
    [
        ("/api/v1/worklist?limit=1", "/api/v1/worklist?status=all"),
        ("/api/v1/worklist?limit=1", "/not-evaluated?"),
        ("/api/v1/worklist?limit=1&status=all", "/api/v1/worklist?"),
    ],
)
def test_a_cursor_of_another_view_is_refused(room: Room, given_by: str, used_in: str) -> None:
    cursor = get(room, given_by)["next_cursor"]
    answer = room.client.get(f"{used_in}&cursor={cursor}", headers=room.bearer())
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:triage:problem:bad-cursor")


@pytest.mark.parametrize(
    ("view", "cursor"),
    [
        ("all", {"before": 2**63}),
        ("all", {"before": 10**30}),
        ("all", {"before": "x"}),
        ("all", 7),
        ("waiting", {"position": 2**64, "after": [0, 0, 0, ""]}),
        ("waiting", {"position": 1, "after": [2**63, 0, 0, ""]}),
        ("waiting", {"position": 1, "after": [0, 10**20, 0, ""]}),
        ("waiting", {"position": 1, "after": []}),
    ],
)
def test_a_cursor_that_somebody_made_up_is_refused(room: Room, view: str, cursor: object) -> None:
    text = base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode().rstrip("=")
    answer = room.client.get(f"/api/v1/worklist?status={view}&cursor={text}", headers=room.bearer())
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:triage:problem:bad-cursor")


def test_why_adds_up(room: Room) -> None:
    for item in get(room, "/api/v1/worklist")["items"]:
        why = get(room, f"/api/v1/studies/{item['study_instance_uid']}/why")
        assert sum(term["minutes"] for term in why["terms"] if term["used"]) == pytest.approx(
            why["advance_minutes"]
        )
        assert why["position"] == item["position"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/api/v1/studies/1.2.3", 404, "unknown-study"),
        ("/api/v1/studies/1.2.3/why", 404, "unknown-study"),
        ("/api/v1/studies/..%2F..%2Fetc", 404, "not-found"),
        ("/api/v1/studies/ABC", 422, "invalid"),
        ("/api/v1/worklist?status=lost", 422, "invalid"),
        ("/api/v1/worklist?limit=0", 422, "invalid"),
        ("/api/v1/worklist?cursor=nonsense", 400, "bad-cursor"),
        ("/api/v1/history?at=yesterday", 400, "bad-time"),
        ("/api/v1/history?at=0001-01-01T00:00:00%2B14:00", 400, "bad-time"),
        ("/api/v1/history?at=9999-12-31T23:59:59-14:00", 400, "bad-time"),
        ("/api/v1/nothing", 404, "not-found"),
    ],
)
def test_every_error_is_a_problem_that_says_what_to_do(room: Room, path: str, status: int, kind: str) -> None:
    answer = room.client.get(path, headers=room.bearer())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == f"urn:triage:problem:{kind}"
    assert body["status"] == status
    assert body["detail"]


def test_a_method_that_is_not_taken_is_a_problem_too(room: Room) -> None:
    answer = room.client.delete("/api/v1/worklist", headers=room.bearer())
    assert answer.status_code == 405
    assert answer.json()["type"] == "urn:triage:problem:method-not-allowed"


def test_an_error_of_ours_is_a_problem_without_details(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> dict:
        raise RuntimeError("SYNTHETIC^ADA")

    monkeypatch.setattr("triage.worklist.listing.page", broken)
    answer = room.client.get("/api/v1/worklist", headers=room.bearer())
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:triage:problem:internal"
    assert "SYNTHETIC" not in answer.text


def test_a_refused_value_is_not_repeated(room: Room) -> None:
    answer = post(room, f"{uid_of(1)}/note", {"text": "x", "patient": "SECRET^NAME"})
    assert answer.status_code == 422
    assert "SECRET" not in answer.text


def test_a_reader_claims_reads_and_completes(room: Room) -> None:
    claimed = post(room, f"{uid_of(2)}/claim")
    assert claimed.status_code == 200
    assert claimed.json()["status"] == "claimed"
    assert claimed.json()["claimed_by"] == "program-radiologist"
    assert uid_of(2) not in {i["study_instance_uid"] for i in get(room, "/api/v1/worklist")["items"]}
    again = room.client.post(f"/api/v1/studies/{uid_of(2)}/claim", headers={**room.bearer(), "If-Match": "*"})
    assert again.status_code == 409
    assert "program-radiologist" in again.json()["detail"]
    assert post(room, f"{uid_of(2)}/complete").json()["status"] == "read"
    assert post(room, f"{uid_of(2)}/complete").status_code == 409
    assert post(room, f"{uid_of(3)}/release").status_code == 409


def test_a_done_with_the_newest_etag_is_refused_once_after_a_film_that_came_meanwhile(room: Room) -> None:
    address = f"/api/v1/studies/{uid_of(2)}"
    post(room, f"{uid_of(2)}/claim")
    with room.db.write() as session:
        study, policy = studies.by_uid(session, uid_of(2)), policies.active(session)
        entries.show_new_film(session, study, policy, room.clock(), actor="receive")
    newest = room.client.get(address, headers=room.bearer()).headers["etag"]
    refused = post(room, f"{uid_of(2)}/complete", **{"If-Match": newest})
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("A film came since the study was claimed")
    assert get(room, address)["status"] == "claimed"
    assert post(room, f"{uid_of(2)}/complete", **{"If-Match": newest}).status_code == 412
    assert post(room, f"{uid_of(2)}/complete").json()["status"] == "read"


def test_a_clock_that_goes_back_changes_neither_the_order_nor_who_reads_what(room: Room) -> None:
    before = [item["study_instance_uid"] for item in get(room, "/api/v1/worklist")["items"]]
    assert post(room, f"{before[0]}/claim").status_code == 200
    room.clock.forward(hours=-30)
    page = get(room, "/api/v1/worklist")
    assert [item["study_instance_uid"] for item in page["items"]] == before[1:]
    assert all(item["waited_seconds"] >= 0 for item in page["items"])
    Scheduler(room.db, room.clock, every=timedelta(seconds=30), claim_idle=timedelta(minutes=30)).beat()
    assert get(room, f"/api/v1/studies/{before[0]}")["status"] == "claimed"
    assert post(room, f"{before[0]}/complete").json()["status"] == "read"
    assert [item["study_instance_uid"] for item in get(room, "/api/v1/worklist")["items"]] == before[1:]


def test_of_many_who_claim_at_once_one_wins(room: Room) -> None:
    answers: list[int] = []
    barrier = threading.Barrier(6)

    def reader(number: int) -> None:
        role = (Role.RADIOLOGIST, Role.ADMINISTRATOR)[number % 2]
        barrier.wait()
        path = f"/api/v1/studies/{uid_of(4)}/claim"
        answers.append(room.client.post(path, headers={**room.bearer(role), "If-Match": etag}).status_code)

    etag = room.client.get(f"/api/v1/studies/{uid_of(4)}", headers=room.bearer()).headers["etag"]
    threads = [threading.Thread(target=reader, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(200) == 1
    assert set(answers) == {200, 412}


def test_a_stale_etag_changes_nothing(room: Room) -> None:
    before = room.client.get(f"/api/v1/studies/{uid_of(5)}", headers=room.bearer()).headers["etag"]
    assert post(room, f"{uid_of(5)}/note", {"text": "first"}, **{"If-Match": before}).status_code == 200
    stale = post(room, f"{uid_of(5)}/note", {"text": "second"}, **{"If-Match": before})
    assert stale.status_code == 412
    assert stale.json()["type"] == "urn:triage:problem:stale"
    assert get(room, f"/api/v1/studies/{uid_of(5)}")["note"] == "first"
    assert post(room, f"{uid_of(5)}/note", {"text": "x"}, **{"If-Match": '"no number"'}).status_code == 412


VERBS = {
    "claim": None,
    "release": None,
    "complete": None,
    "pin": {"minutes": 5, "reason": "x"},
    "lower": {"minutes": 5, "reason": "x"},
    "note": {"text": "x"},
    "feedback": {"finding": "other", "agrees": True},
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_without_an_etag_is_not_tried(room: Room, verb: str) -> None:
    before = get(room, f"/api/v1/studies/{uid_of(5)}")
    path = f"/api/v1/studies/{uid_of(5)}/{verb}"
    answer = room.client.post(path, json=VERBS[verb], headers=room.bearer(Role.RADIOLOGIST))
    assert answer.status_code == 428
    assert answer.json()["type"] == "urn:triage:problem:precondition-required"
    assert "If-Match" in answer.json()["detail"]
    stale = post(room, f"{uid_of(5)}/{verb}", VERBS[verb], **{"If-Match": '"999"'})
    assert stale.status_code == 412
    after = get(room, f"/api/v1/studies/{uid_of(5)}")
    assert after["revision"] == before["revision"]
    assert after["events"] == before["events"]


def dead_letter(room: Room) -> dict:
    with room.db.write() as session:
        study = studies.by_uid(session, uid_of(1))
        result = results.add(
            session, study_id=study.id, study_version=1, kind="sr", sop_class_uid="1.2", path="x.dcm",
            sop_instance_uid="1.2.3", destination="pacs", now=room.clock(),
        )  # fmt: skip
        results.step(session, result, ResultStep.QUEUE, room.clock())
        gone = {"attempts": 3, "last_error": "pacs: refused (0xA900)."}
        results.step(session, result, ResultStep.GIVE_UP, room.clock(), gone)
    [shown] = get(room, "/api/v1/problems")["undelivered"]
    return dict(shown)


def test_a_study_without_a_report_is_a_problem(room: Room) -> None:
    assert get(room, "/api/v1/problems")["unreported"] == []
    with room.db.write() as session:
        study = studies.by_uid(session, uid_of(1))
        for cause in ("first", "It can't be built."):
            session.add(
                StudyEvent(
                    study_id=study.id, at=room.clock(), step=results.NO_REPORT, version=study.version,
                    before="assessed", after="assessed", cause=cause,
                )
            )  # fmt: skip
    [shown] = get(room, "/api/v1/problems")["unreported"]
    assert (shown["study_instance_uid"], shown["sentence"]) == (uid_of(1), "It can't be built.")
    assert shown["at"]
    page = room.client.get("/problems", headers=room.bearer(Role.VIEWER)).text
    assert "Studies without a report (1)" in page


def test_a_dead_letter_is_sent_again_by_a_reader_once(room: Room) -> None:
    letter = dead_letter(room)
    assert letter["attempts"] == 3
    path = f"/api/v1/results/{letter['id']}/retry"
    ask = {"If-Match": f'"{letter["etag"]}"'}
    assert room.client.post(path, headers={**room.bearer(Role.VIEWER), **ask}).status_code == 403
    assert room.client.post(path, headers=room.bearer(Role.RADIOLOGIST)).status_code == 428
    reader = {**room.bearer(Role.RADIOLOGIST), **ask}
    again = room.client.post(path, headers=reader)
    assert again.status_code == 200
    assert again.json()["state"] == "queued"
    assert again.json()["attempts"] == 0
    assert get(room, "/api/v1/problems")["undelivered"] == []
    assert room.client.post(path, headers=reader).status_code == 412
    with room.db.read() as session:
        [job] = session.query(Job).filter_by(stage="deliver").all()
        assert job.payload == {"result_id": letter["id"]}
    assert room.client.post("/api/v1/results/999/retry", headers=reader).status_code == 404
    rows = [row for row in room.audit() if row["detail"] == "retry"]
    assert ("program-radiologist", 0) in {(row["actor"], row["outcome"]) for row in rows}
    assert {row["outcome"] for row in rows} == {0, 4}


def test_a_film_that_was_kept_apart_can_be_found(room: Room) -> None:
    with room.db.write() as session:
        session.add(
            Instance(
                study_uid="1.2.3",
                sop_instance_uid="1.2.3.77",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                digest="d",
                size=1,
                path="ab/abcd.dcm",
                sender="PACS",
                received_at=room.clock(),
                quarantine="Kept apart.",
            )
        )
    [shown] = get(room, "/api/v1/problems")["quarantined"]
    assert (shown["study_instance_uid"], shown["sop_instance_uid"]) == ("1.2.3", "1.2.3.77")
    assert shown["file"] == "spool/ab/abcd.dcm"
    page = room.client.get("/problems", headers=room.bearer()).text
    assert all(said in page for said in ("/studies/1.2.3", "1.2.3.77", "spool/ab/abcd.dcm"))


def test_the_page_of_problems_offers_it_to_those_who_may(room: Room) -> None:
    letter = dead_letter(room)
    page = room.client.get("/problems", headers=room.bearer(Role.RADIOLOGIST)).text
    assert f'data-retry="{letter["id"]}"' in page
    assert "data-retry" not in room.client.get("/problems", headers=room.bearer(Role.VIEWER)).text


def test_a_heat_map_is_made_when_asked_for_and_says_research(room: Room) -> None:
    path = f"/api/v1/studies/{uid_of(1)}/heatmap.png"
    answer = room.client.get(f"{path}?finding=tuberculosis", headers=room.bearer(Role.VIEWER))
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")
    assert "research" in answer.headers["content-description"]
    assert room.client.get(f"{path}?finding=plague", headers=room.bearer()).status_code == 422
    assert "heat map" in {row["detail"] for row in room.audit()}
    page = room.client.get(f"/studies/{uid_of(1)}", headers=room.bearer()).text
    assert 'data-heat="tuberculosis"' in page
    assert "research" in page
    assert "heatmap.png?finding" not in page, "nothing is made before somebody asks"
    assert "data-heat" not in room.client.get(f"/studies/{uid_of(2)}", headers=room.bearer()).text


def test_pins_and_lowering_are_explained(room: Room) -> None:
    body = {"minutes": 90, "reason": "ward called"}
    pinned = post(room, f"{uid_of(10)}/pin", body)
    assert pinned.json()["advance_minutes"] == 90
    lowered = post(room, f"{uid_of(10)}/lower", {"minutes": 30, "reason": "seen by phone"})
    assert lowered.json()["advance_minutes"] == 60
    sentences = [
        term["sentence"] for term in get(room, f"/api/v1/studies/{uid_of(10)}/why")["terms"] if term["used"]
    ]
    assert any(
        "pinned by program-radiologist" in sentence and "ward called" in sentence for sentence in sentences
    )
    assert post(room, f"{uid_of(10)}/pin", {"minutes": -5, "reason": "x"}).status_code == 422
    assert post(room, f"{uid_of(10)}/pin", {"minutes": 5, "reason": ""}).status_code == 422
    assert post(room, f"{uid_of(10)}/pin", {"minutes": "NaN", "reason": "x"}).status_code == 422


@pytest.mark.parametrize("most", [120, 2000])
def test_the_dialog_offers_what_the_policy_allows_and_the_refusal_names_it(room: Room, most: int) -> None:
    policy = {"max_advance": most, "minutes": dict.fromkeys(Policy().minutes, 60)}
    room.client.put("/api/v1/policy", json=policy, headers={**room.bearer(), "If-Match": "*"})
    for address in ("/", "/mine", f"/studies/{uid_of(10)}"):
        page = room.client.get(address, headers=room.bearer(Role.RADIOLOGIST)).text
        assert f'id="ask-minutes" min="1" max="{most}"' in page, address
    pinned = post(room, f"{uid_of(10)}/pin", {"minutes": most, "reason": "ward called"})
    assert pinned.json()["advance_minutes"] == most
    refused = post(room, f"{uid_of(10)}/pin", {"minutes": most + 1, "reason": "ward called"})
    assert refused.status_code == 400
    assert f"between 1 and {most}" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("verb", "field"), [("note", "text"), ("pin", "reason"), ("lower", "reason"), ("feedback", "comment")]
)
def test_a_text_may_be_as_long_as_the_api_and_the_page_say(room: Room, verb: str, field: str) -> None:
    path, body = f"{uid_of(1)}/{verb}", VERBS[verb]
    schemas = get(room, "/openapi.json")["components"]["schemas"].values()
    (most,) = {s["properties"][field]["maxLength"] for s in schemas if field in s.get("properties", {})}
    assert f'id="ask-text" maxlength="{most}"' in room.client.get("/", headers=room.bearer()).text
    assert post(room, path, {**body, field: "x" * most}).status_code == 200
    assert post(room, path, {**body, field: "x" * (most + 1)}).status_code == 422


def test_feedback_is_counted(room: Room) -> None:
    for agrees in (True, False):
        answer = post(room, f"{uid_of(1)}/feedback", {"finding": "tuberculosis", "agrees": agrees})
        assert answer.status_code == 200
    agreement = get(room, "/api/v1/statistics")["agreement"]
    assert agreement == [{"finding": "tuberculosis", "model": "chest/1", "count": 2, "agreed": 1}]


def test_the_policy_is_switched_for_all_and_back(room: Room) -> None:
    policy = room.client.get("/api/v1/policy", headers=room.bearer())
    before = [item["study_instance_uid"] for item in get(room, "/api/v1/worklist")["items"]]
    fifo = {"name": "fifo", "mode": "shadow"}
    dry = room.client.put("/api/v1/policy?dry_run=true", json=fifo, headers=room.bearer()).json()
    assert dry["moves"]
    assert before == [item["study_instance_uid"] for item in get(room, "/api/v1/worklist")["items"]]
    headers = {**room.bearer(), "If-Match": policy.headers["etag"]}
    assert room.client.put("/api/v1/policy", json=fifo, headers=headers).status_code == 200
    arrivals = [i["arrived_at"] for i in get(room, "/api/v1/worklist")["items"] if i["band"] == 1]
    assert arrivals == sorted(arrivals)
    assert room.client.put("/api/v1/policy", json={}, headers=headers).status_code == 412
    assert room.client.put("/api/v1/policy", json={}, headers=room.bearer()).status_code == 428
    now = room.client.get("/api/v1/policy", headers=room.bearer()).headers["etag"]
    headers = {**room.bearer(), "If-Match": now}
    assert room.client.put("/api/v1/policy", json={}, headers=headers).status_code == 200
    assert before == [item["study_instance_uid"] for item in get(room, "/api/v1/worklist")["items"]]


@pytest.mark.parametrize(
    "policy", [{"minutes": {"tuberculosis": -1}}, {"minutes": {"plague": 5}}, {"mode": "wild"}]
)
def test_an_impossible_policy_is_refused(room: Room, policy: dict) -> None:
    answer = room.client.put("/api/v1/policy", json=policy, headers=room.bearer())
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:triage:problem:policy"


def test_the_list_of_an_hour_ago(room: Room) -> None:
    moment = (room.clock() - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    then = get(room, f"/api/v1/history?at={moment}")
    assert 0 < len(then["items"]) < 12
    assert get(room, "/api/v1/history?at=1999-01-01T00:00:00Z")["items"] == []


def test_a_large_body_is_refused_before_it_is_read(room: Room) -> None:
    answer = post(room, f"{uid_of(1)}/note", {"text": "x" * 1_100_000})
    assert answer.status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    headers = {**room.bearer(), "Content-Type": "application/json"}
    streamed = room.client.post(f"/api/v1/studies/{uid_of(1)}/note", content=chunks(), headers=headers)
    assert streamed.status_code == 413
    assert streamed.headers["content-type"] == "application/problem+json"


def test_a_script_in_a_name_stays_text(room: Room) -> None:
    evil = '<script>alert("x")</script>^"onload=x'
    reading_room.arrive(room.db, 99, room.clock(), name=evil, accession="<img src=x>")
    for path in ("/", f"/studies/{uid_of(99)}", "/history", "/?q=script"):
        text = room.client.get(path, headers=room.bearer()).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;" in text, path
    item = get(room, f"/api/v1/studies/{uid_of(99)}")
    assert item["patient"]["name"] == evil, "the API gives the name as it is"


def test_search_finds_by_every_word(room: Room) -> None:
    text = room.client.get("/?q=ada synth", headers=room.bearer()).text
    assert "SYNTHETIC, ADA" in text
    assert "SYNTHETIC, BRUNO" not in text
    assert "SYNTHETIC, BRUNO" in room.client.get("/?q=ACC00002", headers=room.bearer()).text
    assert "Nothing was found" in room.client.get("/?q=%25", headers=room.bearer()).text


def test_the_preview_is_a_picture_or_a_problem(room: Room) -> None:
    answer = room.client.get(f"/api/v1/studies/{uid_of(1)}/preview.png", headers=room.bearer())
    assert answer.content.startswith(b"\x89PNG")
    other = room.client.get(f"/api/v1/studies/{uid_of(1)}/preview.png?instance=1.2.3", headers=room.bearer())
    assert other.status_code == 404
    assert other.json()["type"] == "urn:triage:problem:no-preview"


def test_the_description_has_every_address_of_the_contract(room: Room) -> None:
    paths = get(room, "/openapi.json")["paths"]
    study = "/api/v1/studies/{uid}"
    verbs = ("claim", "release", "complete", "pin", "lower", "note", "feedback")
    expected = {
        "/api/v1/worklist",
        "/api/v1/history",
        "/api/v1/events",
        "/api/v1/statistics",
        "/api/v1/models",
    }
    expected |= {study, f"{study}/why", f"{study}/preview.png", "/api/v1/policy"} | {
        f"{study}/{v}" for v in verbs
    }
    assert expected <= set(paths)
    assert "example" in json.dumps(paths)


def test_health_tells_strangers_one_word_and_readiness_tells_all(room: Room) -> None:
    assert room.client.get("/healthz").json() == {"status": "ok"}
    assert get(room, "/readyz") == {
        "ready": True,
        "checks": [{"name": "database", "ok": True, "sentence": "It answers."}],
    }
    assert "triage_instances" in room.client.get("/metrics", headers=room.bearer(Role.VIEWER)).text


def test_a_new_finding_is_seen_at_once(room: Room) -> None:
    def place() -> int:
        items = get(room, "/api/v1/worklist")["items"]
        return next(i["position"] for i in items if i["study_instance_uid"] == uid_of(50))

    reading_room.arrive(room.db, 50, room.clock())
    pending = place()
    reading_room.assess(room.db, 50, room.clock(), {Finding.COVID19: 0.99})
    assert place() < pending
