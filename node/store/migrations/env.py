"""Alembic's entry point: migrations run on the connection that ``store.migrate`` opened."""

from __future__ import annotations

from alembic import context

from node.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=True,
)
context.run_migrations()
