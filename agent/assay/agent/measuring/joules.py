"""The energy of one run: which meter, calibrated or not, and what speaks against the figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from assay.agent.devices.power import power_absence
from assay.agent.measuring.observe import Observed, Setting, absent_of
from assay.agent.measuring.reasons import reason
from assay.agent.power import calibration_store
from assay.agent.power.calibration import LinearCalibration
from assay.agent.power.energy import Window, choose_source, estimate_energy
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core import digest
from assay.core.comparing.meters import CALIBRATED
from assay.core.errors import SpecError
from assay.core.model import Absent, Energy, Mode, Reason

UNCALIBRATED = "power_calibration_absent"
METER = "power_meter"


@dataclass(frozen=True, slots=True)
class RunEnergy:
    """``notes`` say how far the meter can be trusted, and by which calibration it was read or why
    by none."""

    energy: Energy | Absent
    reasons: tuple[Reason, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Readings:
    series: Mapping[str, Series]
    notes: Mapping[str, str]
    refused: str = ""


def run_energy(setting: Setting, observed: Observed, calibration_dir: Path | None) -> RunEnergy:
    """Joules per inference from the board's best meter, read by the calibration kept in
    ``calibration_dir``. One that cannot be used is a soft reason, never a silent raw number."""
    report, scenario = observed.report, setting.run.scenario
    assert report.latency is not None
    if not setting.wants_energy:
        return RunEnergy(Absent(setting.why_no_energy))
    readings = _calibrated(observed.series, setting.device.board, calibration_dir)
    rate = scenario.target_qps if scenario.mode is Mode.PACED else None
    found = estimate_energy(
        readings.series,
        observed.idle,
        Window(report.timed_start_ns, report.timed_end_ns),
        report.latency.n,
        period_ns=round(1e9 / rate) if rate else None,
        no_source=_no_source(setting, observed),
    )
    if isinstance(found, Absent):
        return RunEnergy(_explained(found, readings.series, observed), notes=readings.notes)
    refused = (reason("power_uncalibrated", readings.refused),) if readings.refused else ()
    meter = readings.series[found.energy.source].meter
    assert meter is not None
    notes = {**readings.notes, METER: _spec(meter, readings.series[found.energy.source].unit)}
    return RunEnergy(found.energy, (*found.reasons, *refused), notes)


def _no_source(setting: Setting, observed: Observed) -> str:
    """Why no total came: what became of all readings, the trouble of a sampler that gave power when
    the board was looked at, else what the board says of its missing sensor."""
    if observed.sampler_loss and not observed.series:
        return observed.sampler_loss
    gave = [s.name for s in setting.device.samplers if s.unit in ("W", "J") and not s.absent_reason]
    told = {**observed.absent, **observed.troubles}
    silent = [f"{name}: {told[name]}" for name in gave if name in told]
    absent = {**absent_of(setting.device), **observed.absent}
    return "; ".join(silent) or power_absence(setting.device.device_class, absent)


def _explained(found: Absent, series: Mapping[str, Series], observed: Observed) -> Absent:
    """With what went wrong with the meter on the way, if anything did."""
    chosen = choose_source(series)
    sampler = "" if isinstance(chosen, Absent) else chosen[0].partition(".")[0]
    trouble = observed.troubles.get(sampler)
    return Absent(f"{found.reason} ({trouble})") if trouble else found


def _calibrated(series: Mapping[str, Series], board: str, directory: Path | None) -> _Readings:
    if directory is None:
        return _Readings(series, {})
    try:
        kept = calibration_store.load(directory, board)
    except SpecError as error:
        return _Readings(series, {UNCALIBRATED: str(error)}, refused=str(error))
    if isinstance(kept, Absent):
        return _Readings(series, {UNCALIBRATED: kept.reason})
    applied, why = calibration_store.apply(series, kept)
    chosen = choose_source(applied)
    source = "" if isinstance(chosen, Absent) else chosen[0]
    fit = (kept.power or {}).get(source)
    if not source and calibration_store.GAUGE in why:
        return _Readings(series, {UNCALIBRATED: why[calibration_store.GAUGE]})
    if source == calibration_store.GAUGE and kept.gauge is not None:
        told = f"{source}: sign {kept.gauge.sign:+d}, unit {kept.gauge.unit_a:g} A"
        return _Readings(applied, {CALIBRATED: told})
    if source in why:
        return _Readings(series, {UNCALIBRATED: why[source]}, refused=why[source])
    return _Readings(applied, {CALIBRATED: _told(source, fit)} if fit is not None else {})


def _told(source: str, fit: LinearCalibration) -> str:
    """With a digest: energies read through two fits are not compared, however alike they print."""
    name = digest.hex_of(digest.of_json(asdict(fit)))[:12]
    return (
        f"{source}: {fit.gain:.4f} x reading {fit.offset_w:+.3f} W, gain ± {2 * fit.gain_u:.1%}, "
        f"{fit.points} loads from {fit.low_w:.2f} to {fit.high_w:.2f} W ({name})"
    )


def _spec(meter: Meter, unit: str) -> str:
    """What is known of the sensor; each ± is two standard uncertainties."""
    gain = "gain unknown" if meter.gain_u is None else f"gain ± {2 * meter.gain_u:.1%}"
    return f"{gain}, zero ± {2 * meter.offset_u:g} {unit}, steps of {meter.quantum:g} {unit}"
