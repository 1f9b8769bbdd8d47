"""One run on a tethered phone: push what is missing, start the binary detached, wait, read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.agent.measuring.guard import verdict_of
from assay.agent.measuring.keys import environment_of, factors_of
from assay.agent.measuring.measure import Measured
from assay.agent.measuring.observe import RunPaths
from assay.agent.measuring.outcome import failure_of
from assay.agent.phones import conditions as state
from assay.agent.phones import rails
from assay.agent.phones.adb import Phone
from assay.agent.phones.facts import cluster_mask
from assay.agent.phones.invoke import FIXED, HEAT, UNPINNED, command_line, detached
from assay.agent.phones.latency import latency_of, printed_of
from assay.agent.phones.rails import Noted, energy_of
from assay.agent.phones.store import PhoneFiles
from assay.agent.phones.waiting import require_started, wait
from assay.agent.power.energy import EnergyEstimate
from assay.core import bundle
from assay.core.errors import AssayError, Cancelled, RuntimeAbsent, RuntimeRejected
from assay.core.model import (
    Absent,
    ColdStart,
    Conditions,
    DeviceFacts,
    Fidelity,
    Isolation,
    MemorySplit,
    Mode,
    Provenance,
    Reason,
    RunSpec,
    ScenarioKind,
)
from assay.core.ncnn_file import unpack
from assay.core.stats import n_min
from assay.core.version import __version__

_SLACK_S = 180.0
_RAW_KEPT = 4000
_CONDITIONS_S = 20.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A phone and the native binaries named for it: runtime → file on the host."""

    phone: Phone
    files: PhoneFiles
    binaries: Mapping[str, Path]
    on_usb: bool


def measure_on_phone(
    bench: Bench,
    run: RunSpec,
    paths: RunPaths,
    device: DeviceFacts,
    device_name: str,
    work_dir: Path,
    on_state: Callable[[str], None],
    cancel: threading.Event,
) -> Measured:
    """Measures ``run`` by the binary of its runtime; like
    :func:`assay.agent.measuring.measure.measure` failures are told in the result.

    Fidelity is ``external_binary``: one invocation, its own statistics, outputs unchecked.
    """
    started_unix_ns, begin_ns = time.time_ns(), time.monotonic_ns()
    empty = _unfinished(run, device, device_name, started_unix_ns)
    try:
        text, before, after, heat, noted = _observe(
            bench, run, paths, device, work_dir, on_state, cancel
        )
        printed = printed_of(run, text)
        latency = latency_of(printed, int(run.profile.t_min_ns))
    except Cancelled:
        raise
    except AssayError as error:
        failure = failure_of(error)
        verdict = verdict_of([Reason(failure.code, True, failure.message)])
        return replace(empty, failure=failure, verdict=verdict)
    reasons = [
        Reason("outputs_unchecked", False, "the binary dumps no outputs"),
        *state.reasons_of(before, after, on_usb=bench.on_usb, during=heat),
    ]
    if printed.count < n_min(0.5):
        reasons.append(Reason("low_n", True, f"{printed.count} inferences"))
    energy = _energy(noted, latency.mean_ns, after, on_usb=bench.on_usb)
    if isinstance(energy, EnergyEstimate):
        reasons += energy.reasons
    pinned = UNPINNED not in text
    if not pinned:
        reasons.append(Reason("isolation_none", False, "the phone did not take a CPU mask"))
    environment = {
        **empty.environment,
        "fidelity": Fidelity.EXTERNAL_BINARY.value,
        "isolation": (Isolation.PINNED if pinned else Isolation.NONE).value,
    }
    if FIXED in text:
        environment["power_mode"] = "fixed_performance"
    cold = None
    if printed.init_ns is not None and printed.first_ns is not None:
        cold = ColdStart(int(printed.init_ns), int(printed.first_ns))
    return replace(
        empty,
        latency=latency,
        cold=cold,
        memory=MemorySplit(absent_reason="the binary runs on the phone and tells no memory"),
        energy=energy.energy if isinstance(energy, EnergyEstimate) else energy,
        conditions=_conditions(
            text, before, after, cluster_mask(device, run.runtime.threads) * pinned
        ),
        verdict=verdict_of(reasons),
        provenance=replace(empty.provenance, duration_ns=time.monotonic_ns() - begin_ns),
        environment=environment,
    )


def _observe(
    bench: Bench,
    run: RunSpec,
    paths: RunPaths,
    device: DeviceFacts,
    work_dir: Path,
    on_state: Callable[[str], None],
    cancel: threading.Event,
) -> tuple[str, state.PhoneState, state.PhoneState, list[int], Noted | None]:
    """The binary's output, the phone's state before and after, its thermal status after each run of
    the binary, and its rails as noted."""
    if run.scenario.kind is not ScenarioKind.SINGLE_STREAM or run.scenario.mode is not Mode.BURST:
        raise RuntimeRejected("a benchmark binary runs single_stream bursts only")
    binary = bench.binaries.get(run.runtime.name)
    if binary is None:
        raise RuntimeAbsent(f"no native binary of {run.runtime.name} was named for this phone")
    on_state("loading")
    local, shape = _model(run, paths.model, work_dir)
    # The store's file was checked as it was fetched.
    known = run.artifact.digest if local == paths.model else ""
    on_phone = bench.files.put(binary, executable=True, cancel=cancel)
    model = bench.files.put(local, known, cancel=cancel)
    argv, times = command_line(run, on_phone, model, shape)
    folder = bench.files.folder()
    before = _state(bench.phone)
    on_state("measuring")
    script = detached(argv, times, folder, cluster_mask(device, run.runtime.threads))
    require_started(bench.phone, bench.phone.shell(script))
    deadline_s = time.monotonic() + times * run.profile.t_max_ns / 1e9 + _SLACK_S
    text = wait(bench.phone, folder, deadline_s, cancel)
    on_state("evaluating")
    noted = Noted.parse(bench.phone.shell(f"cd {folder}; {rails.READ}", timeout_s=60.0).text)
    heat = state.statuses_in(bench.phone.run(["cat", f"{folder}/{HEAT}"]).text)
    return text, before, _state(bench.phone), heat, noted


def _energy(
    noted: Noted | None, mean_ns: float, after: state.PhoneState, *, on_usb: bool
) -> EnergyEstimate | Absent:
    if noted is not None:
        return energy_of(noted, mean_ns)
    return state.power_absence(after, on_usb=on_usb)


def _model(run: RunSpec, model: Path, work_dir: Path) -> tuple[Path, tuple[int, ...]]:
    """The file the binary reads: of an ncnn file its param, with the input's shape."""
    if run.runtime.name != "ncnn":
        if bundle.is_bundle(model):
            raise RuntimeRejected("a model of several files is not sent to a phone")
        return model, ()
    file = unpack(model.read_bytes())
    param = work_dir / "model.param"
    param.write_bytes(file.param)
    return param, file.inputs[0].inner_shape


def _state(phone: Phone) -> state.PhoneState:
    return state.parse_state(phone.shell(state.SCRIPT, timeout_s=_CONDITIONS_S).text)


def _conditions(
    text: str, before: state.PhoneState, after: state.PhoneState, mask: int
) -> Conditions:
    told = {
        "thermal_status": f"{before.thermal_status} to {after.thermal_status}",
        "screen": after.screen,
        "airplane": "" if after.airplane is None else str(after.airplane).lower(),
        "battery": "" if after.battery_level is None else f"{after.battery_level:.0%}",
        "p50_interval": "range of the samples",
        "not_told": "mad outliers harness_floor binding_floor",
        "binary_output": text[-_RAW_KEPT:],
    }
    cpus = tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    isolation = Isolation.PINNED if mask else Isolation.NONE
    notes = {name: value for name, value in told.items() if value}
    return Conditions(isolation=isolation, measure_cpus=cpus, notes=notes)


def _unfinished(
    run: RunSpec, device: DeviceFacts, device_name: str, started_unix_ns: int
) -> Measured:
    """Everything known before the binary has run."""
    mask = cluster_mask(device, run.runtime.threads)
    isolation = Isolation.PINNED if mask else Isolation.NONE
    versions = {facts.name: facts.version for facts in device.runtimes}
    version = versions.get(run.runtime.name, "")
    factors = {
        **factors_of(run, None),
        "runtime": f"{run.runtime.name} {version}".strip(),
        "fidelity": Fidelity.EXTERNAL_BINARY.value,
    }
    return Measured(
        latency=None,
        cold=None,
        memory=None,
        energy=Absent("the run failed"),
        quality=None,
        golden=None,
        conditions=None,
        verdict=verdict_of([]),
        provenance=Provenance(
            device_name=device_name,
            device=device,
            runtime_version=version,
            started_unix_ns=started_unix_ns,
            duration_ns=0,
            harness_version=__version__,
        ),
        environment=environment_of(run, device, device_name, isolation, None),
        factors=factors,
        trace_path=None,
        failure=None,
    )
