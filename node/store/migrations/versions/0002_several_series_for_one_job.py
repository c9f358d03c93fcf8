"""Jobs on several series of a study, by the names of a pipeline's inputs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_input",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("series_uid", sa.Text(), nullable=False),
        sa.Column("fitting", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_job_input_job_id")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_input")),
    )
    op.add_column(
        "study", sa.Column("routed_revision", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("study", sa.Column("route_at", sa.Double(), nullable=True))
    # What was complete before stays as it is: an upgrade analyses no study of last year.
    op.execute("UPDATE study SET routed_revision = revision WHERE state = 'complete'")


def downgrade() -> None:
    op.drop_column("study", "route_at")
    op.drop_column("study", "routed_revision")
    op.drop_table("job_input")
