"""Runs migrations on the connection :mod:`assay.controller.store.migrate` opened."""

from __future__ import annotations

from alembic import context

from assay.controller.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table in place; batch mode copies it.
    render_as_batch=True,
    # The caller's transaction holds the write lock, so that two processes do not both migrate.
    transactional_ddl=False,
)
context.run_migrations()
