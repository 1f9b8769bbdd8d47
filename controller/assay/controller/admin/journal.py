"""Who asks, what that role may do, and the log of what came of it."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from assay.controller.records import AuditRecord, Role
from assay.controller.store.base import Store
from assay.core.errors import AssayError, PermissionDenied

T = TypeVar("T")


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
class Journal:
    """Does what one caller asks for, and writes it into the audit log."""

    store: Store
    caller: Caller
    now_ns: Callable[[], int]

    def look(self, action: str, work: Callable[[], T], subject: str = "") -> T:
        """Something that every role may do."""
        if not self.caller.reads:
            return work()
        return self._logged(action, subject, work)

    def change(
        self,
        action: str,
        subject: str,
        work: Callable[[], T],
        *,
        about: Callable[[T], str] | None = None,
    ) -> T:
        """Something for operators; ``about`` tells the subject where only the work finds it."""

        def allowed() -> T:
            if self.caller.role is not Role.OPERATOR:
                raise PermissionDenied(
                    f"{self.caller.name} is a {self.caller.role.value} and may not `{action}`; an "
                    "operator can"
                )
            return work()

        return self._logged(action, subject, allowed, about)

    def _logged(
        self,
        action: str,
        subject: str,
        work: Callable[[], T],
        about: Callable[[T], str] | None = None,
    ) -> T:
        try:
            done = work()
        except AssayError as error:
            self._log(action, subject, error.code, str(error))
            raise
        self._log(action, about(done) if about else subject, "ok")
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
