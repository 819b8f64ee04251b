"""The web application on a real database, for the tests of API and access."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from triage.deliver import outbox
from triage.store import accounts, migrations
from triage.store.accounts import Role
from triage.store.database import Database
from triage.web.app import Parts, build_app
from triage.work.embedded import EmbeddedQueue

PASSWORD = "correct horse battery"
HOUR = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that the test winds."""

    now: datetime = HOUR

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


def grey_png(_path: str) -> bytes:
    out = io.BytesIO()
    Image.new("L", (320, 400), 90).save(out, "PNG")
    return out.getvalue()


@dataclass
class Room:
    """An application with one token for each role."""

    db: Database
    app: FastAPI
    client: TestClient
    clock: Clock
    tokens: dict[Role, str] = field(default_factory=dict)

    def bearer(self, role: Role = Role.ADMINISTRATOR) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}

    def audit(self) -> list[dict[str, object]]:
        self.app.state.web.trail.flush()
        return list(self.client.get("/api/v1/audit?limit=1000", headers=self.bearer()).json()["items"])


@cache
def _template() -> Path:
    """Make the database once: the schema and the slow hashes of the passwords."""
    path = Path(mkdtemp()) / "template.db"
    db = Database(f"sqlite:///{path}")
    migrations.upgrade(db)
    with db.write() as session:
        for role in Role:
            accounts.create_account(session, f"person-{role}", PASSWORD, role, HOUR)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path


@contextmanager
def open_room(folder: Path) -> Iterator[Room]:
    """Give an application at work; the client follows no redirects and raises nothing of the server's."""
    shutil.copy(_template(), folder / "web.db")
    db = Database(f"sqlite:///{folder / 'web.db'}")
    clock = Clock()
    app = build_app(
        Parts(
            db=db,
            clock=clock,
            metrics=lambda: b"# HELP triage_instances Acknowledged objects.\n",
            preview=grey_png,
            heat_map=lambda path, _finding: grey_png(path),
            retry=lambda session, result, now: outbox.retry(session, EmbeddedQueue(db), result, now),
            models=lambda: ({"name": "chest", "version": "1", "active": True},),
            checks=(lambda: ("database", True, "It answers."),),
            site="Test site",
        )
    )
    with TestClient(app, follow_redirects=False, raise_server_exceptions=False) as client:
        room = Room(db, app, client, clock)
        with db.write() as session:
            for role in Role:
                room.tokens[role] = accounts.create_token(session, f"program-{role}", role, clock())
        yield room
    db.close()
