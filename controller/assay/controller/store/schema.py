"""The tables, as SQLAlchemy Core; what changes here needs a migration beside it.

Values that are only ever read whole (facts, run specs, results) are serialised ``assay.v1``
messages or JSON; what is searched by has a column of its own.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String, primary_key=True),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("created_ns", BigInteger, nullable=False),
    Column("expires_ns", BigInteger, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("approval", Boolean, nullable=False),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", String, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("key_sha256", String(64), nullable=False, unique=True),
    Column("enrolled_ns", BigInteger, nullable=False),
    Column("certificate_not_after_ns", BigInteger, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("facts", LargeBinary, comment="assay.v1.DeviceFacts"),
    Column("last_seen_ns", BigInteger),
    Column("duty", String(16), nullable=False),
    Column("duty_reason", Text, nullable=False),
    # DeviceRecord.shares, one a line: looked at whenever a round is granted.
    Column("shares", Text, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("name", String, primary_key=True),
    Column("source", Text, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("splits", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("preprocessing_json", Text, nullable=False),
    Column("added_ns", BigInteger, nullable=False),
)

variants = Table(
    "variants",
    metadata,
    Column("variant_id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("dataset", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("identity", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("notes", JSON, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
)

sweeps = Table(
    "sweeps",
    metadata,
    Column("sweep_id", String, primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("spec_json", Text, nullable=False),
    # Decimal text: a seed may be any 64-bit number, a signed column is not wide enough.
    Column("seed", String(20), nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
)

cells = Table(
    "cells",
    metadata,
    Column("sweep_id", ForeignKey("sweeps.sweep_id"), primary_key=True),
    # The canary of two groups may be one and the same cell.
    Column("cell_key", String, primary_key=True),
    Column("grouping", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("run", LargeBinary, nullable=False, comment="assay.v1.RunSpec"),
    Column("baseline", Boolean, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("round_id", String, primary_key=True),
    Column("sweep_id", ForeignKey("sweeps.sweep_id"), nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("grouping", String, nullable=False),
    Column("position", Integer, nullable=False, comment="RoundRecord.index"),
    Column("state", String(16), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("grants", Integer, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("lease_expires_ns", BigInteger),
    Column("since_ns", BigInteger, nullable=False, comment="when it came to be in its state"),
    Column("trouble", Text, nullable=False, comment="what last went wrong: code: words"),
    Column("body", LargeBinary, nullable=False, comment="assay.v1.Round as last granted"),
    Index(None, "sweep_id", "state"),
    # Covers the question who has something to do, which is asked a few times a second.
    Index(None, "state", "device_id", "sweep_id"),
    # Asked every few seconds: whose rounds have ended lately.
    Index(None, "since_ns"),
)

round_artifacts = Table(
    "round_artifacts",
    metadata,
    Column("round_id", ForeignKey("rounds.round_id"), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Index(None, "digest"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("attempt_id", String, primary_key=True),
    Column("round_id", ForeignKey("rounds.round_id"), nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("cell_key", String, nullable=False),
    Index(None, "round_id", "fence"),
)

results = Table(
    "results",
    metadata,
    # Grows: the order of recording.
    Column("entry", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("attempt_id", ForeignKey("attempts.attempt_id"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("round_id", ForeignKey("rounds.round_id"), nullable=False),
    Column("sweep_id", ForeignKey("sweeps.sweep_id"), nullable=False),
    Column("cell_key", String, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("superseded", Boolean, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("failure_code", String(32)),
    Column("p50_ns", Float(53)),
    Column("trace_digest", String(71)),
    Column("sha256", String(64), nullable=False),
    Column("recorded_ns", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="assay.v1.Result, verbatim"),
    UniqueConstraint("attempt_id", "seq"),
    Index(None, "sweep_id", "superseded"),
    Index(None, "cell_key"),
    Index(None, "round_id", "fence"),
    sqlite_autoincrement=True,
)

conflicts = Table(
    "conflicts",
    metadata,
    Column("attempt_id", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("seen_ns", BigInteger, nullable=False),
)

operators = Table(
    "operators",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("certificate_id", String(32), nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("not_after_ns", BigInteger, nullable=False),
    Column("revoked", Boolean, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("entry", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_ns", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("role", String(16), nullable=False),
    Column("origin", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
