"""How long the audit log is kept."""

from __future__ import annotations

from assay.controller.records import AuditRecord, Role
from assay.controller.store.base import Store

_DAY_NS = 86_400 * 10**9


def prune_audit(store: Store, keep_days: int, now_ns: int) -> int:
    """Drops entries older than that and returns how many; what was dropped is itself in the log.
    Nothing where ``keep_days`` is 0."""
    if keep_days == 0:
        return 0
    dropped = store.prune_audit(now_ns - keep_days * _DAY_NS)
    if dropped:
        store.add_audit(
            AuditRecord(
                at_ns=now_ns,
                actor="controller",
                role=Role.OPERATOR,
                origin="home",
                action="audit prune",
                subject=f"{dropped} entries older than {keep_days} days",
                outcome="ok",
            )
        )
    return dropped
