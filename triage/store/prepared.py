"""Statements that are written by SQLAlchemy once and then run on the driver itself.

The intake runs ten small statements for each object that it acknowledges. Run the usual way, SQLAlchemy's
preparations of each call cost five times what the database does; here only the values are converted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Executable, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

Values = Mapping[str, Any]
_INSERT = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class _Compiled:
    """The text for one kind of database, and how each of its values is converted, in order."""

    text: str
    converters: tuple[tuple[str, Callable[[Any], Any] | None], ...]
    positional: bool
    #: What the driver raises.
    error: type[Exception]

    def wrapped(self, error: Exception) -> Exception:
        """Return the driver's error as SQLAlchemy raises it, without the values of the statement."""
        return cast(
            "Exception", DBAPIError.instance(self.text, None, error, self.error, hide_parameters=True)
        )

    def bind(self, values: Values) -> Any:
        """Return the values of a statement as the driver takes them."""
        made = [
            values[name] if convert is None else convert(values[name]) for name, convert in self.converters
        ]
        if self.positional:
            return made
        return {name: value for (name, _), value in zip(self.converters, made, strict=True)}


class Prepared:
    """A statement whose parameters are named; it joins the session's transaction and raises its errors."""

    def __init__(self, write: Callable[[str], Executable]) -> None:
        """Keep how to write the statement for a kind of database (`sqlite`, `postgresql`)."""
        self._write = write
        self._compiled: dict[str, _Compiled] = {}

    def run(self, session: Session, rows: Sequence[Values]) -> None:
        """Run it for each row."""
        cursor, compiled = self._open(session)
        try:
            cursor.executemany(compiled.text, [compiled.bind(row) for row in rows])
        except compiled.error as error:
            raise compiled.wrapped(error) from None
        finally:
            cursor.close()

    def ask(self, session: Session, values: Values) -> list[tuple[Any, ...]]:
        """Run it once and return its rows as the driver has them."""
        cursor, compiled = self._open(session)
        try:
            cursor.execute(compiled.text, compiled.bind(values))
            rows: list[tuple[Any, ...]] = cursor.fetchall()
        except compiled.error as error:
            raise compiled.wrapped(error) from None
        finally:
            cursor.close()
        return rows

    def _open(self, session: Session) -> tuple[Any, _Compiled]:
        driver, dialect = _driver(session)
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _compile(self._write(dialect.name), dialect)
        return driver.cursor(), compiled


def _driver(session: Session) -> tuple[Any, Dialect]:
    """Return the driver's connection of the session's transaction, looked up once for each."""
    transaction = session.get_transaction()
    known = session.info.get("driver")
    if known is None or known[0] is not transaction or transaction is None:
        connection = session.connection()
        known = (session.get_transaction(), connection.connection, connection.dialect)
        session.info["driver"] = known
    return known[1], known[2]


def _compile(statement: Executable, dialect: Dialect) -> _Compiled:
    made: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    names = made.positiontup if made.positional else list(made.binds)
    converters = tuple(
        (name, made.binds[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names
    )
    return _Compiled(str(made), converters, made.positional, dialect.loaded_dbapi.Error)


class Insert(Prepared):
    """An INSERT of whole rows; what a row does not say has the column's default.

    With `unique` a row whose columns of that name are taken already is left out: whoever took them has
    committed, so that it can be read. `returning` names the column that `new` returns.
    """

    def __init__(self, table: Table, *, unique: Sequence[str] = (), returning: str = "") -> None:
        """Write the statement for every column but a key that the database counts."""
        self._columns = [column for column in table.columns if column is not table.autoincrement_column]
        defaults: dict[str, Any] = {column.key: column.default for column in self._columns}
        self._plain = {
            key: default.arg if default is not None else None
            for key, default in defaults.items()
            if default is None or default.is_scalar
        }
        self._made = {
            key: default.arg
            for key, default in defaults.items()
            if default is not None and default.is_callable
        }

        def write(dialect: str) -> Executable:
            values = {column.key: bindparam(column.key, type_=column.type) for column in self._columns}
            statement: Any = _INSERT[dialect](table).values(values)
            if unique:
                statement = statement.on_conflict_do_nothing(index_elements=unique)
            return statement.returning(table.c[returning]) if returning else statement  # type: ignore[no-any-return]

        super().__init__(write)

    def add(self, session: Session, rows: Sequence[Values]) -> None:
        """Insert rows."""
        self.run(session, [self._whole(row) for row in rows])

    def new(self, session: Session, row: Values) -> Any | None:
        """Insert a row and return what the database gave it, or None where it was taken."""
        found = self.ask(session, self._whole(row))
        return found[0][0] if found else None

    def _whole(self, row: Values) -> Values:
        made = {key: make(None) for key, make in self._made.items() if key not in row}
        return {**self._plain, **made, **row}
