"""The one exception tree, and what each kind means to a peer, a shell and a retry loop.

A message says what is wrong, where, and what to do about it; the class says how machines react:
:data:`TABLE` maps its code to a gRPC status, an exit code and whether trying again can help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Meaning:
    """How machines react to an error code; ``grpc_status`` is a name of ``grpc.StatusCode``."""

    grpc_status: str
    exit_code: int
    retry: bool


EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_UNREACHABLE = 4
EXIT_INTERRUPTED = 130


class AssayError(Exception):
    """Everything Assay raises on purpose."""

    code: ClassVar[str] = "internal"

    @property
    def meaning(self) -> Meaning:
        """What this error means to machines."""
        return TABLE[self.code]


class UsageError(AssayError):
    """The caller asked for something that cannot be."""

    code = "usage"


class SpecError(UsageError):
    """A file the user wrote has mistakes; ``problems`` lists every one with its path."""

    code = "bad_spec"

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class NotFound(AssayError):
    """No such thing under that name."""

    code = "not_found"


class AlreadyExists(AssayError):
    """The name is taken by something else."""

    code = "already_exists"


class CheckFailed(AssayError):
    """A check the user asked for did not pass."""

    code = "check_failed"


class Partial(AssayError):
    """Some of what was asked for is missing; the rest is there."""

    code = "partial"


class Unreachable(AssayError):
    """The other side does not answer."""

    code = "unreachable"


class ClockWrong(Unreachable):
    """The other side answers, and this machine's clock refuses its certificate."""

    code = "clock_wrong"


class Unauthenticated(AssayError):
    """No valid identity: a token or certificate that is unknown, spent, revoked or expired."""

    code = "unauthenticated"


class PermissionDenied(AssayError):
    """A known identity that may not do this."""

    code = "permission_denied"


class BadMessage(AssayError):
    """Bytes from outside that are not what they claim to be."""

    code = "bad_message"


class OutOfRange(AssayError):
    """An offset beyond the end of what is read."""

    code = "out_of_range"


class VersionMismatch(AssayError):
    """The two sides speak no common protocol version."""

    code = "version_mismatch"


class CorruptArtifact(AssayError):
    """Content that does not match its digest or size."""

    code = "corrupt_artifact"


class UnsignedArtifact(AssayError):
    """Content that no trusted publisher has signed."""

    code = "unsigned_artifact"


class SignaturesUnchecked(AssayError):
    """The board could not check signatures just now: that says nothing about them."""

    code = "signatures_unchecked"


class DiskFull(AssayError):
    """No room to write, or a quota is used up."""

    code = "disk_full"


class OverBudget(AssayError):
    """More bytes than are left of a day's: ``wanted_bytes``, which fit another day or ``never``."""

    code = "over_budget"

    def __init__(self, message: str, wanted_bytes: int = 0, *, never: bool = False) -> None:
        self.wanted_bytes = wanted_bytes
        self.never = never
        super().__init__(message)


class PortInUse(AssayError):
    """The address to listen on is taken."""

    code = "port_in_use"


class LeaseLost(AssayError):
    """The lease ran out or was granted anew."""

    code = "lease_lost"


class RuntimeAbsent(AssayError):
    """The runtime a run asks for is not usable on this device."""

    code = "runtime_absent"


class RuntimeRejected(AssayError):
    """The runtime refused to load or bind the model."""

    code = "runtime_rejected"


class BadInputs(AssayError):
    """The dataset does not fit the model."""

    code = "bad_inputs"


class WorkerCrashed(AssayError):
    """The worker process ended by a signal or without a report."""

    code = "worker_crashed"


class WorkerOom(AssayError):
    """The worker was killed for want of memory."""

    code = "worker_oom"


class WorkerTimeout(AssayError):
    """The worker outlived its time box and was killed."""

    code = "worker_timeout"


class FetchTimeout(AssayError):
    """An artifact did not arrive within the time its round has for fetching."""

    code = "fetch_timeout"


class StartTimeout(AssayError):
    """A run's worker did not begin within the time it has for that."""

    code = "start_timeout"


class Cancelled(AssayError):
    """Stopped on request; whatever ran for it is gone."""

    code = "cancelled"


class SamplerError(AssayError):
    """A sensor that was there did not answer."""

    code = "sampler_error"


class BuildFailed(AssayError):
    """A variant could not be built from its recipe."""

    code = "build_failed"


class UnsupportedPlatform(AssayError):
    """This Python or board cannot run Assay; the message says what to do."""

    code = "unsupported_platform"


TABLE: dict[str, Meaning] = {
    "internal": Meaning("INTERNAL", 70, False),
    "usage": Meaning("INVALID_ARGUMENT", EXIT_USAGE, False),
    "bad_spec": Meaning("INVALID_ARGUMENT", EXIT_USAGE, False),
    "not_found": Meaning("NOT_FOUND", EXIT_USAGE, False),
    "already_exists": Meaning("ALREADY_EXISTS", EXIT_USAGE, False),
    "check_failed": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "partial": Meaning("ABORTED", EXIT_PARTIAL, True),
    "unreachable": Meaning("UNAVAILABLE", EXIT_UNREACHABLE, True),
    "clock_wrong": Meaning("UNAVAILABLE", EXIT_UNREACHABLE, True),
    "unauthenticated": Meaning("UNAUTHENTICATED", EXIT_CHECK_FAILED, False),
    "permission_denied": Meaning("PERMISSION_DENIED", EXIT_CHECK_FAILED, False),
    "bad_message": Meaning("INVALID_ARGUMENT", EXIT_CHECK_FAILED, False),
    "out_of_range": Meaning("OUT_OF_RANGE", EXIT_CHECK_FAILED, False),
    "version_mismatch": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "corrupt_artifact": Meaning("DATA_LOSS", EXIT_CHECK_FAILED, True),
    "unsigned_artifact": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "signatures_unchecked": Meaning("UNAVAILABLE", EXIT_CHECK_FAILED, True),
    "disk_full": Meaning("RESOURCE_EXHAUSTED", EXIT_CHECK_FAILED, True),
    "over_budget": Meaning("RESOURCE_EXHAUSTED", EXIT_CHECK_FAILED, True),
    "port_in_use": Meaning("UNAVAILABLE", EXIT_UNREACHABLE, False),
    "lease_lost": Meaning("ABORTED", EXIT_CHECK_FAILED, False),
    "runtime_absent": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "runtime_rejected": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "bad_inputs": Meaning("INVALID_ARGUMENT", EXIT_CHECK_FAILED, False),
    "worker_crashed": Meaning("ABORTED", EXIT_CHECK_FAILED, True),
    "worker_oom": Meaning("RESOURCE_EXHAUSTED", EXIT_CHECK_FAILED, False),
    "worker_timeout": Meaning("DEADLINE_EXCEEDED", EXIT_CHECK_FAILED, True),
    "fetch_timeout": Meaning("DEADLINE_EXCEEDED", EXIT_CHECK_FAILED, True),
    "start_timeout": Meaning("DEADLINE_EXCEEDED", EXIT_CHECK_FAILED, True),
    "cancelled": Meaning("CANCELLED", EXIT_INTERRUPTED, False),
    "sampler_error": Meaning("UNAVAILABLE", EXIT_CHECK_FAILED, True),
    "build_failed": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
    "unsupported_platform": Meaning("FAILED_PRECONDITION", EXIT_CHECK_FAILED, False),
}
