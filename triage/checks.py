"""The checks behind `triage doctor`: each one sentence, with what to do where something is wrong."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from triage.errors import TriageError
from triage.settings import Destination, Settings
from triage.store import migrations
from triage.store.database import Database

_PATIENCE = 5.0  # seconds for a peer to answer


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    ok: bool
    sentence: str


def run(settings: Settings) -> Iterator[Check]:
    """Yield the answer of every check; a failing one never keeps the next from running."""
    db = Database(settings.database_url)
    yield Check("settings", True, "The configuration can be read.")
    yield attempt("database", lambda: database(db))
    db.close()
    yield attempt("disk", lambda: disk(settings.data_dir, settings.spool.low_water_mb))
    yield attempt("model", lambda: _model(settings))
    yield attempt("listener", lambda: _listener(settings))
    for item in settings.destination:
        yield attempt(f"to {item.name}", _echo_of(settings, item))


def attempt(name: str, check: Callable[[], str]) -> Check:
    """Return what a check says; the sentence of its error where it fails."""
    try:
        return Check(name, True, check())
    except TriageError as error:
        return Check(name, False, str(error))


def database(db: Database) -> str:
    """Say that the database can be written by this version, or raise."""
    try:
        migrations.check(db)
        with db.write() as session:
            session.execute(text("UPDATE installation SET value = value WHERE name = 'none'"))
    except SQLAlchemyError as error:
        msg = f"The database can't be written ({type(error).__name__}); check database.url and who holds it."
        raise TriageError(msg) from None
    return "The database has this version's schema and can be written."


def disk(folder: Path, low_water_mb: int) -> str:
    """Say how much space is left above the low-water mark, or raise."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    if free < low_water_mb:
        msg = f"Only {free} MB are free, below the mark of {low_water_mb} MB: senders are refused; free some."
        raise TriageError(msg)
    return f"{free} MB are free; senders are refused below {low_water_mb} MB."


def _model(settings: Settings) -> str:
    from triage.assess import registry

    model = registry.find(
        registry.models_dir(settings.model.folder), settings.model.name, settings.model.version
    )
    return f"Model {model.label} matches its digest."


def _listener(settings: Settings) -> str:
    if settings.listener.port == 0:
        return "The listener takes a free port."
    listener = settings.listener
    host = "127.0.0.1" if listener.host in ("0.0.0.0", "::") else listener.host  # noqa: S104 - compared only
    with socket.socket() as probe:
        if probe.connect_ex((host, listener.port)) != 0:
            return f"Nothing listens on {listener.host}:{listener.port} yet; the port is free."
    _echo(listener.ae_title, host, listener.port, listener.ae_title)
    return f"{listener.ae_title}@{listener.host}:{listener.port} answers C-ECHO."


def _echo_of(settings: Settings, item: Destination) -> Callable[[], str]:
    def check() -> str:
        _echo(item.ae_title, item.host, item.port, settings.listener.ae_title)
        return f"{item.ae_title}@{item.host}:{item.port} answers C-ECHO."

    return check


def _echo(title: str, host: str, port: int, own: str) -> None:
    sender = AE(own)
    sender.acse_timeout = sender.dimse_timeout = sender.network_timeout = _PATIENCE
    sender.connection_timeout = _PATIENCE
    sender.add_requested_context(Verification)
    association = sender.associate(host, port, ae_title=title)
    if not association.is_established:
        why = "rejects us" if association.is_rejected else "can't be reached"
        msg = f"{title}@{host}:{port} {why}: check its address, its AE title and whether it knows {own}."
        raise TriageError(msg)
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if not status or status.Status != 0:
        msg = f"{title}@{host}:{port} does not answer C-ECHO: look into its log."
        raise TriageError(msg)
