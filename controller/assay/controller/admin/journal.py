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

BEGUN = "begun"
OK = "ok"
_LONGEST = 500  # characters of what a caller may choose
_UNEXPECTED = "it failed in a way nobody foresaw; the controller's log says more"


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
    """Does what one caller asks for, and writes it into the audit log: a change before it is made,
    so that none is without its author, however this process ends."""

    store: Store
    caller: Caller
    now_ns: Callable[[], int]

    def look(self, action: str, work: Callable[[], T], subject: str = "") -> T:
        """Something that every role may do."""
        if not self.caller.reads:
            return work()
        outcome, detail = AssayError.code, _UNEXPECTED
        try:
            done = work()
            outcome, detail = OK, ""
            return done
        except AssayError as error:
            outcome, detail = error.code, str(error)
            raise
        finally:
            self._write(action, subject, outcome, detail)

    def change(
        self,
        action: str,
        subject: str,
        work: Callable[[], T],
        *,
        about: Callable[[T], str] | None = None,
    ) -> T:
        """Something for operators; ``about`` tells the subject where only the work finds it."""
        if self.caller.role is not Role.OPERATOR:
            denied = PermissionDenied(
                f"{self.caller.name} is a {self.caller.role.value} and may not `{action}`; an "
                "operator can"
            )
            self._write(action, subject, denied.code, str(denied))
            raise denied
        number = self._write(action, subject, BEGUN)
        outcome, detail = AssayError.code, _UNEXPECTED
        try:
            done = work()
            subject, outcome, detail = about(done) if about else subject, OK, ""
            return done
        except AssayError as error:
            outcome, detail = error.code, str(error)
            raise
        finally:
            self.store.end_audit(number, _cut(subject), outcome, _cut(detail))

    def _write(self, action: str, subject: str, outcome: str, detail: str = "") -> int:
        caller = self.caller
        return self.store.add_audit(
            AuditRecord(
                at_ns=self.now_ns(),
                actor=caller.name,
                role=caller.role,
                origin=caller.origin,
                action=action,
                subject=_cut(subject),
                outcome=outcome,
                detail=_cut(detail),
            )
        )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " … (cut)"
