"""What peers have asked this node to answer for; and failed jobs wait behind newer ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


_OPEN = "state NOT IN ('completed', 'canceled', 'quarantined')"


def _order_open_jobs(by: str) -> None:
    only = sa.text(_OPEN)
    op.drop_index("ix_job_open", table_name="job")
    op.create_index(
        "ix_job_open", "job", ["priority", by, "id"], sqlite_where=only, postgresql_where=only
    )


def upgrade() -> None:
    _order_open_jobs("next_attempt_at")
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
    op.create_table(
        "safekeeping",
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_safekeeping")),
    )
    only = sa.text("answered_at IS NULL")
    op.create_index(
        "ix_pledge_open", "pledge", ["next_attempt_at"], sqlite_where=only, postgresql_where=only
    )


def downgrade() -> None:
    _order_open_jobs("planned_at")
    op.drop_table("safekeeping")
    op.drop_table("pledge")
