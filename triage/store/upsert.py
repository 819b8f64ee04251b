"""Rows that may be there already: inserted, or left to whoever was quicker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

_INSERT: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def insert_new(
    session: Session,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    unique: tuple[str, ...],
    returning: tuple[str, ...],
) -> Sequence[Row[Any]]:
    """Insert rows in one statement and return those that are new, in no certain order.

    A row whose `unique` columns are taken is left out; whoever took them has committed, so it can be read.
    """
    connection = session.connection()
    statement = _statement(connection.dialect.name, table, unique, returning)
    return connection.execute(statement, list(rows)).all()


@lru_cache(maxsize=32)
def _statement(
    dialect: str, table: Table, unique: tuple[str, ...], returning: tuple[str, ...]
) -> ReturningInsert[Any]:
    statement = _INSERT[dialect](table).on_conflict_do_nothing(index_elements=unique)
    return statement.returning(*(table.c[name] for name in returning))
