"""Indices of what is open, so that history costs nothing; one less on every instance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OPEN = {
    "ix_series_unrouted": ("series", ["completed_at"], "routed_revision < revision"),
    "ix_study_unrouted": ("study", ["completed_at"], "routed_revision < revision"),
    "ix_job_open": (
        "job",
        ["priority", "planned_at", "id"],
        "state NOT IN ('completed', 'canceled', 'quarantined')",
    ),
    "ix_delivery_pending": ("delivery", ["destination"], "state = 'pending'"),
    "ix_artifact_rejection": ("artifact", ["job_id"], "role = 'rejection'"),
}


def upgrade() -> None:
    for name, (table, columns, where) in OPEN.items():
        only = sa.text(where)
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
    op.drop_index(op.f("ix_instance_association_id"), table_name="instance")


def downgrade() -> None:
    op.create_index(op.f("ix_instance_association_id"), "instance", ["association_id"])
    for name, (table, _, _) in OPEN.items():
        op.drop_index(name, table_name=table)
