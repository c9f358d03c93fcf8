"""What was removed after its time, and how far someone has come who reads all files again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEPT = {
    "ix_study_kept": ("study", ["last_instance_at"], "released_revision < revision"),
    "ix_artifact_kept": ("artifact", ["written_at"], "released_at IS NULL"),
}


def upgrade() -> None:
    for table, column in (("study", "released_revision"), ("series", "released_instances")):
        op.add_column(table, sa.Column(column, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("artifact", sa.Column("released_at", sa.Double()))
    for name, (table, columns, where) in KEPT.items():
        only = sa.text(where)
        op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)
    op.create_index(
        "ix_instance_own",
        "instance",
        ["received_at"],
        sqlite_where=sa.text("own_result = 1"),
        postgresql_where=sa.text("own_result"),
    )
    op.create_table(
        "removal",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("aside_at", sa.Double()),
        sa.PrimaryKeyConstraint("path", name=op.f("pk_removal")),
    )
    op.create_table(
        "reading",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.Double(), nullable=False),
        sa.Column("area", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_reading")),
    )


def downgrade() -> None:
    op.drop_table("reading")
    op.drop_table("removal")
    op.drop_index("ix_instance_own", table_name="instance")
    for name, (table, _, _) in KEPT.items():
        op.drop_index(name, table_name=table)
    op.drop_column("artifact", "released_at")
    op.drop_column("series", "released_instances")
    op.drop_column("study", "released_revision")
