"""A service with a page, for a real browser; `python -m tests.browser.stage DATABASE PORT` runs one alone."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from tests import reading_room
from triage.deliver import outbox
from triage.samples.disease import Kind
from triage.samples.draw import frontal, patient_of
from triage.store import accounts, migrations
from triage.store.accounts import Role
from triage.store.database import Database
from triage.web.app import Parts, build_app
from triage.web.server import WebServer
from triage.work.embedded import EmbeddedQueue

PASSWORD = "correct horse battery"
ROOT = Path(__file__).resolve().parents[2]
READERS = ("dr.lind", "dr.okoye")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clock() -> datetime:
    return datetime.now(UTC)


@cache
def _film() -> bytes:
    seed = 11
    picture = frontal(patient_of(seed, "adult-male", Kind.NORMAL), Kind.NORMAL, seed, 900)
    out = io.BytesIO()
    Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


@dataclass
class Stage:
    """A running service: its address and its database."""

    db: Database
    server: WebServer

    @property
    def address(self) -> str:
        host, port = self.server.address
        return f"http://{host}:{port}"

    def way_in(self, reader: str, role: Role = Role.RADIOLOGIST) -> str:
        """Return an address that logs a reader in, once."""
        with self.db.write() as session:
            secret = accounts.create_login(session, reader, role, clock())
        return f"{self.address}/login/once/{secret}"


def _serve(db: Database, port: int) -> WebServer:
    app = build_app(
        Parts(
            db=db,
            clock=clock,
            metrics=lambda: b"",
            preview=lambda _path: _film(),
            heat_map=lambda _path, _finding: _film(),
            retry=lambda session, result, now: outbox.retry(session, EmbeddedQueue(db), result, now),
            site="Reading room",
            viewer_url="https://viewer.invalid/?study={study_uid}",
        )
    )
    server = WebServer(app, "127.0.0.1", port)
    server.start()
    return server


def prepare(path: Path, count: int = 14) -> Database:
    db = Database(f"sqlite:///{path}")
    migrations.upgrade(db)
    reading_room.fill(db, clock(), count)
    with db.write() as session:
        accounts.create_account(session, READERS[0], PASSWORD, Role.RADIOLOGIST, clock())
    return db


@contextmanager
def stage(folder: Path, count: int = 14) -> Iterator[Stage]:
    db = prepare(folder / "page.db", count)
    server = _serve(db, 0)
    yield Stage(db, server)
    server.stop()
    db.close()


if __name__ == "__main__":
    alone = _serve(Database(f"sqlite:///{sys.argv[1]}"), int(sys.argv[2]))
    print(alone.address[1], flush=True)
    sys.stdin.read()
    alone.stop()
