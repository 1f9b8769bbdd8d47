"""What the store keeps, as frozen values. Times are UTC nanoseconds of the controller's clock."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.model import (
    ArtifactRef,
    DeviceFacts,
    Failure,
    GoldenSpec,
    InputSpec,
    Result,
    Round,
    RunSpec,
)


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A join token; only the hash of its secret is kept."""

    token_id: str
    secret_sha256: str
    created_ns: int
    expires_ns: int
    uses_left: int
    revoked: bool = False
    note: str = ""
    approval: bool = False
    """Whether devices that join with it wait for an operator's approval."""


class DeviceState(enum.Enum):
    """Whether a device may speak to us; a PENDING one is heard and given nothing."""

    ACTIVE = "active"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    PENDING = "pending"


class Duty(enum.Enum):
    """Whether an active device is given work: CORDONED nothing new, DRAINING neither and it is told
    so, PROBATION its health canary alone."""

    ON = "on"
    CORDONED = "cordoned"
    DRAINING = "draining"
    PROBATION = "probation"


SHARED = "shared."
"""Begins the key of a label that names a thing only one device may use at a time, such as
``shared.meter=um25c-1``: devices that carry the same label never measure at once."""

_WAITS = "waits:"

HEALTH_PRIORITY = 1_000_000
"""The priority of sweeps that try a device's health, and of nothing else."""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device that enrolled; ``key_sha256`` is over its public key (SubjectPublicKeyInfo DER)."""

    device_id: str
    name: str
    state: DeviceState
    key_sha256: str
    enrolled_ns: int
    certificate_not_after_ns: int
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: DeviceFacts | None = None
    last_seen_ns: int | None = None
    duty: Duty = Duty.ON
    duty_reason: str = ""

    @property
    def all_labels(self) -> Mapping[str, str]:
        """``labels`` over those of the agent's own settings."""
        return {**(self.facts.labels if self.facts else {}), **self.labels}

    @property
    def shares(self) -> frozenset[str]:
        """The things it shares with other devices, as ``kind=name``."""
        return frozenset(
            f"{key.removeprefix(SHARED)}={value}"
            for key, value in self.all_labels.items()
            if key.startswith(SHARED)
        )

    @property
    def waits_for(self) -> tuple[str, ...]:
        """What it says that it lacks for some of its work, as `daily_bytes`."""
        said = self.facts.capabilities if self.facts else ()
        return tuple(each.removeprefix(_WAITS) for each in said if each.startswith(_WAITS))


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """Real samples, one .npz (``x``, ``y``) per split, each held by digest."""

    name: str
    source: str
    classes: tuple[str, ...]
    splits: Mapping[str, ArtifactRef]
    counts: Mapping[str, int]
    preprocessing_json: str
    added_ns: int


@dataclass(frozen=True, slots=True)
class StaticCost:
    """What a file costs before it ever runs; ``macs`` is None where an operator has no rule."""

    parameters: int
    macs: int | None
    file_bytes: int
    transfer_bytes: int
    operators: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VariantFile:
    """A variant in one file format, with the outputs the same file gave on the controller, and
    the inputs it brings where no dataset feeds it."""

    artifact: ArtifactRef
    cost: StaticCost
    golden: GoldenSpec | None = None
    inputs: InputSpec | None = None


@dataclass(frozen=True, slots=True)
class VariantRecord:
    """A model after a recipe. ``variant_id`` is the digest of ``identity``: model, recipe steps,
    seeds, data and tool versions (built), or of the file itself (added)."""

    variant_id: str
    name: str
    model: str
    dataset: str
    origin: str
    identity: Mapping[str, object]
    files: Mapping[str, VariantFile]
    notes: Mapping[str, str]
    created_ns: int


class SweepState(enum.Enum):
    """RUNNING until every round has ended one way or another."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """A sweep as submitted; ``spec_json`` is the validated file, normalised."""

    sweep_id: str
    name: str
    spec_json: str
    seed: int
    rounds: int
    state: SweepState
    created_ns: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One thing to measure: ``run`` is its template (no attempt yet). Cells of one ``group`` share
    a device and are measured in the same rounds."""

    cell_key: str
    sweep_id: str
    device_id: str
    group: str
    run: RunSpec
    baseline: bool


class RoundState(enum.Enum):
    """QUEUED → LEASED → DONE; a lease that runs out goes back to QUEUED with a higher fence."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round of one group on one device; ``fence`` counts its grants. ``since_ns`` is when it
    came to be in its state, ``trouble`` what last went wrong with it: a code of
    :data:`assay.controller.planning.timers.TROUBLES`, a colon, words."""

    round_id: str
    sweep_id: str
    device_id: str
    group: str
    index: int
    state: RoundState
    fence: int
    runs: tuple[RunSpec, ...]
    lease_expires_ns: int | None = None
    grants: int = 0
    since_ns: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class LeaseBox:
    """The time limits a grant carries, nanoseconds; 0: no such limit."""

    lease_ns: int
    fetch_ns: int = 0
    start_ns: int = 0


@dataclass(frozen=True, slots=True)
class IdleQueue:
    """The rounds of one sweep that wait for one device, which holds no lease; ``since_ns`` is when
    the oldest of them began to wait."""

    sweep_id: str
    device_id: str
    since_ns: int


@dataclass(frozen=True, slots=True)
class FailedRun:
    """One run that did not come to its end."""

    variant_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a round ended: ``failed`` as a whole, with its ``trouble``; ``sound`` where a run of it
    came to its end, else how its runs failed."""

    round_id: str
    failed: bool
    trouble: str
    sound: bool
    failures: tuple[FailedRun, ...]


@dataclass(frozen=True, slots=True)
class HeldRound:
    """A round leased to a device: ``accepted`` once the device has reported an attempt of it,
    ``cancelled`` where its sweep no longer wants it."""

    round: Round
    accepted: bool
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Admission:
    """Who a certificate belongs to and whether it may speak; asked on every call."""

    device_id: str
    name: str
    state: DeviceState
    duty: Duty = Duty.ON


@dataclass(frozen=True, slots=True)
class Standing:
    """All that one Sync is decided by, as of one moment: the device, what is leased to it
    (cancelled rounds included), and the head of its queue, (round_id, fence) in the order they
    would be granted."""

    device: Admission
    leased: tuple[HeldRound, ...]
    queued: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What there is to tell devices, all of them at a glance: the ids of those with a queued
    round, and the (round_id, fence) that each should hold."""

    queued: frozenset[str]
    held: Mapping[str, frozenset[tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class ResultRecord:
    """A stored result; ``superseded`` ones came from a lease that had been granted anew."""

    attempt_id: str
    seq: int
    device_id: str
    sha256: str
    superseded: bool
    recorded_ns: int
    result: Result


@dataclass(frozen=True, slots=True)
class SweepMarks:
    """What tells which parts of a sweep must be read again: for each cell how many results it has
    (superseded ones left out) and a number that grows with the newest, for each round its state and
    fence."""

    cells: Mapping[str, tuple[int, int]]
    rounds: Mapping[str, tuple[RoundState, int]]


class RecordOutcome(enum.Enum):
    """What became of a reported result; mirrors ``assay.v1.RecordStatus``."""

    STORED = "stored"
    ALREADY_STORED = "already_stored"
    STORED_SUPERSEDED = "stored_superseded"
    CONFLICT = "conflict"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of one reported result; ``detail`` says why it was not simply stored."""

    outcome: RecordOutcome
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ConflictRecord:
    """Another body under the key of a stored result: both hashes are kept, the first body stays."""

    attempt_id: str
    seq: int
    device_id: str
    stored_sha256: str
    other_sha256: str
    seen_ns: int


class Role(enum.Enum):
    """What an operator's certificate is good for: a VIEWER may list, an OPERATOR may change."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """Who may run the controller from elsewhere; ``certificate_id`` names the one certificate that
    is good."""

    name: str
    role: Role
    certificate_id: str
    created_ns: int
    not_after_ns: int
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One call for administration: who, from where, what about what, and what came of it
    (``outcome`` is ``ok``, an error's code, or ``begun``: it goes on, or nobody saw its end)."""

    at_ns: int
    actor: str
    role: Role
    origin: str
    action: str
    subject: str
    outcome: str
    detail: str = ""
