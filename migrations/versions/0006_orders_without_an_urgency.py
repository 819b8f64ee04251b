"""An order may say nothing of urgency, and then takes nobody's word away.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("imaging_order") as table:
        table.alter_column("urgency", existing_type=sa.String(40), nullable=True)


def downgrade() -> None:
    op.execute("UPDATE imaging_order SET urgency = 'routine' WHERE urgency IS NULL")
    with op.batch_alter_table("imaging_order") as table:
        table.alter_column("urgency", existing_type=sa.String(40), nullable=False)
