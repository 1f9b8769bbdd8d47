"""Puts a Result together; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from assay.agent.measuring.guard import verdict_of
from assay.agent.measuring.keys import environment_of, factors_of
from assay.agent.measuring.measure import Measured
from assay.core import convert
from assay.core.errors import AssayError
from assay.core.model import (
    Absent,
    ArtifactRef,
    DeviceFacts,
    Failure,
    FailureClass,
    Isolation,
    Provenance,
    Reason,
    Result,
    Round,
    RunSpec,
)
from assay.core.version import __version__
from assay.v1 import job_pb2, result_pb2

_DEVICE_CODES = frozenset({"runtime_absent", "disk_full", "over_budget", "unsupported_platform"})
_MODEL_CODES = frozenset(
    {"runtime_rejected", "bad_inputs", "worker_oom", "not_found", "unsigned_artifact"}
)


def measured_result(
    round_: Round, run: RunSpec, seq: int, measured: Measured, trace: ArtifactRef | None
) -> Result:
    """The Result of a run that was measured, or that failed while it was."""
    return Result(
        attempt_id=run.attempt_id,
        seq=seq,
        round_id=round_.round_id,
        sweep_id=round_.sweep_id,
        round_index=round_.index,
        fence=round_.fence,
        run=run,
        verdict=measured.verdict,
        latency=measured.latency,
        cold=measured.cold,
        memory=measured.memory,
        energy=measured.energy,
        quality=measured.quality,
        golden=measured.golden,
        conditions=measured.conditions,
        provenance=measured.provenance,
        environment=measured.environment,
        factors=measured.factors,
        trace=trace,
        failure=measured.failure,
    )


def unmeasured(
    run: RunSpec, failure: Failure, device: DeviceFacts, device_name: str, unix_ns: int
) -> Measured:
    """A run that came to nothing before a worker was started."""
    return Measured(
        latency=None,
        cold=None,
        memory=None,
        energy=Absent(f"the run failed: {failure.code}"),
        quality=None,
        golden=None,
        conditions=None,
        verdict=verdict_of([Reason(failure.code, True, failure.message)]),
        provenance=_provenance(device, device_name, unix_ns),
        environment=environment_of(run, device, device_name, Isolation.NONE, None),
        factors=factors_of(run, None),
        trace_path=None,
        failure=failure,
    )


def failure_of(error: AssayError) -> Failure:
    """Who is at fault for ``error``: by its code the device, the model, or else the circumstances,
    which may be better next time."""
    kind = FailureClass.INFRA
    if error.code in _DEVICE_CODES:
        kind = FailureClass.DEVICE
    elif error.code in _MODEL_CODES:
        kind = FailureClass.MODEL
    return Failure(kind, error.code, str(error))


def with_reason(measured: Measured, reason: Reason) -> Measured:
    """``measured`` with one more reason, and the verdict that follows from all of them."""
    return replace(measured, verdict=verdict_of([*measured.verdict.reasons, reason]))


def refused_results(
    message: job_pb2.Round,
    seq: int,
    why: str,
    device: DeviceFacts,
    device_name: str,
    unix_ns: int,
) -> Iterable[result_pb2.Result]:
    """One failed Result for each run of a round this version cannot read.

    The runs are copied as messages, so that the controller reads in them what it wrote.
    """
    provenance = convert.to_proto(_provenance(device, device_name, unix_ns))
    for run in message.runs:
        result = result_pb2.Result(
            attempt_id=run.attempt_id,
            seq=seq,
            round_id=message.round_id,
            sweep_id=message.sweep_id,
            round_index=message.index,
            fence=message.fence,
            run=run,
        )
        text = f"agent {__version__} cannot read this run: {why}"
        result.energy.absent = "the run failed: version_mismatch"
        result.verdict.kind = result_pb2.VERDICT_KIND_INVALID
        result.verdict.reasons.add(code="version_mismatch", hard=True, detail=text)
        result.failure.failure_class = result_pb2.FAILURE_CLASS_DEVICE
        result.failure.code = "version_mismatch"
        result.failure.message = text
        result.provenance.CopyFrom(provenance)  # type: ignore[arg-type]
        yield result


def _provenance(device: DeviceFacts, device_name: str, unix_ns: int) -> Provenance:
    return Provenance(
        device_name=device_name,
        device=device,
        runtime_version="",
        started_unix_ns=unix_ns,
        duration_ns=0,
        harness_version=__version__,
    )
