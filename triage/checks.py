"""The checks behind `triage doctor`: each one sentence, with what to do where something is wrong."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
    yield Check("settings", True, "The configuration can be read.")
    checks: list[tuple[str, Callable[[], str]]] = [
        ("database", lambda: _database(settings)),
        ("disk", lambda: _disk(settings)),
        ("model", lambda: _model(settings)),
        ("listener", lambda: _listener(settings)),
    ]
    checks += [(f"to {item.name}", _echo_of(settings, item)) for item in settings.destination]
    for name, check in checks:
        try:
            yield Check(name, True, check())
        except TriageError as error:
            yield Check(name, False, str(error))


def _database(settings: Settings) -> str:
    db = Database(settings.database_url)
    try:
        migrations.check(db)
        with db.write() as session:
            session.execute(text("UPDATE installation SET value = value WHERE name = 'none'"))
    except SQLAlchemyError as error:
        msg = f"The database can't be written ({type(error).__name__}); check database.url and who else holds it."
        raise TriageError(msg) from None
    finally:
        db.close()
    return "The database has this version's schema and can be written."


def _disk(settings: Settings) -> str:
    folder = settings.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free >> 20
    if free < settings.spool.low_water_mb:
        msg = f"Only {free} MB are free below the mark of {settings.spool.low_water_mb} MB: free some space."
        raise TriageError(msg)
    return f"{free} MB are free; senders are refused below {settings.spool.low_water_mb} MB."


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
