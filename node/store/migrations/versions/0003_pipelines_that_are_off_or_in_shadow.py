"""Pipelines that a person switched off, or lets run without sending anything."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipeline_mode",
        sa.Column("pipeline", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "mode IN ('enabled', 'shadow', 'disabled')", name=op.f("ck_pipeline_mode_mode")
        ),
        sa.PrimaryKeyConstraint("pipeline", name=op.f("pk_pipeline_mode")),
    )
    op.add_column(
        "job", sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    op.drop_column("job", "withheld")
    op.drop_table("pipeline_mode")
