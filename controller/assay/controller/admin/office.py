"""Administration on a store: who may do what, and the log of who did."""

from __future__ import annotations

import datetime as dt
import getpass
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from assay.controller.admin.base import CertificateRecord, DeviceChange, DeviceVerb
from assay.controller.admin.changes import changed
from assay.controller.home import Home
from assay.controller.identity.enrol import check_name, create_token
from assay.controller.planning import health
from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
    Role,
    SweepRecord,
    SweepState,
    TokenRecord,
)
from assay.controller.store.base import Store
from assay.core.errors import AssayError, PermissionDenied, UsageError

T = TypeVar("T")

HIGHEST_PRIORITY = 1_000
LONGEST_OPERATOR_DAYS = 366
MOST_AUDIT_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks and from where; ``reads`` tells whether what is only looked at is logged too."""

    name: str
    role: Role
    origin: str
    reads: bool = True

    @classmethod
    def of_this_account(cls) -> Caller:
        """Whoever runs a command on the home itself: files are the access control, and who can
        read them could also read them without us."""
        return cls(getpass.getuser(), Role.OPERATOR, "home", reads=False)


@dataclass(frozen=True, slots=True)
class Office:
    """:class:`assay.controller.admin.base.Administration` for one caller."""

    home: Home
    store: Store
    caller: Caller
    now_ns: Callable[[], int] = time.time_ns

    def tokens(self) -> list[TokenRecord]:
        """See :class:`Administration`."""
        return self._look("token list", lambda: [_bare(t) for t in self.store.tokens()])

    def create_token(self, *, note: str, uses: int, lifetime_s: int, approval: bool) -> str:
        """See :class:`Administration`."""
        subject = f"{note or 'no note'}: {uses} use(s), {lifetime_s} s" + ", approval" * approval

        def work() -> str:
            token = create_token(
                self.home,
                self.store,
                note=note,
                uses=uses,
                lifetime_s=lifetime_s,
                approval=approval,
                now_ns=self.now_ns(),
            )
            return str(token)

        return self._change("token create", subject, work)

    def revoke_token(self, token_id: str) -> None:
        """See :class:`Administration`."""
        self._change("token revoke", token_id, lambda: self.store.revoke_token(token_id))

    def devices(self) -> list[DeviceRecord]:
        """See :class:`Administration`."""
        return self._look("device list", self.store.devices)

    def device(self, name: str) -> DeviceRecord:
        """See :class:`Administration`."""
        return self._look("device show", lambda: self.store.device(name), name)

    def change_device(self, name: str, change: DeviceChange) -> DeviceRecord:
        """See :class:`Administration`."""

        def work() -> DeviceRecord:
            record = changed(self.store.device(name), change)
            if change.verb is DeviceVerb.RELEASE:
                record = health.put_on_trial(self.store, record, self.now_ns())
            self.store.update_device(record)
            return record

        subject = " ".join([name, *_words(change)])
        return self._change(f"device {change.verb.value}", subject, work)

    def sweeps(self) -> list[SweepRecord]:
        """See :class:`Administration`."""
        return self._look("sweep list", self.store.sweeps)

    def cancel_sweep(self, name: str) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            sweep = self.store.sweep(name)
            self.store.set_sweep_state(sweep.sweep_id, SweepState.CANCELLED)

        self._change("sweep cancel", name, work)

    def prioritise_sweep(self, name: str, priority: int) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            if abs(priority) > HIGHEST_PRIORITY:
                raise UsageError(
                    f"a priority lies between -{HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}"
                )
            self.store.set_sweep_priority(self.store.sweep(name).sweep_id, priority)

        self._change("sweep prioritise", f"{name} {priority}", work)

    def operators(self) -> list[OperatorRecord]:
        """See :class:`Administration`."""
        return self._look("operator list", self.store.operators)

    def add_operator(self, name: str, role: Role, days: int) -> bytes:
        """See :class:`Administration`."""
        from assay.controller.identity.pki import Authority

        def work() -> bytes:
            if not 1 <= days <= LONGEST_OPERATOR_DAYS:
                raise UsageError(
                    f"an operator's certificate lasts 1 to {LONGEST_OPERATOR_DAYS} days"
                )
            now_ns = self.now_ns()
            now = dt.datetime.fromtimestamp(now_ns // 10**9, dt.UTC)
            made = Authority(self.home.pki, now).issue_operator(check_name(name), days, now)
            end_ns = int(made.not_after.timestamp()) * 10**9
            self.store.put_operator(OperatorRecord(name, role, made.certificate_id, now_ns, end_ns))
            return made.identity_pem

        return self._change("operator add", f"{name} {role.value} {days} d", work)

    def revoke_operator(self, name: str) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            self.store.put_operator(replace(self.store.operator(name), revoked=True))

        self._change("operator revoke", name, work)

    def certificates(self) -> list[CertificateRecord]:
        """See :class:`Administration`."""
        from assay.controller.admin.rotation import certificates

        return self._look("pki show", lambda: certificates(self.home, self.store, self.now_ns()))

    def audit(self, limit: int) -> list[AuditRecord]:
        """See :class:`Administration`."""
        return self._look("audit", lambda: self.store.audit(min(limit, MOST_AUDIT_ENTRIES)))

    def close(self) -> None:
        """Nothing: whoever opened the store closes it."""

    def do_local(self, action: str, work: Callable[[], T]) -> T:
        """Something that only whoever is at the home can do, in the log."""
        return self._change(action, "", work)

    def _look(self, action: str, work: Callable[[], T], subject: str = "") -> T:
        if not self.caller.reads:
            return work()
        return self._logged(action, subject, work)

    def _change(self, action: str, subject: str, work: Callable[[], T]) -> T:
        def allowed() -> T:
            if self.caller.role is not Role.OPERATOR:
                raise PermissionDenied(
                    f"{self.caller.name} is a {self.caller.role.value} and may not `{action}`; an "
                    "operator can"
                )
            return work()

        return self._logged(action, subject, allowed)

    def _logged(self, action: str, subject: str, work: Callable[[], T]) -> T:
        try:
            done = work()
        except AssayError as error:
            self._log(action, subject, error.code, str(error))
            raise
        self._log(action, subject, "ok")
        return done

    def _log(self, action: str, subject: str, outcome: str, detail: str = "") -> None:
        caller = self.caller
        self.store.add_audit(
            AuditRecord(
                at_ns=self.now_ns(),
                actor=caller.name,
                role=caller.role,
                origin=caller.origin,
                action=action,
                subject=subject,
                outcome=outcome,
                detail=detail,
            )
        )


def _bare(token: TokenRecord) -> TokenRecord:
    return replace(token, secret_sha256="")


def _words(change: DeviceChange) -> list[str]:
    labels = [f"{key}={value}" for key, value in sorted(change.labels.items())]
    drops = [f"{key}-" for key in change.drop_labels]
    return [w for w in (*labels, *drops, change.new_name, change.reason) if w]
