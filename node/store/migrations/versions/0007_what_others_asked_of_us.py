"""What peers have asked this node to answer for (storage commitment as SCP)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pledge",
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("calling_ae", sa.Text(), nullable=False),
        sa.Column("objects", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.Double(), nullable=False),
        sa.Column("answered_at", sa.Double()),
        sa.PrimaryKeyConstraint("transaction_uid", "calling_ae", name=op.f("pk_pledge")),
    )
    only = sa.text("answered_at IS NULL")
    op.create_index(
        "ix_pledge_open", "pledge", ["next_attempt_at"], sqlite_where=only, postgresql_where=only
    )


def downgrade() -> None:
    op.drop_table("pledge")
