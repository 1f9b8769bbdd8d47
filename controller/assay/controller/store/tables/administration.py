"""Operators and the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from assay.controller.records import AuditRecord, OperatorRecord, Role
from assay.controller.store.schema import audit, operators
from assay.core.errors import NotFound


def put_operator(tx: Connection, record: OperatorRecord) -> None:
    """Adds one, or gives a known name another certificate and role."""
    values = {
        "role": record.role.value,
        "certificate_id": record.certificate_id,
        "created_ns": record.created_ns,
        "not_after_ns": record.not_after_ns,
        "revoked": record.revoked,
    }
    same = operators.c.name == record.name
    if tx.execute(update(operators).where(same).values(**values)).rowcount == 0:
        tx.execute(insert(operators).values(name=record.name, **values))


def all_operators(tx: Connection) -> list[OperatorRecord]:
    """By name."""
    return [_operator(row) for row in tx.execute(select(operators).order_by(operators.c.name))]


def operator(tx: Connection, name: str) -> OperatorRecord:
    """One operator."""
    row = tx.execute(select(operators).where(operators.c.name == name)).first()
    if row is None:
        raise NotFound(f"no operator {name!r}; `assay operator list` names them")
    return _operator(row)


def add_audit(tx: Connection, record: AuditRecord) -> int:
    """Appends one entry; returns its number."""
    done = tx.execute(
        insert(audit).values(
            at_ns=record.at_ns,
            actor=record.actor,
            role=record.role.value,
            origin=record.origin,
            action=record.action,
            subject=record.subject,
            outcome=record.outcome,
            detail=record.detail,
        )
    )
    (number,) = done.inserted_primary_key or (0,)
    return int(number)


def end_audit(tx: Connection, number: int, subject: str, outcome: str, detail: str) -> None:
    """Writes down how an entry ended."""
    values = {"subject": subject, "outcome": outcome, "detail": detail}
    tx.execute(update(audit).where(audit.c.entry == number).values(**values))


def last_audit(tx: Connection, limit: int) -> list[AuditRecord]:
    """The newest entries, oldest first."""
    rows = tx.execute(select(audit).order_by(audit.c.entry.desc()).limit(limit)).all()
    return [_audit(row) for row in reversed(rows)]


def prune_audit(tx: Connection, before_ns: int) -> int:
    """Drops older entries; returns how many."""
    return tx.execute(delete(audit).where(audit.c.at_ns < before_ns)).rowcount


def _operator(row: Row[Any]) -> OperatorRecord:
    return OperatorRecord(
        name=row.name,
        role=Role(row.role),
        certificate_id=row.certificate_id,
        created_ns=row.created_ns,
        not_after_ns=row.not_after_ns,
        revoked=row.revoked,
    )


def _audit(row: Row[Any]) -> AuditRecord:
    return AuditRecord(
        at_ns=row.at_ns,
        actor=row.actor,
        role=Role(row.role),
        origin=row.origin,
        action=row.action,
        subject=row.subject,
        outcome=row.outcome,
        detail=row.detail,
    )
