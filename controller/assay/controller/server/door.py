"""Who calls for administration: looked up on every call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from assay.controller.admin.journal import Caller
from assay.controller.identity.certificates import OPERATOR_URI
from assay.controller.records import AuditRecord, Role
from assay.controller.store.base import Store
from assay.core.errors import AssayError, NotFound, Unauthenticated

_PAUSE_NS = 60 * 10**9
_MOST_KNOWN = 1_000


class Knocks:
    """How often somebody was turned away since that was last written down: a device that knocks
    without end must not fill the disk. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, ...], tuple[int, int]] = {}

    def unwritten(self, who: tuple[str, ...], now_ns: int) -> int | None:
        """How many were not written down before this one, which is to be; None where this one is
        not either, since one was less than a minute ago."""
        with self._lock:
            since_ns, count = self._seen.pop(who, (now_ns - _PAUSE_NS, 0))
            due = not 0 <= now_ns - since_ns < _PAUSE_NS
            self._seen[who] = (now_ns, 0) if due else (since_ns, count + 1)
            while len(self._seen) > _MOST_KNOWN:
                del self._seen[next(iter(self._seen))]
        return count if due else None


@dataclass(frozen=True, slots=True)
class Door:
    """Tells who calls; whoever is turned away is written into the audit log, once a minute each.
    Blocking."""

    store: Store
    now_ns: Callable[[], int]
    knocks: Knocks = field(default_factory=Knocks)

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
        # TLS looks at this when a connection begins, and a connection may last.
        if known.not_after_ns <= self.now_ns():
            raise Unauthenticated(
                f"the certificate of operator {name} has ended; `assay operator add {name}` on the "
                "controller's host makes another"
            )
        return Caller(name, known.role, origin)

    def _turned_away(self, names: list[str], origin: str, error: AssayError) -> None:
        now_ns = self.now_ns()
        unwritten = self.knocks.unwritten((*names, origin, str(error)), now_ns)
        if unwritten is None:
            return
        entry = AuditRecord(
            at_ns=now_ns,
            actor=" ".join(names) or "unknown",
            role=Role.VIEWER,
            origin=origin,
            action="call",
            subject="",
            outcome=error.code,
            detail=str(error) + f" (and {unwritten} times since the last entry)" * bool(unwritten),
        )
        self.store.add_audit(entry)
