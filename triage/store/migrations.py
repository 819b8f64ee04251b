"""The schema's versions: made, unmade and checked with Alembic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from triage.errors import ConfigurationError, DatabaseVersionError
from triage.store.database import Database

_FOLDER = Path(__file__).resolve().parents[2] / "migrations"


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """Return the revision that this code works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        msg = "The folder migrations holds no revision; install the project anew."
        raise DatabaseVersionError(msg)
    return head


def current(db: Database) -> str | None:
    """Return the revision of the database, None for an empty one.

    Raises:
        ConfigurationError: it can't be opened, or is no database at all.
    """
    try:
        with db.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except DatabaseError as error:
        msg = f"The database {db.engine.url.database} can't be opened: {error.orig}; change database.url."
        raise ConfigurationError(msg) from None


@contextmanager
def _all_or_nothing(db: Database) -> Iterator[Connection]:
    with db.engine.begin() as connection:
        if db.is_sqlite:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def upgrade(db: Database, revision: str = "head") -> None:
    """Bring the schema up to a revision; nothing happens where it is there already.

    Raises:
        DatabaseVersionError: the database is newer than this code.
    """
    if revision == "head" and current(db) == newest():
        return
    _refuse_newer(db)
    with _all_or_nothing(db) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(db: Database, revision: str) -> None:
    """Take the schema back to a revision; `base` removes every table.

    Raises:
        DatabaseVersionError: the database is newer than this code, or can't be taken back to that revision.
    """
    _refuse_newer(db)
    try:
        with _all_or_nothing(db) as connection:
            command.downgrade(_config(connection), revision)
    except CommandError:
        known = ", ".join(sorted(_known()))
        msg = f"The database can't be taken back to '{revision}'; name base or an older one of {known}."
        raise DatabaseVersionError(msg) from None


def check(db: Database) -> None:
    """Return if the database is at the revision of this code.

    Raises:
        DatabaseVersionError: it is older (upgrade it), or newer than this code (install the newer code).
    """
    have = current(db)
    if have == newest():
        return
    if have is None:
        msg = "The database is empty; run 'triage db upgrade'."
        raise DatabaseVersionError(msg)
    _refuse_newer(db)
    msg = f"The database is at the older revision {have}; run 'triage db upgrade'."
    raise DatabaseVersionError(msg)


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _refuse_newer(db: Database) -> None:
    have = current(db)
    if have is not None and have not in _known():
        msg = f"The database is at revision {have}, which is newer than this code; install the newer version."
        raise DatabaseVersionError(msg)
