"""Administration on a store: who may do what, and the log of who did."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from assay.controller.admin.base import CertificateRecord, DeviceChange, DeviceVerb
from assay.controller.admin.changes import changed
from assay.controller.admin.journal import Caller, Journal
from assay.controller.admin.views import (
    Exported,
    ExportOrder,
    StartedSweep,
    SweepFile,
    SweepLook,
    SweepPlan,
    SweepRound,
)
from assay.controller.home import Home
from assay.controller.identity.enrol import check_name, create_token
from assay.controller.planning import health
from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
    ResultRecord,
    Role,
    SweepRecord,
    SweepState,
    TokenRecord,
)
from assay.controller.store.base import Store
from assay.core.errors import UsageError

if TYPE_CHECKING:
    from assay.controller.admin.looks import SweepLooks
    from assay.controller.admin.sweeping import Sweeping

T = TypeVar("T")

HIGHEST_PRIORITY = 1_000
LONGEST_OPERATOR_DAYS = 366
MOST_AUDIT_ENTRIES = 10_000
_SHOWN_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Office:
    """:class:`assay.controller.admin.base.Administration` for one caller; ``sweeping`` does what
    takes long, in this process unless given; ``looks`` is shared by those who watch."""

    home: Home
    store: Store
    caller: Caller
    now_ns: Callable[[], int] = time.time_ns
    sweeping: Sweeping | None = None
    looks: SweepLooks | None = None

    def tokens(self) -> list[TokenRecord]:
        """See :class:`Administration`."""
        return self._journal.look("token list", lambda: [_bare(t) for t in self.store.tokens()])

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

        return self._journal.change("token create", subject, work)

    def revoke_token(self, token_id: str) -> None:
        """See :class:`Administration`."""
        self._journal.change("token revoke", token_id, lambda: self.store.revoke_token(token_id))

    def devices(self) -> list[DeviceRecord]:
        """See :class:`Administration`."""
        return self._journal.look("device list", self.store.devices)

    def device(self, name: str) -> DeviceRecord:
        """See :class:`Administration`."""
        return self._journal.look("device show", lambda: self.store.device(name), name)

    def change_device(self, name: str, change: DeviceChange) -> DeviceRecord:
        """See :class:`Administration`."""

        def work() -> DeviceRecord:
            before = self.store.device(name)
            wanted = changed(before, change)
            back = change.verb is DeviceVerb.UNCORDON and health.must_show_health(before)
            tried = (back or change.verb is DeviceVerb.RELEASE) and health.put_on_trial(
                self.store, wanted, self.now_ns()
            )

            def made(now: DeviceRecord) -> DeviceRecord:
                after = changed(now, change)
                return health.on_probation(after) if tried else after

            return self.store.change_device(before.device_id, made)

        subject = " ".join([name, *_words(change)])
        return self._journal.change(f"device {change.verb.value}", subject, work)

    def sweeps(self) -> list[SweepRecord]:
        """See :class:`Administration`."""
        return self._journal.look("sweep list", self.store.sweeps)

    def plan_sweep(self, file: SweepFile) -> SweepPlan:
        """See :class:`Administration`."""
        return self._journal.change(
            "sweep plan", file.source, lambda: self._with_checked(file, self._sweeping.plan)
        )

    def run_sweep(self, file: SweepFile) -> StartedSweep:
        """See :class:`Administration`."""
        return self._journal.change(
            "sweep run",
            file.source,
            lambda: self._with_checked(file, self._sweeping.start),
            about=lambda started: started.sweep.name,
        )

    def resume_sweep(self, name: str) -> StartedSweep:
        """See :class:`Administration`."""
        from assay.controller.admin.sweeping import one_at_a_time
        from assay.controller.planning import sweeps

        def work() -> StartedSweep:
            with one_at_a_time(self.home):
                done = sweeps.resume(self.store.sweep(name), self.store)
            return StartedSweep(done.sweep, len(done.added))

        return self._journal.change("sweep resume", name, work)

    def watch_sweep(self, name: str) -> Iterator[SweepLook]:
        """See :class:`Administration`."""
        from assay.controller.admin.looks import watched

        self.watched_sweep(name)
        return watched(self.home, self.store, name)

    def watched_sweep(self, name: str) -> SweepRecord:
        """The sweep that is going to be watched: one entry in the log, however long it takes."""
        return self._journal.look("sweep watch", lambda: self.store.sweep(name), name)

    def look_at_sweep(self, name: str) -> SweepLook:
        """See :class:`Administration`."""
        return self._journal.look("sweep status", lambda: self._looks.look(name), name)

    def look_at_sweeps(self) -> list[SweepLook]:
        """See :class:`Administration`."""
        return self._journal.look("sweep list", self._looks.all)

    def rounds(self, sweep: str) -> list[SweepRound]:
        """See :class:`Administration`."""
        from assay.controller.admin.looks import rounds_of

        return self._journal.look("sweep show", lambda: rounds_of(self.store, sweep), sweep)

    def results(self, sweep: str) -> list[ResultRecord]:
        """See :class:`Administration`."""
        return self.store.results(sweep_id=self.listed_sweep(sweep).sweep_id)

    def listed_sweep(self, name: str) -> SweepRecord:
        """The sweep whose results are going to be read, in the log."""
        return self._journal.look("result list", lambda: self.store.sweep(name), name)

    def result(self, attempt: str) -> ResultRecord:
        """See :class:`Administration`."""

        def work() -> ResultRecord:
            found = self.store.attempts(attempt, _SHOWN_ATTEMPTS + 1)
            if attempt in found or len(found) < 2:
                return self.store.result(attempt if attempt in found else (*found, attempt)[0])
            names = ", ".join(found[:_SHOWN_ATTEMPTS])
            raise UsageError(f"attempt {attempt!r} could be any of {names}, …")

        return self._journal.look("result show", work, attempt)

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """See :class:`Administration`."""
        return self._journal.look(
            "result export", lambda: self._sweeping.export(order, path), order.sweep
        )

    def report(self, sweep: str, *, markdown: bool = False, force: bool = False) -> bytes:
        """See :class:`Administration`."""

        def work() -> bytes:
            sweep_id = self.store.sweep(sweep).sweep_id
            return self._sweeping.report(sweep_id, markdown=markdown, force=force)

        return self._journal.look("report", work, sweep)

    def cancel_sweep(self, name: str) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            sweep = self.store.sweep(name)
            if sweep.state is SweepState.DONE:
                raise UsageError(f"sweep {sweep.name} is done; nothing of it is left to cancel")
            self.store.set_sweep_state(sweep.sweep_id, SweepState.CANCELLED)

        self._journal.change("sweep cancel", name, work)

    def prioritise_sweep(self, name: str, priority: int) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            if abs(priority) > HIGHEST_PRIORITY:
                raise UsageError(
                    f"a priority lies between -{HIGHEST_PRIORITY} and {HIGHEST_PRIORITY}"
                )
            self.store.set_sweep_priority(self.store.sweep(name).sweep_id, priority)

        self._journal.change("sweep prioritise", f"{name} {priority}", work)

    def operators(self) -> list[OperatorRecord]:
        """See :class:`Administration`."""
        return self._journal.look("operator list", self.store.operators)

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

        return self._journal.change("operator add", f"{name} {role.value} {days} d", work)

    def revoke_operator(self, name: str) -> None:
        """See :class:`Administration`."""

        def work() -> None:
            self.store.put_operator(replace(self.store.operator(name), revoked=True))

        self._journal.change("operator revoke", name, work)

    def certificates(self) -> list[CertificateRecord]:
        """See :class:`Administration`."""
        from assay.controller.admin.rotation import certificates

        return self._journal.look(
            "pki show", lambda: certificates(self.home, self.store, self.now_ns())
        )

    def audit(self, limit: int) -> list[AuditRecord]:
        """See :class:`Administration`."""

        def work() -> list[AuditRecord]:
            if limit < 1:
                raise UsageError(f"{limit} entries are none; ask for 1 to {MOST_AUDIT_ENTRIES}")
            return self.store.audit(min(limit, MOST_AUDIT_ENTRIES))

        return self._journal.look("audit", work)

    def close(self) -> None:
        """Nothing: whoever opened the store closes it."""

    def do_local(
        self,
        action: str,
        work: Callable[[], T],
        subject: str = "",
        *,
        about: Callable[[T], str] | None = None,
    ) -> T:
        """Something that only whoever is at the home can do, in the log."""
        return self._journal.change(action, subject, work, about=about)

    def _with_checked(self, file: SweepFile, action: Callable[[SweepFile], T]) -> T:
        """Mistakes of the file itself are told before anything is begun for it."""
        from assay.controller.admin.sweeping import checked

        checked(file)
        return action(file)

    @property
    def _journal(self) -> Journal:
        return Journal(self.store, self.caller, self.now_ns)

    @property
    def _looks(self) -> SweepLooks:
        if self.looks is not None:
            return self.looks
        from assay.controller.admin.looks import SweepLooks

        return SweepLooks(self.store)

    @property
    def _sweeping(self) -> Sweeping:
        if self.sweeping is not None:
            return self.sweeping
        from assay.controller.admin.sweeping import Here

        return Here(self.home, self.store)


def _bare(token: TokenRecord) -> TokenRecord:
    return replace(token, secret_sha256="")


def _words(change: DeviceChange) -> list[str]:
    labels = [f"{key}={value}" for key, value in sorted(change.labels.items())]
    drops = [f"{key}-" for key in change.drop_labels]
    return [w for w in (*labels, *drops, change.new_name, change.reason) if w]
