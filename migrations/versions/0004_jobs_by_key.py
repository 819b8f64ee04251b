"""Jobs are found by their key, so that a long queue does not slow down whoever adds to it.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_job_key", "job", ["stage", "job_key"])


def downgrade() -> None:
    op.drop_index("ix_job_key", "job")
