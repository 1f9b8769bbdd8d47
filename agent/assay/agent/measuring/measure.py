"""One run, from waiting for a cool board to a verdict."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.agent.devices.classes import start_limit_c as limit_of_class
from assay.agent.devices.emulation import emulation_reasons
from assay.agent.devices.temperature import processor_zones
from assay.agent.measuring.cpus import CpuPlan
from assay.agent.measuring.evidence import Evidence
from assay.agent.measuring.guard import judge, verdict_of
from assay.agent.measuring.joules import run_energy
from assay.agent.measuring.keys import environment_of, factors_of
from assay.agent.measuring.observe import Observed, RunPaths, Setting, observe
from assay.agent.power.calibration_store import gauge_known
from assay.agent.power.energy import Window
from assay.core import bundle, digest
from assay.core.errors import (
    AssayError,
    BadMessage,
    Cancelled,
    CorruptArtifact,
    RuntimeRejected,
    WorkerOom,
)
from assay.core.model import (
    MEDIA_ONNX,
    Absent,
    ColdStart,
    Conditions,
    DeviceFacts,
    Energy,
    Failure,
    FailureClass,
    GoldenCheck,
    Latency,
    MemorySplit,
    Provenance,
    Quality,
    Reason,
    RunSpec,
    Verdict,
)
from assay.core.trace import add_series
from assay.core.version import __version__

__all__ = ["Measured", "RunPaths", "measure"]

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.:/ -]")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run yielded, named as in :class:`assay.core.model.Result`.

    ``trace_path`` is a file under ``work_dir`` that belongs to the caller from now on; None where
    the run failed before there was one.
    """

    latency: Latency | None
    cold: ColdStart | None
    memory: MemorySplit | None
    energy: Energy | Absent
    quality: Quality | None
    golden: GoldenCheck | None
    conditions: Conditions | None
    verdict: Verdict
    provenance: Provenance
    environment: Mapping[str, str]
    factors: Mapping[str, str]
    trace_path: Path | None
    failure: Failure | None


def measure(
    run: RunSpec,
    paths: RunPaths,
    device: DeviceFacts,
    device_name: str,
    cpus: CpuPlan,
    sysroot: Path,
    work_dir: Path,
    on_state: Callable[[str], None],
    cancel: threading.Event,
    *,
    sampler_hz: float = 10.0,
    start_limit_c: float | None = None,
    native_dir: Path | None = None,
    calibration_dir: Path | None = None,
) -> Measured:
    """Measures ``run`` in a fresh worker process pinned to ``cpus.measure_cpus``.

    ``on_state`` hears ``settling``, ``loading``, ``warming``, ``measuring`` and ``evaluating`` from
    this thread as they begin; the timed part waits until it has returned from ``measuring``. In
    long ones ``pausing`` and ``measuring`` again come between blocks, at least once a minute. A
    model, runtime or worker that fails is told in ``Measured.failure`` and never raised. Setting
    ``cancel`` kills the worker's process group and raises :class:`assay.core.errors.Cancelled`.
    ``work_dir`` must exist and be the caller's alone; what lies in it afterwards is only the trace.
    ``start_limit_c`` is the device class's where not given. ``native_dir`` keeps the compiled loop
    between runs; without one there is none (docs/native-loop.md). ``calibration_dir`` holds what
    ``assay-agent calibrate power`` kept.
    """
    started_unix_ns, begin_ns = time.time_ns(), time.monotonic_ns()
    limit = limit_of_class(device.device_class) if start_limit_c is None else start_limit_c
    run_dir = work_dir / "run"
    run_dir.mkdir()
    gauge = calibration_dir is not None and gauge_known(calibration_dir, device.board)
    setting = Setting(
        run, paths, device, cpus, sysroot, run_dir, on_state, cancel, native_dir, gauge
    )
    observed: Observed | None = None
    failure: Failure | None = None
    try:
        _check_model(run, paths.model)
        observed = observe(_unpacked(setting), limit, sampler_hz)
        failure = observed.report.failure
        trace = _keep_trace(observed, run_dir, work_dir) if failure is None else None
    except Cancelled:
        raise
    except AssayError as error:
        failure = Failure(_class_of(error), error.code, str(error))
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
    provenance = _provenance(device, device_name, observed, started_unix_ns, begin_ns)
    if observed is None or failure is not None:
        assert failure is not None
        return _failed(setting, observed, failure, provenance)
    return _judged(setting, observed, provenance, trace, calibration_dir)


def _provenance(
    device: DeviceFacts,
    device_name: str,
    observed: Observed | None,
    started_unix_ns: int,
    begin_ns: int,
) -> Provenance:
    report = observed.report if observed is not None else None
    return Provenance(
        device_name=device_name,
        device=device,
        runtime_version=report.runtime_version if report else "",
        started_unix_ns=started_unix_ns,
        duration_ns=time.monotonic_ns() - begin_ns,
        harness_version=__version__,
        placement=report.placement if report else (),
    )


def _judged(
    setting: Setting,
    observed: Observed,
    provenance: Provenance,
    trace: Path | None,
    calibration_dir: Path | None,
) -> Measured:
    report = observed.report
    found = run_energy(setting, observed, calibration_dir)
    isolation = setting.isolation(report)
    notes = {
        "cpus": setting.cpus.note,
        "sampler_loss": observed.sampler_loss,
        "sensors_failed": "; ".join(f"{name}: {why}" for name, why in observed.troubles.items()),
        **found.notes,
    }
    conditions, verdict = judge(
        Evidence(
            run=setting.run,
            report=report,
            before=observed.before,
            after=observed.after,
            series=observed.series,
            measure_cpus=setting.measure_cpus,
            housekeeping_cpus=setting.cpus.housekeeping_cpus,
            isolation=isolation,
            settled=observed.settled,
            idle=_bounds(observed.idle),
            processor_labels=frozenset(zone.label for zone in processor_zones(setting.sysroot)),
            extra=(*found.reasons, *emulation_reasons(setting.device)),
            notes={name: text for name, text in notes.items() if text},
        )
    )
    return Measured(
        latency=report.latency,
        cold=report.cold,
        memory=report.memory,
        energy=found.energy,
        quality=report.quality,
        golden=report.golden,
        conditions=conditions,
        verdict=verdict,
        provenance=provenance,
        environment=_environment(setting, observed, provenance),
        factors=factors_of(setting.run, report),
        trace_path=trace,
        failure=None,
    )


def _failed(
    setting: Setting, observed: Observed | None, failure: Failure, provenance: Provenance
) -> Measured:
    """No number; the failure's code is the reason."""
    code = "model_hash_mismatch" if failure.code == CorruptArtifact.code else failure.code
    return Measured(
        latency=None,
        cold=None,
        memory=None,
        energy=Absent(f"the run failed: {failure.code}"),
        quality=None,
        golden=None,
        conditions=None,
        verdict=verdict_of([Reason(code, True, failure.message)]),
        provenance=provenance,
        environment=_environment(setting, observed, provenance),
        factors=factors_of(setting.run, observed.report if observed else None),
        trace_path=None,
        failure=failure,
    )


def _class_of(error: AssayError) -> FailureClass:
    """What ran out of memory or was refused would be again; whatever else ended it may not."""
    by_model = error.code in (WorkerOom.code, RuntimeRejected.code)
    return FailureClass.MODEL if by_model else FailureClass.INFRA


def _keep_trace(observed: Observed, run_dir: Path, work_dir: Path) -> Path | None:
    """Moves the worker's trace out of the run's folder and adds the sensors' readings."""
    source, kept = run_dir / "trace.npz", work_dir / "trace.npz"
    if not source.is_file():
        return None
    source.replace(kept)
    named = {_NOT_IN_NAMES.sub("_", key)[:120]: one for key, one in observed.series.items()}
    add_series(kept, named)
    return kept


def _environment(
    setting: Setting, observed: Observed | None, provenance: Provenance
) -> Mapping[str, str]:
    report = observed.report if observed is not None else None
    isolation = setting.isolation(report)
    return environment_of(setting.run, setting.device, provenance.device_name, isolation, report)


def _check_model(run: RunSpec, model: Path) -> None:
    """The last look at what is about to be measured."""
    try:
        found = digest.of_file(model)
    except OSError as error:
        raise CorruptArtifact(f"{model} cannot be read: {error.strerror}") from error
    if found != run.artifact.digest:
        wanted = digest.short(run.artifact.digest)
        raise CorruptArtifact(f"the model file is {digest.short(found)}, asked for was {wanted}")


def _unpacked(setting: Setting) -> Setting:
    """A model of several files lies in the run's folder, for as long as the run takes."""
    if setting.run.artifact.media_type != MEDIA_ONNX or not bundle.is_bundle(setting.paths.model):
        return setting
    folder = setting.run_dir / "model"
    folder.mkdir()
    try:
        model = bundle.unpack(setting.paths.model, folder)
    except BadMessage as error:
        raise RuntimeRejected(f"the model is no sound bundle: {error}") from error
    return replace(setting, paths=replace(setting.paths, model=model))


def _bounds(idle: tuple[Window, ...]) -> tuple[int, int] | None:
    return (idle[0].start_ns, idle[0].end_ns) if idle else None
