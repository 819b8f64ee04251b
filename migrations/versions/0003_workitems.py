"""Entries are workitems for UPS clients.

Revision ID: 0003
Revises: 0002
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("entry") as table:
        table.add_column(sa.Column("workitem_uid", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("transaction_uid", sa.String(64), nullable=False, server_default=""))
    connection = op.get_bind()
    numbers = connection.execute(sa.text("SELECT study_id FROM entry")).scalars().all()
    if numbers:
        statement = sa.text("UPDATE entry SET workitem_uid = :uid WHERE study_id = :number")
        connection.execute(statement, [{"uid": f"2.25.{uuid4().int}", "number": n} for n in numbers])
    op.create_index("ix_entry_workitem_uid", "entry", ["workitem_uid"])


def downgrade() -> None:
    op.drop_index("ix_entry_workitem_uid", "entry")
    with op.batch_alter_table("entry") as table:
        table.drop_column("transaction_uid")
        table.drop_column("workitem_uid")
