"""What every sampler promises, on every composed board, healthy and breaking."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest

from assay.agent.samplers import Sampler, all_samplers
from assay.core.errors import SamplerError
from assay.core.model import Absent
from tests.boards import break_with_eio, composed, copy_of, names

SAMPLERS = all_samplers()
# What a series in a trace may be called; see docs/reference/trace.md.
SERIES_NAME = re.compile(r"[A-Za-z0-9_.:/ -]{1,120}")
UNITS = {"s", "Hz", "C", "V", "A", "W", "J", "B", "1"}

# Which samplers must be found where; a sampler listed nowhere would be tested on nothing.
EXPECTED = {
    "bare": set(),
    "rpi3bplus": {"cpu_time", "cpufreq", "memory", "rpi_clock", "rpi_throttle", "rpi_volt",
                  "thermal"},
    "rpizero2": {"cpu_time", "cpufreq", "memory", "psi", "rpi_clock", "rpi_throttle", "rpi_volt",
                 "thermal"},
    "rpi4": {"cpu_time", "cpufreq", "memory", "psi", "rpi_clock", "rpi_throttle", "rpi_volt",
             "thermal"},
    "rpi4_ina219": {"cpu_time", "ina2xx", "memory", "psi"},
    "rpi5": {"cpu_time", "cpufreq", "hwmon_temp", "memory", "psi", "rpi_clock", "rpi_pmic",
             "rpi_throttle", "rpi_volt", "thermal"},
    "jetson_nano": {"cooling", "cpu_time", "cpufreq", "devfreq", "ina3221", "jetson_gpu", "memory",
                    "thermal"},
    "jetson_xavier_nx": {"cpu_time", "cpufreq", "devfreq", "ina3221", "jetson_gpu", "memory",
                         "psi", "thermal"},
    "jetson_orin_nano": {"cooling", "cpu_time", "cpufreq", "devfreq", "ina3221", "jetson_gpu",
                         "jetson_oc", "memory", "psi", "thermal"},
    "jetson_agx_orin": {"cpu_time", "cpufreq", "devfreq", "ina3221", "jetson_gpu", "jetson_oc",
                        "memory", "psi", "thermal"},
    "jetson_thor": {"cpu_time", "cpufreq", "ina2xx", "ina3221", "memory", "psi", "thermal"},
    "phone_milliamp": {"battery", "cooling", "cpufreq", "memory", "thermal"},
    "phone_odpm": {"battery", "cooling", "cpufreq", "memory", "odpm", "thermal"},
    "phone_reversed_sign": {"battery", "cooling", "cpufreq", "memory", "thermal"},
    "x86_laptop": {"battery", "cooling", "cpu_time", "cpufreq", "hwmon_temp", "memory", "psi",
                   "rapl", "thermal"},
    "x86_server": {"cpu_time", "hwmon_power", "hwmon_temp", "memory", "psi", "rapl"},
}  # fmt: skip


def opened(root: Path) -> list[Sampler]:
    probed = [kind.probe(root) for kind in SAMPLERS.values()]
    return [one for one in probed if not isinstance(one, Absent)]


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("board", names())
def test_samplers_found_are_those_the_board_has(board: str) -> None:
    assert {one.name for one in opened(composed(board))} == EXPECTED[board]


def test_every_sampler_is_found_on_some_board() -> None:
    # Meters on a serial line or a bare I2C bus are in no tree: see test_sampler_um25c and
    # test_sampler_ina2xx_i2c.
    assert set().union(*EXPECTED.values()) == set(SAMPLERS) - {"um25c", "ina2xx_i2c"}


@pytest.mark.parametrize("board", names())
def test_absence_comes_with_a_reason(board: str) -> None:
    for name, kind in SAMPLERS.items():
        found = kind.probe(composed(board))
        if isinstance(found, Absent):
            assert len(found.reason) > 8, name
            assert str(Path.cwd()) not in found.reason, f"{name} tells a path of this machine"


@pytest.mark.parametrize("board", names())
def test_readings_are_finite_and_of_declared_channels(board: str) -> None:
    for one in opened(composed(board)):
        declared = [channel.name for channel in one.channels]
        assert len(declared) == len(set(declared)) > 0, one.name
        for channel in one.channels:
            assert SERIES_NAME.fullmatch(f"{one.name}.{channel.name}")
            assert channel.unit in UNITS and channel.quantity
            if channel.meter is not None:
                assert channel.unit in ("W", "J")
        for _ in range(3):
            readings = one.read()
            given = [reading.channel for reading in readings]
            assert given and len(given) == len(set(given))
            assert set(given) <= set(one.channels), one.name
            assert all(math.isfinite(reading.value) for reading in readings)
        assert 0 < one.max_hz <= 100
        one.close()
        one.close()


@pytest.mark.parametrize("board", names())
def test_at_most_one_total_per_sampler(board: str) -> None:
    for one in opened(composed(board)):
        totals = [c for c in one.channels if c.meter is not None and c.meter.total]
        assert len({channel.quantity for channel in totals}) == len(totals)


@pytest.mark.parametrize("board", names())
@pytest.mark.parametrize("damage", ["eio", "vanish", "garbage", "empty", "directory"])
def test_a_dying_sensor_raises_sampler_error_and_nothing_else(
    board: str, damage: str, tmp_path: Path
) -> None:
    root = copy_of(board, tmp_path)
    samplers = opened(root)
    for path in files_of(root):
        if damage == "eio":
            break_with_eio(path)
        elif damage == "garbage":
            path.write_bytes(b"\xff\xfe no number \x00 here\n\n=%")
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "directory":
            path.unlink()
            path.mkdir()
    if damage == "vanish":
        shutil.rmtree(root)
    for one in samplers:
        with pytest.raises(SamplerError) as failure:
            one.read()
        assert str(failure.value), one.name
        one.close()


@pytest.mark.parametrize("board", names())
@pytest.mark.parametrize("damage", ["eio", "garbage"])
def test_probing_a_broken_board_raises_nothing(board: str, damage: str, tmp_path: Path) -> None:
    root = copy_of(board, tmp_path)
    for path in files_of(root):
        if damage == "eio":
            break_with_eio(path)
        else:
            path.write_bytes(b"\xff\xfe no number\n")
    for kind in SAMPLERS.values():
        found = kind.probe(root)
        assert isinstance(found, Absent), found
        assert found.reason


@pytest.mark.parametrize("board", names())
def test_a_sensor_that_comes_back_is_read_again(board: str, tmp_path: Path) -> None:
    root = copy_of(board, tmp_path)
    samplers = opened(root)
    away = root.with_name("away")
    root.rename(away)
    for one in samplers:
        with pytest.raises(SamplerError):
            one.read()
    away.rename(root)
    for one in samplers:
        assert one.read(), one.name


def test_nothing_is_written_to_the_board(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for one in opened(root):
        one.read()
        one.close()
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
