"""``assay-agent calibrate``: what a power sensor's numbers mean, against a meter that is right."""

from __future__ import annotations

import csv
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.core.errors import CheckFailed, SpecError, UsageError
from assay.core.listing import format_option, print_rows
from assay.core.model import Absent, PowerTier

if TYPE_CHECKING:
    from assay.agent.power.calibration import GaugeReading
    from assay.agent.samplers import Sampler

_EVERY_S = 0.1
_GAUGE_EVERY_S = 0.5
_SETTLING_SHARE = 1 / 3
_SYSROOT = click.option(
    "--sysroot",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    help="A folder laid out like a board, instead of this one.",
)
_HOME = click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), help="The agent's home."
)


@click.group(name="calibrate")
def calibrate_command() -> None:
    """Fit this board's sensors to what is true."""


@calibrate_command.command(name="power")
@click.option("--sensor", help="SAMPLER.CHANNEL to calibrate; the board's total if not given.")
@click.option(
    "--points",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="CSV with columns reading_w and reference_w, instead of measuring now.",
)
@click.option("--levels", type=click.IntRange(6, 50), default=8, show_default=True)
@click.option("--hold-s", type=click.FloatRange(min=0.5), default=20.0, show_default=True)
@click.option(
    "--reference-gain-u",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    help="The meter's own relative standard uncertainty, e.g. 0.005.",
)
@click.option("--scope", type=click.Choice(["board_input", "wall"]), default="board_input")
@click.option("--gauge", is_flag=True, help="A phone's battery: find its sign and unit instead.")
@_HOME
@_SYSROOT
@format_option
def power_command(
    sensor: str | None,
    points: Path | None,
    levels: int,
    hold_s: float,
    reference_gain_u: float,
    scope: str,
    gauge: bool,
    home: Path | None,
    sysroot: Path,
    output_format: str,
) -> None:
    """Fit input power = a * reading + b from six loads or more, and keep it in the agent's home.

    Loads are made here. The reference is an attached meter the agent knows, else you are asked
    for what your meter shows at each load.
    """
    from assay.agent.devices.detect import detect
    from assay.agent.home import AgentHome
    from assay.agent.power.calibration import calibrate_gauge, calibrate_line
    from assay.agent.power.calibration_store import BoardCalibration, load, store

    where = home or AgentHome.default().root
    board = detect(sysroot, (), ()).board
    kept = load(where, board)
    before = BoardCalibration(board) if isinstance(kept, Absent) else kept
    if gauge:
        sign_and_unit = calibrate_gauge(_watch_gauge(sysroot, hold_s * levels))
        if isinstance(sign_and_unit, Absent):
            raise CheckFailed(f"no calibration: {sign_and_unit.reason}")
        path = store(where, replace(before, gauge=sign_and_unit))
        print_rows([asdict(sign_and_unit)], ("sign", "unit_a"), output_format)
    else:
        key, readings, references = (
            (_key(sensor), *_read_points(points))
            if points is not None
            else _measure(sysroot, sensor, levels, hold_s)
        )
        fit = calibrate_line(readings, references, reference_gain_u)
        if isinstance(fit, Absent):
            raise CheckFailed(f"no calibration: {fit.reason}")
        power = {**(before.power or {}), key: fit}
        path = store(where, replace(before, power=power, scope=scope))
        row = {"sensor": key, **asdict(fit)}
        print_rows([row], tuple(row), output_format)
    click.echo(f"kept in {path}", err=True)


def _key(sensor: str | None) -> str:
    if sensor is None:
        raise UsageError("--points needs --sensor SAMPLER.CHANNEL, e.g. rpi_pmic.rail_sum")
    return sensor


def _read_points(path: Path) -> tuple[list[float], list[float]]:
    readings, references = [], []
    with path.open(newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream), start=2):
            try:
                readings.append(float(row["reading_w"]))
                references.append(float(row["reference_w"]))
            except (KeyError, TypeError, ValueError) as error:
                raise SpecError(
                    f"{path}:{number}", [f"needs numbers reading_w and reference_w: {error}"]
                ) from error
    return readings, references


def _measure(
    sysroot: Path, sensor: str | None, levels: int, hold_s: float
) -> tuple[str, list[float], list[float]]:
    """The mean of sensor and reference at each load level."""
    from assay.agent.power.load_levels import busy, duties

    key, board_sampler, meter = _sources(sysroot, sensor)
    channel = key.partition(".")[2]
    readings, references = [], []
    for level in range(levels):
        with busy(duties(level, levels, len(os.sched_getaffinity(0)))):
            told, shown = _mean_w(board_sampler, channel, meter, hold_s)
        if shown is None:
            prompt = f"load {level + 1} of {levels}, sensor {told:.3f} W; the meter showed (W)"
            shown = click.prompt(prompt, type=float, err=True)
        readings.append(told)
        references.append(shown)
    return key, readings, references


def _sources(sysroot: Path, sensor: str | None) -> tuple[str, Sampler, Sampler | None]:
    """The sensor to calibrate, as key and sampler, and an external meter where there is one."""
    from assay.agent.samplers import probe_all

    found = {n: one for n, one in probe_all(sysroot).items() if not isinstance(one, Absent)}
    channels = {
        f"{name}.{channel.name}": (one, channel.meter)
        for name, one in found.items()
        for channel in one.channels
        if channel.meter is not None and channel.unit == "W"
    }
    meters = [one for one, meter in channels.values() if meter.tier is PowerTier.EXTERNAL_METER]
    own = {key: pair for key, pair in channels.items() if pair[0] not in meters}
    totals = [key for key, (_, meter) in own.items() if meter.total]
    key = sensor or (totals[0] if totals else "")
    if key not in own:
        listed = ", ".join(own) or "none"
        raise UsageError(
            f"--sensor: {key or 'no total here'} cannot be calibrated; there: {listed}"
        )
    return key, own[key][0], meters[0] if meters else None


def _mean_w(
    sensor: Sampler, channel: str, meter: Sampler | None, hold_s: float
) -> tuple[float, float | None]:
    """Means over the hold without its first third, in which the load settles."""
    told: list[float] = []
    shown: list[float] = []
    begin = time.monotonic()
    while (passed := time.monotonic() - begin) < hold_s:
        values = [r.value for r in sensor.read() if r.channel.name == channel]
        metered = [] if meter is None else [r.value for r in meter.read() if r.channel.unit == "W"]
        if passed >= hold_s * _SETTLING_SHARE:
            told += values[:1]
            shown += metered[:1]
        time.sleep(_EVERY_S)
    if not told:
        raise CheckFailed(f"{sensor.name}.{channel} gave no reading in {hold_s:g} s")
    return sum(told) / len(told), sum(shown) / len(shown) if shown else None


def _watch_gauge(sysroot: Path, seconds: float) -> list[GaugeReading]:
    from assay.agent.power.calibration import GaugeReading
    from assay.agent.samplers.battery import find_gauge, read_current
    from assay.agent.sysroot import maybe_int, maybe_text

    gauge = find_gauge(sysroot)
    if gauge is None:
        raise CheckFailed("no battery on this board")
    readings = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        current = read_current(gauge.folder)
        micro_v = maybe_int(gauge.folder / "voltage_now")
        if current is not None and micro_v is not None:
            status = maybe_text(gauge.folder / "status") or "Unknown"
            readings.append(GaugeReading(current, micro_v, status))
        time.sleep(_GAUGE_EVERY_S)
    return readings
