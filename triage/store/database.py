"""The connection to the database: one writer at a time, readers never blocked, commits that last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from triage.errors import ConfigurationError, RefusedOnce

#: How long a transaction waits for another process's lock before it gives up.
BUSY_TIMEOUT = 5.0  # seconds


def _file_of(url: str) -> Path:
    # The URL is not shown: it may hold a password.
    try:
        parsed = make_url(url)
    except ArgumentError:
        msg = "database.url is no SQLAlchemy URL; write it like sqlite:////var/lib/triage/triage.db."
        raise ConfigurationError(msg) from None
    kind = parsed.get_backend_name()
    if kind != "sqlite":
        msg = f"database.url names {kind}, but this version keeps its data in SQLite only."
        raise ConfigurationError(msg)
    if not parsed.database or parsed.database == ":memory:":
        msg = "database.url names no file; write it like sqlite:////var/lib/triage/triage.db."
        raise ConfigurationError(msg)
    return Path(parsed.database)


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class Database:
    """Sessions on one database; thread-safe, made once for each process.

    `write()` begins at once (SQLite: BEGIN IMMEDIATE, since a transaction that starts by reading and then
    writes fails with "database is locked" in spite of every time-out) and holds a lock of the process, so
    that its own threads queue up instead of polling SQLite's lock.
    """

    def __init__(self, url: str, busy_timeout: float = BUSY_TIMEOUT) -> None:
        """Open nothing yet; `url` is a SQLAlchemy URL, its SQLite folder is made.

        Raises:
            ConfigurationError: it is no URL, names what is not served, or its folder can't be made.
        """
        self.url = url
        file = _file_of(url)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"The database folder {file.parent} can't be made: {error.strerror}; change site.data_dir."
            raise ConfigurationError(msg) from None
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"timeout": busy_timeout, "check_same_thread": False}
        self.engine: Engine = create_engine(
            url,
            connect_args=arguments,
            # An error text must not carry the values of a statement: they are patients.
            hide_parameters=True,
            json_serializer=_dumps,
            json_deserializer=orjson.loads,
            pool_size=20,
            max_overflow=40,
            pool_use_lifo=True,
            pool_pre_ping=not self.is_sqlite,
        )
        if self.is_sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
        self._writer = threading.Lock()
        self._writes: Connection | None = None
        self._listeners: list[Callable[[frozenset[str]], None]] = []

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session on one consistent snapshot; nothing is written."""
        with Session(self.engine, autoflush=False, expire_on_commit=False) as session:
            if self.is_sqlite:
                session.connection().exec_driver_sql("BEGIN")
            yield session

    @contextmanager
    def write(self, *, repeatable: bool = False) -> Iterator[Session]:
        """Give a session whose work is durable when the block ends, or undone when it raises.

        What wrote that it refused (`RefusedOnce`) is kept, and raised again after the commit.

        The commit of `repeatable` work does not wait for the disk: it outlives the process but perhaps not a
        power cut, after which its owner can do it again from what is durable elsewhere. Commits keep their
        order, so nothing that was built upon it is kept without it.
        """
        with self._exclusive() as bind, Session(bind, expire_on_commit=False) as session:
            self._begin(session.connection(), repeatable=repeatable)
            refusal = None
            try:
                yield session
            except RefusedOnce as error:
                refusal = error
            session.commit()
            topics: set[str] = session.info.get("topics", set())
        if topics:
            for listener in list(self._listeners):
                listener(frozenset(topics))
        if refusal is not None:
            raise refusal

    def _begin(self, connection: Connection, *, repeatable: bool) -> None:
        if not self.is_sqlite:
            if repeatable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            return
        mode = "NORMAL" if repeatable else "FULL"
        if connection.info.get("synchronous") != mode:
            connection.exec_driver_sql(f"PRAGMA synchronous={mode}")
            connection.info["synchronous"] = mode
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    @contextmanager
    def _exclusive(self) -> Iterator[Engine | Connection]:
        if not self.is_sqlite:
            yield self.engine
            return
        with self._writer:
            # Always the same connection: SQLite's cache of pages belongs to one, and what another one commits
            # makes it stale.
            if self._writes is None:
                self._writes = self.engine.connect()
            yield self._writes

    def on_commit(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call `listener` with the topics of each committed transaction, on the committing thread.

        A topic is `job:<stage>` or `list`; the listener must return at once.
        """
        self._listeners.append(listener)

    def close(self) -> None:
        """Close every connection; further use opens new ones."""
        with self._writer:
            if self._writes is not None:
                self._writes.close()
                self._writes = None
        self.engine.dispose()


def announce(session: Session, topic: str) -> None:
    """Tell the listeners of this process about `topic` once, and only if, the transaction commits."""
    session.info.setdefault("topics", set()).add(topic)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # Autocommit mode: transactions are begun by us, as BEGIN IMMEDIATE, never by the driver.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute("PRAGMA cache_size=-32000")
    # 16 MB of log: what many commits change goes to the database file once.
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.close()
