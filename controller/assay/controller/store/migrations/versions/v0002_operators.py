"""Operators, the audit log, duty and shared things of devices, priorities, tokens that ask."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What is there stays as it was: on duty, sharing nothing, without priority."""
    _add("tokens", sa.Column("approval", sa.Boolean(), nullable=False, server_default=sa.false()))
    _add("devices", sa.Column("duty", sa.String(16), nullable=False, server_default="on"))
    _add("devices", sa.Column("duty_reason", sa.Text(), nullable=False, server_default=""))
    _add("devices", sa.Column("shares", sa.Text(), nullable=False, server_default=""))
    _add("sweeps", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.create_table(
        "operators",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("certificate_id", sa.String(32), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("not_after_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_operators")),
    )
    op.create_table(
        "audit",
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )


def _add(table: str, column: sa.Column[Any]) -> None:
    # In place: copying the table would drop rows that others refer to.
    op.add_column(table, column)
