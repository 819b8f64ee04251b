"""A study keeps whose it was before its patient's record was corrected or merged.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("earlier_patients", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    op.drop_column("study", "earlier_patients")
