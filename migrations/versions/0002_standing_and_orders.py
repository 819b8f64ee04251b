"""What a policy weighs is kept with the entry; orders say whose they are; HL7 messages are answered once.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATES = ("claimed", "read", "withdrawn")
UNJUDGED = "state IN ('not_evaluated', 'failed')"


def upgrade() -> None:
    with op.batch_alter_table("entry") as table:
        table.drop_column("terms")
        table.add_column(sa.Column("standing", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("answer", sa.JSON(), nullable=False, server_default="{}"))
    # Ranked by no policy: the scheduler's next beat ranks what is unread anew.
    op.execute("UPDATE entry SET policy = '' WHERE state IN ('waiting', 'claimed')")
    for state in STATES:
        where = sa.text(f"state = '{state}'")
        op.create_index(f"ix_entry_{state}", "entry", ["study_id"], sqlite_where=where, postgresql_where=where)
    op.create_index("ix_entry_read_at", "entry", ["read_at"])
    where = sa.text(UNJUDGED)
    op.create_index("ix_study_unjudged", "study", ["id"], sqlite_where=where, postgresql_where=where)
    op.create_index("ix_study_patient_id", "study", ["patient_id"])
    with op.batch_alter_table("imaging_order") as table:
        table.add_column(sa.Column("patient_id_issuer", sa.String(256), nullable=False, server_default=""))
        table.add_column(sa.Column("patient_birth_date", sa.String(16), nullable=False, server_default=""))
    op.create_table(
        "message",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("sender", sa.String(200), nullable=False),
        sa.Column("control_id", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("answer", sa.String(2), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message")),
        sa.UniqueConstraint("sender", "control_id", name=op.f("uq_message_sender_control_id")),
    )
    op.create_index("ix_message_at", "message", ["at"])


def downgrade() -> None:
    op.drop_table("message")
    with op.batch_alter_table("imaging_order") as table:
        table.drop_column("patient_birth_date")
        table.drop_column("patient_id_issuer")
    op.drop_index("ix_study_patient_id", "study")
    op.drop_index("ix_study_unjudged", "study")
    op.drop_index("ix_entry_read_at", "entry")
    for state in STATES:
        op.drop_index(f"ix_entry_{state}", "entry")
    with op.batch_alter_table("entry") as table:
        table.drop_column("answer")
        table.drop_column("standing")
        table.add_column(sa.Column("terms", sa.JSON(), nullable=False, server_default="[]"))
