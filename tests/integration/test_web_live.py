"""The live stream on a real socket, and the commands that let people in."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from tests import reading_room
from tests.web_room import Room, open_room
from triage.cli.main import app as command_line
from triage.store import accounts, migrations
from triage.store.accounts import Role
from triage.store.database import Database
from triage.web.app import build_app
from triage.web.server import WebServer


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Room, str]]:
    with open_room(tmp_path) as room:
        server = WebServer(build_app(room.app.state.web.parts), "127.0.0.1", 0)
        server.start()
        yield room, "http://{}:{}".format(*server.address)
        server.stop()


def events(stream: httpx.Response) -> Iterator[tuple[str, dict]]:
    kind = ""
    for line in stream.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        if line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def test_changes_of_this_and_other_processes_are_told(served: tuple[Room, str]) -> None:
    room, address = served
    elsewhere = Database(room.db.url)
    with httpx.stream("GET", f"{address}/api/v1/events", headers=room.bearer(), timeout=20) as stream:
        heard = events(stream)
        assert next(heard)[0] == "list", "the first word says where we are"
        reading_room.arrive(room.db, 1, room.clock())
        assert next(kind for kind, _ in heard if kind == "list")
        # A look at the tables may still tell of the same commit once more.
        assert next(kind for kind, _ in heard if kind == "beat")
        begun = time.monotonic()
        reading_room.arrive(elsewhere, 2, room.clock())
        assert next(kind for kind, _ in heard if kind == "list")
        assert time.monotonic() - begun < 5
        _, data = next(heard)
        assert set(data) == {"version", "healthy", "at"}, "no patient data"
    elsewhere.close()


def test_an_open_stream_does_not_hold_the_service_up(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        server = WebServer(build_app(room.app.state.web.parts), "127.0.0.1", 0)
        server.start()
        address = "http://{}:{}".format(*server.address)
        with httpx.stream("GET", f"{address}/api/v1/events", headers=room.bearer(), timeout=20) as stream:
            lines = stream.iter_lines()
            next(lines)
            server.stop()
            assert list(lines)[-1] == "", "the stream ended in order"


def test_people_and_programs_are_let_in_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAGE__SITE__DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    db = Database(f"sqlite:///{tmp_path / 'triage.db'}")
    migrations.upgrade(db)
    runner = CliRunner()
    ann = ["user", "add", "ann", "--role", "radiologist"]
    added = runner.invoke(command_line, ann, input="a long password\n")
    assert added.exit_code == 0, added.output
    made = runner.invoke(command_line, ["token", "create", "ris", "--role", "viewer"])
    secret = made.output.strip()
    with db.read() as session:
        assert accounts.password_fits(accounts.by_name(session, "ann"), "a long password")
        who = accounts.principal(session, "token", secret, datetime.now(UTC))
    assert who is not None
    assert who.role is Role.VIEWER
    twice = runner.invoke(command_line, ann, input="a long password\n")
    assert isinstance(twice.exception, accounts.AccountError)
    listed = [
        json.loads(runner.invoke(command_line, [kind, "list", "--json"]).output)["items"]
        for kind in ("user", "token")
    ]
    assert [(row["name"], row["role"]) for rows in listed for row in rows] == [
        ("ann", "radiologist"),
        ("ris", "viewer"),
    ]
    assert secret not in str(listed)
    short = runner.invoke(command_line, ["user", "add", "bob", "--role", "viewer"], input="short\n")
    assert isinstance(short.exception, accounts.AccountError)
    for taken_back in (["user", "remove", "ann"], ["token", "revoke", "ris"]):
        assert runner.invoke(command_line, taken_back).exit_code == 0
        again = runner.invoke(command_line, taken_back)
        assert isinstance(again.exception, accounts.AccountError)
        assert "list` shows" in str(again.exception)
    with db.read() as session:
        assert accounts.by_name(session, "ann") is None
        assert accounts.principal(session, "token", secret, datetime.now(UTC)) is None
    back = runner.invoke(command_line, ["user", "add", "ann", "--role", "viewer"], input="another password\n")
    assert back.exit_code == 0, back.output
    with db.read() as session:
        ann_again = accounts.by_name(session, "ann")
        assert accounts.password_fits(ann_again, "another password")
        assert not accounts.password_fits(ann_again, "a long password")
    db.close()
