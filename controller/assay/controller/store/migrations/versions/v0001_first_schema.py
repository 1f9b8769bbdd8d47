"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every table, from nothing."""
    op.create_table(
        "datasets",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("splits", sa.JSON(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("preprocessing_json", sa.Text(), nullable=False),
        sa.Column("added_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_datasets")),
    )
    op.create_table(
        "devices",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("enrolled_ns", sa.BigInteger(), nullable=False),
        sa.Column("certificate_not_after_ns", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=True, comment="assay.v1.DeviceFacts"),
        sa.Column("last_seen_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_devices")),
        sa.UniqueConstraint("key_sha256", name=op.f("uq_devices_key_sha256")),
        sa.UniqueConstraint("name", name=op.f("uq_devices_name")),
    )
    op.create_table(
        "sweeps",
        sa.Column("sweep_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("spec_json", sa.Text(), nullable=False),
        sa.Column("seed", sa.String(length=20), nullable=False),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("name", name=op.f("uq_sweeps_name")),
    )
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
    )
    op.create_table(
        "variants",
        sa.Column("variant_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("origin", sa.String(), nullable=False),
        sa.Column("identity", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("variant_id", name=op.f("pk_variants")),
        sa.UniqueConstraint("name", name=op.f("uq_variants_name")),
    )
    op.create_table(
        "cells",
        sa.Column("sweep_id", sa.String(), nullable=False),
        sa.Column("cell_key", sa.String(), nullable=False),
        sa.Column("grouping", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("run", sa.LargeBinary(), nullable=False, comment="assay.v1.RunSpec"),
        sa.Column("baseline", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_cells_device_id")
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.sweep_id"], name=op.f("fk_cells_sweep_id")),
        sa.PrimaryKeyConstraint("sweep_id", "cell_key", "grouping", name=op.f("pk_cells")),
    )
    op.create_table(
        "conflicts",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_conflicts_device_id")
        ),
        sa.PrimaryKeyConstraint("attempt_id", "seq", "sha256", name=op.f("pk_conflicts")),
    )
    op.create_table(
        "rounds",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("sweep_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("grouping", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="RoundRecord.index"),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("grants", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=False),
        sa.Column("lease_expires_ns", sa.BigInteger(), nullable=True),
        sa.Column(
            "body", sa.LargeBinary(), nullable=False, comment="assay.v1.Round as last granted"
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_rounds_device_id")
        ),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.sweep_id"], name=op.f("fk_rounds_sweep_id")),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_rounds")),
    )
    op.create_index(
        op.f("ix_rounds_state_device_id_sweep_id"),
        "rounds",
        ["state", "device_id", "sweep_id"],
        unique=False,
    )
    op.create_index(op.f("ix_rounds_sweep_id_state"), "rounds", ["sweep_id", "state"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("cell_key", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_attempts_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.round_id"], name=op.f("fk_attempts_round_id")
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_attempts")),
    )
    op.create_index(
        op.f("ix_attempts_round_id_fence"), "attempts", ["round_id", "fence"], unique=False
    )
    op.create_table(
        "round_artifacts",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.round_id"], name=op.f("fk_round_artifacts_round_id")
        ),
        sa.PrimaryKeyConstraint("round_id", "digest", name=op.f("pk_round_artifacts")),
    )
    op.create_index(op.f("ix_round_artifacts_digest"), "round_artifacts", ["digest"], unique=False)
    op.create_table(
        "results",
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("attempt_id", sa.String(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("sweep_id", sa.String(), nullable=False),
        sa.Column("cell_key", sa.String(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("p50_ns", sa.Float(precision=53), nullable=True),
        sa.Column("trace_digest", sa.String(length=71), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("recorded_ns", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="assay.v1.Result, verbatim"),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.attempt_id"], name=op.f("fk_results_attempt_id")
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.device_id"], name=op.f("fk_results_device_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.round_id"], name=op.f("fk_results_round_id")
        ),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.sweep_id"], name=op.f("fk_results_sweep_id")
        ),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_results")),
        sa.UniqueConstraint("attempt_id", "seq", name=op.f("uq_results_attempt_id_seq")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_results_cell_key"), "results", ["cell_key"], unique=False)
    op.create_index(
        op.f("ix_results_round_id_fence"), "results", ["round_id", "fence"], unique=False
    )
    op.create_index(
        op.f("ix_results_sweep_id_superseded"), "results", ["sweep_id", "superseded"], unique=False
    )
