"""``assay-agent calibrate power`` fits, keeps and applies; what is doubtful it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from assay.agent.cli import agent
from assay.agent.power.calibration import LinearCalibration
from assay.agent.power.calibration_store import FILE, BoardCalibration, apply, load, store
from assay.agent.power.load_levels import busy, duties
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.errors import CheckFailed, SpecError, UsageError
from assay.core.model import Absent, PowerTier
from tests.boards import composed, copy_of

FIT = LinearCalibration(1.12, 0.4, 0.01, 0.02, 2.0, 10.0, 8)


def calibrate(home: Path, *options: str, board: str = "rpi5", typed: str = "") -> Result:
    argv = ["calibrate", "power", "--home", str(home), "--sysroot", str(composed(board))]
    return CliRunner().invoke(agent, [*argv, "--format", "json", *options], input=typed)


def points(path: Path, pairs: list[tuple[object, object]]) -> str:
    path.write_text("reading_w,reference_w\n" + "".join(f"{x},{y}\n" for x, y in pairs))
    return str(path)


def line(n: int) -> list[tuple[object, object]]:
    return [(2.0 + i, 1.1 * (2.0 + i) + 0.5) for i in range(n)]


def test_points_from_a_file_give_the_line_they_lie_on(tmp_path: Path) -> None:
    csv = points(tmp_path / "p.csv", line(7))
    done = calibrate(tmp_path, "--points", csv, "--sensor", "rpi_pmic.rail_sum")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert row["gain"] == pytest.approx(1.1) and row["offset_w"] == pytest.approx(0.5)
    board = json.loads((tmp_path / FILE).read_text())["board"]
    kept = load(tmp_path, board)
    assert isinstance(kept, BoardCalibration) and kept.power is not None
    assert kept.power["rpi_pmic.rail_sum"].points == 7


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (line(5), "at least 6"),
        ([(3.0, 3.5)] * 8, "span"),
        ([(1 + i, 9 - i) for i in range(8)], "falls"),
    ],
)
def test_too_little_is_refused_and_nothing_kept(
    pairs: list[tuple[object, object]], told: str, tmp_path: Path
) -> None:
    csv = points(tmp_path / "p.csv", pairs)
    done = calibrate(tmp_path, "--points", csv, "--sensor", "rpi_pmic.rail_sum")
    assert isinstance(done.exception, CheckFailed) and told in str(done.exception)
    assert not (tmp_path / FILE).exists()


def test_a_bad_point_is_named_by_its_line(tmp_path: Path) -> None:
    csv = points(tmp_path / "p.csv", [(1, 2), ("x", 3)])
    done = calibrate(tmp_path, "--points", csv, "--sensor", "a.b")
    assert isinstance(done.exception, SpecError) and "p.csv:3" in str(done.exception)


def test_a_board_that_does_not_move_is_no_calibration(tmp_path: Path) -> None:
    # A fixture's PMIC reads the same at every load: six loads are made and the fit is refused.
    typed = "".join(f"{5 + i}\n" for i in range(6))
    done = calibrate(tmp_path, "--levels", "6", "--hold-s", "0.5", typed=typed)
    assert isinstance(done.exception, CheckFailed) and "span" in str(done.exception)
    assert "load 6 of 6" in done.stderr


def test_a_board_without_a_sensor_says_so(tmp_path: Path) -> None:
    done = calibrate(tmp_path, board="rpi4")
    assert isinstance(done.exception, UsageError) and "no total here" in str(done.exception)


def test_a_gauge_that_does_not_move_is_refused(tmp_path: Path) -> None:
    done = calibrate(
        tmp_path, "--gauge", "--levels", "6", "--hold-s", "0.5", board="phone_milliamp"
    )
    assert isinstance(done.exception, CheckFailed) and "no calibration" in str(done.exception)


def test_a_calibration_belongs_to_its_board(tmp_path: Path) -> None:
    store(tmp_path, BoardCalibration("Raspberry Pi 5 A", power={"rpi_pmic.rail_sum": FIT}))
    assert isinstance(load(tmp_path, "Raspberry Pi 5 A"), BoardCalibration)
    other = load(tmp_path, "Raspberry Pi 5 B")
    assert isinstance(other, Absent) and "calibrate again" in other.reason


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"board": "x"}')
    with pytest.raises(SpecError, match="not a calibration"):
        load(tmp_path, "x")


def test_applied_it_becomes_input_power_with_an_uncertainty() -> None:
    meter = Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True)
    raw = {"rpi_pmic.rail_sum": Series([0, 1], [3.0, 4.0], "power", "W", meter)}
    changed, why = apply(raw, BoardCalibration("b", power={"rpi_pmic.rail_sum": FIT}))
    one = changed["rpi_pmic.rail_sum"]
    assert list(one.value) == pytest.approx([3.76, 4.88]) and not why
    assert one.meter is not None and (one.meter.scope, one.meter.gain_u) == ("board_input", 0.01)


def test_outside_its_range_a_reading_stays_raw_and_says_why() -> None:
    meter = Meter(PowerTier.BOARD_SENSOR, "rail_sum", total=True)
    raw = {"s.c": Series([0, 1], [3.0, 40.0], "power", "W", meter)}
    changed, why = apply(raw, BoardCalibration("b", power={"s.c": FIT}))
    assert changed["s.c"] is raw["s.c"] and "calibrated for" in why["s.c"]


def test_loads_rise_from_nothing_to_every_cpu() -> None:
    totals = [sum(duties(level, 6, 4)) for level in range(6)]
    assert totals == pytest.approx([0, 0.8, 1.6, 2.4, 3.2, 4.0])
    assert all(0 < share <= 1 for level in range(6) for share in duties(level, 6, 4))


def test_loads_end_with_their_block() -> None:
    with pytest.raises(RuntimeError, match="stop"), busy((0.1, 0.2)):
        raise RuntimeError("stop")


class _Gauge:
    """A clock that a pause moves on, and with it the phone's gauge."""

    def __init__(self, current_now: Path) -> None:
        self._file = current_now
        self._pauses = 0

    def monotonic(self) -> float:
        return self._pauses * 0.5

    def sleep(self, _seconds: float) -> None:
        self._pauses += 1
        self._file.write_text(f"{-400 - self._pauses % 7}\n")


def test_the_gauge_of_a_discharging_phone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copy_of("phone_milliamp", tmp_path)
    folder = root / "sys/class/power_supply/battery"
    (folder / "status").write_text("Discharging\n")
    monkeypatch.setattr("assay.agent.cli.calibrate.time", _Gauge(folder / "current_now"))
    argv = ["calibrate", "power", "--gauge", "--home", str(tmp_path / "h"), "--levels", "6"]
    done = CliRunner().invoke(
        agent, [*argv, "--hold-s", "2", "--sysroot", str(root), "--format", "json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == [{"sign": -1, "unit_a": 0.001}]


def test_the_command_is_part_of_the_agent() -> None:
    assert isinstance(agent.get_command(click.Context(agent), "calibrate"), click.Group)
