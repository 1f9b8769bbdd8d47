"""Since when a round is in its state, and what last went wrong with it."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What is open counts from now on; of what has ended the time is not known (0)."""
    _add(sa.Column("since_ns", sa.BigInteger(), nullable=False, server_default="0"))
    _add(sa.Column("trouble", sa.Text(), nullable=False, server_default=""))
    open_ = "UPDATE rounds SET since_ns = :now WHERE state IN ('queued', 'leased')"
    op.execute(sa.text(open_).bindparams(now=time.time_ns()))
    op.create_index(op.f("ix_rounds_since_ns"), "rounds", ["since_ns"])


def _add(column: sa.Column[object]) -> None:
    op.add_column("rounds", column)
