"""A place in the list is counted in the index alone, which therefore also holds the state it is narrowed to.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEY = ["band", "effective_at", "arrived_at", "study_uid"]
_WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    op.drop_index("ix_entry_waiting", "entry")
    op.create_index(
        "ix_entry_waiting", "entry", [*_KEY, "state"], sqlite_where=_WAITING, postgresql_where=_WAITING
    )
    _count_anew()


def _count_anew() -> None:
    # Where SQLite knows figures of the other indexes only, it takes one of those and sorts by hand.
    connection = op.get_bind()
    if connection.dialect.name == "sqlite" and sa.inspect(connection).has_table("sqlite_stat1"):
        op.execute("ANALYZE entry")


def downgrade() -> None:
    op.drop_index("ix_entry_waiting", "entry")
    op.create_index("ix_entry_waiting", "entry", _KEY, sqlite_where=_WAITING, postgresql_where=_WAITING)
    _count_anew()
