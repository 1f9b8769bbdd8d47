"""What an operator can do, as one interface."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from assay.controller.records import (
    AuditRecord,
    DeviceRecord,
    OperatorRecord,
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
    """The verbs of ``assay token``, ``device``, ``operator``, ``pki`` and ``audit``.

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
