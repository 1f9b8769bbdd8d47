"""What an operator can do, as one interface."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from assay.controller.admin.views import (
    Exported,
    ExportOrder,
    StartedSweep,
    SweepFile,
    SweepLook,
    SweepPlan,
    SweepRound,
)
from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
    ResultRecord,
    Role,
    SweepRecord,
    TokenRecord,
)


class DeviceVerb(enum.Enum):
    """What can be done to a device; as the command line says it."""

    APPROVE = "approve"
    REVOKE = "revoke"
    RELEASE = "release"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    LABEL = "label"
    RENAME = "rename"


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """One change: ``reason`` of CORDON and DRAIN, ``labels`` to set and ``drop_labels`` of LABEL,
    ``new_name`` of RENAME."""

    verb: DeviceVerb
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    drop_labels: tuple[str, ...] = ()
    new_name: str = ""


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate of the controller's own; ``sha256`` over its DER, hex."""

    what: str
    sha256: str
    not_after_ns: int
    note: str = ""


class Administration(Protocol):
    """The verbs of ``assay token``, ``device``, ``sweep``, ``operator``, ``pki`` and ``audit``, and
    what there is to read of a sweep.

    Listing needs the role VIEWER, changing OPERATOR, else :class:`PermissionDenied`. Absent things
    raise :class:`NotFound`, taken names :class:`AlreadyExists`, changes that do not fit
    :class:`UsageError` or :class:`BadMessage`.
    """

    def tokens(self) -> list[TokenRecord]:
        """Every join token, without its secret's hash."""
        ...

    def create_token(self, *, note: str, uses: int, lifetime_s: int, approval: bool) -> str:
        """The token's text, kept nowhere."""
        ...

    def revoke_token(self, token_id: str) -> None: ...
    def devices(self) -> list[DeviceRecord]: ...
    def device(self, name: str) -> DeviceRecord: ...
    def change_device(self, name: str, change: DeviceChange) -> DeviceRecord:
        """The device as it is after the change."""
        ...

    def sweeps(self) -> list[SweepRecord]: ...
    def plan_sweep(self, file: SweepFile) -> SweepPlan:
        """What the file would measure; needs OPERATOR. :class:`SpecError` or its
        :class:`UsageError` list the mistakes of the file."""
        ...

    def run_sweep(self, file: SweepFile) -> StartedSweep:
        """Starts the sweep, or resumes the one of the same name and content;
        :class:`AlreadyExists` where the name belongs to a sweep from another file."""
        ...

    def resume_sweep(self, name: str) -> StartedSweep:
        """Adds the rounds that the sweep lacks."""
        ...

    def watch_sweep(self, name: str) -> Iterator[SweepLook]:
        """How the sweep stands, now and then whenever it moved, until it has ended;
        :class:`Unreachable` where nobody serves any more: then it goes on later."""
        ...

    def look_at_sweep(self, name: str) -> SweepLook:
        """How the sweep stands now."""
        ...

    def look_at_sweeps(self) -> list[SweepLook]:
        """How every sweep stands, the newest last; from elsewhere without their latest result."""
        ...

    def rounds(self, sweep: str) -> list[SweepRound]: ...
    def results(self, sweep: str) -> list[ResultRecord]:
        """In the order they were recorded; those that count."""
        ...

    def result(self, attempt: str) -> ResultRecord:
        """The result of an attempt, or of the only one whose id begins so."""
        ...

    def export(self, order: ExportOrder, path: Path) -> Exported:
        """Writes results to ``path`` for other programs, whole or not at all."""
        ...

    def report(self, sweep: str, *, markdown: bool = False, force: bool = False) -> bytes:
        """The report as one file, HTML unless Markdown is asked for; with ``force`` what was
        measured under unlike conditions is compared too, and named."""
        ...

    def cancel_sweep(self, name: str) -> None: ...
    def prioritise_sweep(self, name: str, priority: int) -> None:
        """Higher goes first; -1000 to 1000, 0 by default."""
        ...

    def operators(self) -> list[OperatorRecord]: ...
    def add_operator(self, name: str, role: Role, days: int) -> bytes:
        """Key, certificate and CA bundle in one PEM file. A name that is there gets another, and
        the one it had is refused from then on."""
        ...

    def revoke_operator(self, name: str) -> None: ...
    def certificates(self) -> list[CertificateRecord]: ...
    def audit(self, limit: int) -> list[AuditRecord]:
        """The newest entries, oldest first."""
        ...

    def close(self) -> None: ...
