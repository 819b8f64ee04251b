"""Orders and films by HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests import reading_room
from tests.peers import wait_until
from tests.reading_room import uid_of
from tests.receiving import an_object, receiving
from tests.web_room import Room, open_room
from triage.receive.parse import Claim
from triage.receive.spool import file_meta
from triage.receive.stow import StowRequest
from triage.store.accounts import Role
from triage.web.app import build_app


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as opened:
        reading_room.fill(opened.db, opened.clock(), 6)
        yield opened


def order(room: Room, **body: object):
    return room.client.post("/api/v1/orders", json=body, headers=room.bearer(Role.RADIOLOGIST))


def test_a_stat_order_puts_its_study_first_and_the_same_again_changes_nothing(room: Room) -> None:
    told = {"accession_number": "ACC00006", "urgency": "stat"}
    first = order(room, **told)
    assert first.status_code == 201
    assert first.json()["studies"] == [uid_of(6)]
    study = room.client.get(f"/api/v1/studies/{uid_of(6)}", headers=room.bearer()).json()
    assert study["band"] == 0
    again = order(room, **told)
    assert again.status_code == 200
    assert not again.json()["created"]


def test_an_order_without_an_urgency_leaves_stat_as_it_is_and_says_so(room: Room) -> None:
    order(room, accession_number="ACC00006", urgency="stat")
    order(room, study_uid=uid_of(6))
    study = room.client.get(f"/api/v1/studies/{uid_of(6)}", headers=room.bearer()).json()
    assert study["band"] == 0
    assert "No urgency stated" in room.client.get(f"/studies/{uid_of(6)}", headers=room.bearer()).text
    order(room, accession_number="LATER")
    items = room.client.get("/api/v1/orders", headers=room.bearer()).json()["items"]
    assert [item["urgency"] for item in items] == [None]


def test_an_order_before_its_images_waits_and_is_shown(room: Room) -> None:
    told = {
        "accession_number": "LATER",
        "urgency": "urgent",
        "patient_id": "SYN-00077",
        "patient_name": "SYNTHETIC^X",
    }
    assert order(room, **told).json()["waiting_for_images"]
    items = room.client.get("/api/v1/orders", headers=room.bearer()).json()["items"]
    assert [item["accession_number"] for item in items] == ["LATER"]
    assert "LATER" in room.client.get("/problems", headers=room.bearer()).text
    reading_room.arrive(room.db, 77, room.clock(), accession="LATER")
    assert (
        room.client.get(f"/api/v1/studies/{uid_of(77)}", headers=room.bearer()).json()["urgency"] == "urgent"
    )


@pytest.mark.parametrize(
    "body", [{}, {"accession_number": "A", "urgency": "now"}, {"study_uid": "../x"}, {"x": 1}]
)
def test_an_order_that_names_nothing_is_a_problem(room: Room, body: dict) -> None:
    answer = order(room, **body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


class Incoming:
    """A stand-in for the receiving room, which has tests of its own."""

    status, sentences = 200, ()
    seen = b""

    def __init__(self, content_type: str, account: str, _host: str) -> None:
        if "multipart/related" not in content_type:
            raise ValueError("The content type must be multipart/related.")
        assert account == "program-radiologist"

    def feed(self, chunk: bytes) -> None:
        Incoming.seen += chunk

    def finish(self) -> Incoming:
        return self

    def document(self) -> dict:
        return {"00081199": {"vr": "SQ"}}

    def xml(self) -> bytes:
        return b"<NativeDicomModel/>"


def broken_off(app: FastAPI, headers: dict[str, str], body: bytes) -> list[int]:
    """Send the beginning of an upload, then break the connection; return the statuses that were answered."""
    said = [
        {"type": "http.request", "body": body, "more_body": True},
        {"type": "http.disconnect"},
    ]
    statuses = []

    async def receive() -> dict[str, Any]:
        return said.pop(0) if len(said) > 1 else said[0]

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/dicom-web/studies",
        "raw_path": b"/dicom-web/studies",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("testserver", 80),
    }
    # In a thread of its own: the browser of other tests keeps a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, app(scope, receive, send)).result()
    return statuses


def test_an_upload_that_breaks_off_leaves_no_open_file_and_no_part_of_one(room: Room, tmp_path: Path) -> None:
    kind = 'multipart/related; type="application/dicom"; boundary=frontier'
    headers = {**room.bearer(Role.RADIOLOGIST), "Content-Type": kind, "Host": "testserver"}
    item = an_object(1)
    film = file_meta(Claim(item.sop_class, item.sop_instance, item.syntax), "TEST") + item.data
    whole = b"--frontier\r\nContent-Type: application/dicom\r\n\r\n" + film + b"\r\n"
    with receiving(tmp_path / "receive", quiet=60) as kept:
        app = build_app(replace(room.app.state.web.parts, stow=partial(StowRequest, kept.intake)))
        broken_off(app, headers, whole + whole[:-100])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            broken_off(app, headers, whole + whole[:-100])
        assert len(os.listdir("/proc/self/fd")) == before
        assert kept.files() == [row.path for row in kept.instances()], "the part that was whole, once"
        wait_until(lambda: bool(kept.refused()), 5)
        assert kept.refused()[0][0] == "stow"
        assert kept.refused()[0][2].startswith("The connection ended before the body did")


def test_films_are_streamed_to_the_receiving_room(room: Room) -> None:
    body = b"x" * 3_000_000
    headers = {**room.bearer(Role.RADIOLOGIST), "Content-Type": 'multipart/related; type="application/dicom"'}
    assert room.client.post("/dicom-web/studies", content=body, headers=headers).status_code == 501
    app = build_app(replace(room.app.state.web.parts, stow=Incoming))
    with TestClient(app) as client:
        answer = client.post("/dicom-web/studies", content=body, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/dicom+json"
        assert Incoming.seen == body
        xml = client.post(
            "/dicom-web/studies", content=b"", headers={**headers, "Accept": "application/dicom+xml"}
        )
        assert xml.text == "<NativeDicomModel/>"
        headers["Content-Type"] = "application/json"
        assert client.post("/dicom-web/studies", content=b"{}", headers=headers).status_code == 415


def test_a_ups_client_sees_the_order_of_the_list_claims_and_completes(room: Room) -> None:
    headers = room.bearer(Role.RADIOLOGIST)
    listed = room.client.get("/api/v1/worklist", headers=headers).json()["items"]
    found = room.client.get("/dicom-web/workitems?includefield=all", headers=headers)
    assert found.headers["content-type"] == "application/dicom+json"
    items = found.json()
    studies = [item["00404021"]["Value"][0]["0020000D"]["Value"][0] for item in items]
    assert studies == [item["study_instance_uid"] for item in listed]
    uid = items[0]["00080018"]["Value"][0]
    transaction = {"00081195": {"vr": "UI", "Value": ["1.2.3.4"]}}
    begin = {**transaction, "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}}
    end = {**transaction, "00741000": {"vr": "CS", "Value": ["COMPLETED"]}}
    address = f"/dicom-web/workitems/{uid}"
    assert room.client.put(f"{address}/state", json=[end], headers=headers).status_code == 409
    assert room.client.put(f"{address}/state", json=[begin], headers=headers).status_code == 200
    study = room.client.get(f"/api/v1/studies/{studies[0]}", headers=headers).json()
    assert study["claimed_by"] == "program-radiologist"
    assert room.client.put(f"{address}/state", json=[end], headers=headers).status_code == 200
    assert room.client.get(f"/api/v1/studies/{studies[0]}", headers=headers).json()["status"] == "read"
    assert room.client.put(f"{address}/state", content=b"nonsense", headers=headers).status_code == 400
    assert room.client.get("/dicom-web/workitems/1.2.3", headers=headers).status_code == 404
    assert room.client.get("/dicom-web/workitems?nonsense=1", headers=headers).status_code == 400
    assert room.client.post(f"{address}/cancelrequest", headers=headers).status_code == 409


def audited(room: Room, code: str) -> list[tuple[object, object, object]]:
    rows = [row for row in reversed(room.audit()) if row["event_code"] == code]
    return [(row["action"], row["study_instance_uid"], row["outcome"]) for row in rows]


def test_each_workitem_that_is_read_claimed_or_refused_is_an_audit_row_with_its_study(room: Room) -> None:
    headers = room.bearer(Role.RADIOLOGIST)
    items = room.client.get("/dicom-web/workitems", headers=headers).json()
    studies = [item["0020000D"]["Value"][0] for item in items]
    addresses = [f"/dicom-web/workitems/{item['00080018']['Value'][0]}" for item in items]
    for address in (*addresses, addresses[0]):
        assert room.client.get(address, headers=headers).status_code == 200
    assert audited(room, "110110") == [("R", uid, 0) for uid in studies], "the same again is one access"
    change = {"00081195": {"vr": "UI", "Value": ["1.2.3.4"]}}
    for state in ("COMPLETED", "IN PROGRESS", "CANCELED"):
        change["00741000"] = {"vr": "CS", "Value": [state]}
        room.client.put(f"{addresses[0]}/state", json=[change], headers=headers)
    assert audited(room, "110111") == [("U", studies[0], outcome) for outcome in (4, 0, 0)]


def test_an_order_is_an_audit_row_for_each_study_that_it_moves(room: Room) -> None:
    reading_room.arrive(room.db, 7, room.clock(), accession="ACC00006")
    order(room, accession_number="ACC00006", urgency="stat")
    order(room, study_uid=uid_of(99))
    order(room, accession_number="LATER")
    assert audited(room, "110109") == [("U", uid, 0) for uid in (uid_of(6), uid_of(7), uid_of(99), "")]
