"""Fewer indices, above all one less on every instance; and the newest in order."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

GONE = {
    "ix_artifact_study_uid": ("artifact", ["study_uid"], None),
    "ix_delivery_pending": ("delivery", ["destination"], "state = 'pending'"),
    "ix_delivery_transaction_uid": ("delivery", ["transaction_uid"], None),
    "ix_event_job_id": ("event", ["job_id"], None),
    "ix_instance_path": ("instance", ["path"], None),
    "ix_job_state_priority_planned_at": ("job", ["state", "priority", "planned_at"], None),
    "ix_outbox_sent_at": ("outbox", ["sent_at"], None),
}
COME = {
    "ix_delivery_state_planned_at": ("delivery", ["state", "planned_at"], None),
    "ix_job_state_planned_at": ("job", ["state", "planned_at"], None),
    "ix_outbox_unsent": ("outbox", ["sequence"], "sent_at IS NULL"),
}
"""Table, columns, and for an index of few rows which they are."""

Indices = Mapping[str, tuple[str, list[str], str | None]]


def _replace(old: Indices, new: Indices) -> None:
    for name, (table, _, _) in old.items():
        op.drop_index(name, table_name=table)
    for name, (table, columns, where) in new.items():
        only = None if where is None else sa.text(where)
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)


def upgrade() -> None:
    _replace(GONE, COME)


def downgrade() -> None:
    _replace(COME, GONE)
