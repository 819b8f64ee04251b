"""The checks behind `triage doctor` and `/readyz`: each one sentence, with what to do about a fault."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from triage import listening
from triage.deliver.dicom import DicomDestination, Sender
from triage.errors import TriageError
from triage.settings import Destination, Settings, load_policy
from triage.store import migrations
from triage.store.database import Database

_PATIENCE = 5.0  # seconds for a peer to answer


@dataclass(frozen=True)
class Check:
    """What one check found."""

    name: str
    ok: bool
    sentence: str


def run(settings: Settings, config: Path | None = None) -> Iterator[Check]:
    """Yield the answer of every check; a failing one never keeps the next from running.

    `config` is the file that the settings were asked for by: the policy is looked for beside it.
    """
    yield attempt("settings", lambda: _settings(settings))
    yield attempt("policy", lambda: _policy(settings, config))
    yield attempt("database", lambda: _configured_database(settings))
    yield attempt("disk", lambda: disk(settings.data_dir, settings.spool.low_water_mb))
    yield attempt("model", lambda: _model(settings))
    yield attempt("listener", lambda: _port(settings))
    for name, check in peers(settings).items():
        yield attempt(name, check)


def peers(settings: Settings) -> dict[str, Callable[[], str]]:
    """Return the checks that every destination answers C-ECHO, by name."""
    own = settings.listener.ae_title

    def check(item: Destination) -> Callable[[], str]:
        return lambda: echo(DicomDestination(item.name, item.ae_title, item.host, item.port, own))

    return {f"to {item.name}": check(item) for item in settings.destination}


def attempt(name: str, check: Callable[[], str]) -> Check:
    """Return what a check says; the sentence of its error where it fails."""
    try:
        return Check(name, True, check())
    except TriageError as error:
        return Check(name, False, str(error))


def _settings(settings: Settings) -> str:
    listening.listener_config(settings)
    if settings.listener.tls.certificate is None:
        return "The configuration can be read."
    return "The configuration can be read, and its certificates can be used."


def _policy(settings: Settings, config: Path | None) -> str:
    policy = load_policy(settings, config)
    return (
        f"The policy '{policy.name}' can be read."
        if settings.policy.file
        else "The policy is the built-in one."
    )


def _configured_database(settings: Settings) -> str:
    db = Database(settings.database_url)
    try:
        return database(db)
    finally:
        db.close()


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


def _port(settings: Settings) -> str:
    wanted = settings.listener
    if wanted.port == 0:
        return "The listener takes a free port."
    try:
        own = listening.own_listener(settings, (wanted.host, wanted.port), wanted.ae_title)
        socket.create_connection((own.host, own.port), _PATIENCE).close()
    except OSError:
        listening.check_free(listening.addresses(settings, receives=True, serves_page=False))
        return f"Nothing listens on {wanted.host}:{wanted.port} yet; the port is free."
    return listener(settings, (wanted.host, wanted.port))


def listener(settings: Settings, listens_on: tuple[str, int] | None) -> str:
    """Say that our own listener answers where it listens, or raise; under TLS it is only connected to."""
    if listens_on is None:
        msg = "The listener has not started yet: ask again in a second."
        raise TriageError(msg)
    wanted = settings.listener
    own = listening.own_listener(settings, listens_on, wanted.ae_title)
    if wanted.tls.certificate is None or wanted.tls.port:
        return echo(own)
    try:
        socket.create_connection((own.host, own.port), _PATIENCE).close()
    except OSError as error:
        msg = f"{own} can't be reached ({error.strerror}): restart the service."
        raise TriageError(msg) from None
    return f"{own} takes connections, and asks for TLS."


def echo(peer: DicomDestination) -> str:
    """Say that a peer answers C-ECHO (PS3.4 A.4), or raise with what to look at."""
    sender = Sender(peer, patience_seconds=_PATIENCE)
    try:
        status = sender.echo()
    except TriageError as error:
        msg = f"{error} Check its address, its AE title and whether it knows {peer.calling_ae}."
        raise TriageError(msg) from None
    finally:
        sender.release()
    if status != 0:
        msg = f"{peer} answers C-ECHO with status 0x{status:04X}: look into its log."
        raise TriageError(msg)
    return f"{peer} answers C-ECHO."
