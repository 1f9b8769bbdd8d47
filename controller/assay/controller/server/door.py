"""Who calls for administration: looked up on every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assay.controller.admin.journal import Caller
from assay.controller.identity.certificates import OPERATOR_URI
from assay.controller.records import AuditRecord, Role
from assay.controller.store.base import Store
from assay.core.errors import AssayError, NotFound, Unauthenticated


@dataclass(frozen=True, slots=True)
class Door:
    """Tells who calls; whoever is turned away is written into the audit log. Blocking."""

    store: Store
    now_ns: Callable[[], int]

    def caller(self, peer: str, names: list[str]) -> Caller:
        """The operator behind a connection; :class:`Unauthenticated` where there is none."""
        if peer.startswith("unix:"):
            # Its file permissions let this account in, and no other.
            return Caller("socket", Role.OPERATOR, "socket")
        origin = peer.partition(":")[2].rpartition(":")[0]
        try:
            return self._operator(names, origin)
        except AssayError as error:
            self._turned_away(names, origin, error)
            raise

    def _operator(self, names: list[str], origin: str) -> Caller:
        said = [n.removeprefix(OPERATOR_URI) for n in names if n.startswith(OPERATOR_URI)]
        if len(said) != 1:
            raise Unauthenticated("the client certificate names no operator")
        name, _, certificate_id = said[0].partition("/")
        try:
            known = self.store.operator(name)
        except NotFound:
            raise Unauthenticated(f"this controller does not know operator {name!r}") from None
        if known.revoked:
            raise Unauthenticated(f"operator {name} was revoked")
        if known.certificate_id != certificate_id:
            raise Unauthenticated(f"operator {name} has a newer certificate; use that")
        return Caller(name, known.role, origin)

    def _turned_away(self, names: list[str], origin: str, error: AssayError) -> None:
        entry = AuditRecord(
            at_ns=self.now_ns(),
            actor=" ".join(names) or "unknown",
            role=Role.VIEWER,
            origin=origin,
            action="call",
            subject="",
            outcome=error.code,
            detail=str(error),
        )
        self.store.add_audit(entry)
