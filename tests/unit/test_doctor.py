"""``assay-agent doctor`` says what can be measured and why the rest cannot."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.agent.cli import agent
from assay.agent.cli.doctor import doctor_command
from assay.agent.examine import ABSENT, OK, REFUSED, WARN, Finding, can_measure, examine
from assay.agent.permissions import may_renice, may_reset_peak, may_run_fifo
from assay.agent.platform import board_problem, python_problem, require_supported, userland_bits
from assay.core.errors import CheckFailed, UnsupportedPlatform, UsageError
from assay.core.model import Absent, RuntimeFacts
from tests.boards import composed, copy_of, names

LITERT = RuntimeFacts("litert", "2.1.0", ("xnnpack",))
NO_ORT = ("onnxruntime", Absent("onnxruntime is not installed"))
LIVE = Path("/")


def found(board: str) -> dict[tuple[str, str], Finding]:
    return {(f.area, f.name): f for f in examine(composed(board), ())}


def rows_of(*arguments: str) -> list[dict[str, str]]:
    done = CliRunner().invoke(doctor_command, [*arguments, "--format", "json"])
    rows: list[dict[str, str]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("board", names())
def test_whatever_is_missing_has_a_reason(board: str) -> None:
    findings = examine(composed(board), ())
    assert {f.area for f in findings} >= {"board", "conditions", "power", "sampler"}
    for finding in findings:
        assert finding.status in (OK, ABSENT, WARN, REFUSED)
        if finding.status != OK:
            assert finding.detail or finding.value, finding
        if finding.status == ABSENT:
            assert finding.detail, finding


def test_a_pi_4_says_why_it_has_no_power_and_what_would_help() -> None:
    pi = found("rpi4")
    assert pi["power", "source"].status == ABSENT
    assert "attach a meter" in pi["power", "source"].detail
    throttling = pi["conditions", "throttling"]
    assert throttling.status == WARN
    assert throttling.value == "under_voltage since boot throttled since boot"
    assert pi["conditions", "governor"].status == OK


def test_a_pi_5_warns_of_its_supply_before_a_run_does(tmp_path: Path) -> None:
    assert found("rpi5")["conditions", "supply"].value == "5.14 V"
    root = copy_of("rpi5", tmp_path)
    pmic = root / "commands/vcgencmd-pmic_read_adc.txt"
    pmic.write_text(pmic.read_text().replace("=5.13872000V", "=4.69000000V"))
    sagging = next(f for f in examine(root, ()) if f.name == "supply")
    assert sagging.status == WARN and "27 W supply" in sagging.detail
    assert ("conditions", "supply") not in found("rpi4")


def test_a_jetson_names_its_power_source_and_scope() -> None:
    jetson = found("jetson_orin_nano")
    assert jetson["power", "ina3221"].detail == "scope: module"
    assert jetson["sampler", "ina3221"].value.startswith("total=5.2177")
    assert jetson["conditions", "governor"].status == WARN
    assert "jetson_clocks" in jetson["conditions", "governor"].detail
    assert jetson["board", "power mode"].value == "MAXN_SUPER"


def test_a_meter_wired_backwards_is_told(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    (root / "sys/class/hwmon/hwmon2/curr1_input").write_text("-400\n")
    meter = next(f for f in examine(root, ()) if (f.area, f.name) == ("sampler", "ina2xx"))
    assert meter.status == WARN and "ASSAY_AGENT_INA2XX_SIGN" in meter.detail
    assert "watts" not in meter.value


def test_a_shunt_nobody_stated_is_the_reason_for_no_power(tmp_path: Path) -> None:
    root = copy_of("rpi4_ina219", tmp_path)
    (root / "sys/class/hwmon/hwmon2/shunt_resistor").write_text("10000\n")
    source = next(f for f in examine(root, ()) if (f.area, f.name) == ("power", "source"))
    assert "ASSAY_AGENT_INA2XX_SHUNT_UOHM" in source.detail


def test_a_hot_board_is_warned_about() -> None:
    warmth = found("rpi3bplus")["conditions", "temperature"]
    assert warmth.status == WARN and "60.7 C" in warmth.value


def test_a_live_board_without_any_runtime_can_measure_nothing() -> None:
    findings = examine(LIVE, (NO_ORT,))
    missing = next(f for f in findings if f.area == "runtime")
    assert (missing.status, missing.detail) == (ABSENT, "onnxruntime is not installed")
    assert not can_measure(findings, LIVE)


def test_a_live_board_with_one_runtime_can_measure() -> None:
    findings = examine(LIVE, (LITERT, NO_ORT))
    assert can_measure(findings, LIVE)
    assert {f.name for f in findings if f.area == "isolation"} == {
        "cpus",
        "SCHED_FIFO",
        "nice -10",
        "memory peak reset",
        "native loop",
    }


def test_a_refused_platform_can_measure_nothing() -> None:
    refused = Finding("platform", "python", REFUSED, "3.8", "too old")
    assert not can_measure([refused, Finding("runtime", "litert", OK)], LIVE)


def test_the_command_replays_another_board_in_every_format() -> None:
    root = str(composed("rpi5"))
    rows = rows_of("--sysroot", root)
    assert {"area", "name", "status", "value", "detail"} == set(rows[0])
    assert any(row["name"] == "rpi_pmic" and "pmic_rail_sum_w" in row["value"] for row in rows)
    assert not any(row["area"] in ("platform", "isolation", "runtime") for row in rows)
    as_csv = CliRunner().invoke(doctor_command, ["--sysroot", root, "--format", "csv"]).stdout
    assert len(list(csv.DictReader(io.StringIO(as_csv)))) == len(rows)
    table = CliRunner().invoke(doctor_command, ["--sysroot", root])
    assert table.exit_code == 0 and "Raspberry Pi 5" in table.stdout


def test_a_board_where_nothing_answers_fails_the_check() -> None:
    done = CliRunner().invoke(doctor_command, ["--sysroot", str(composed("bare"))])
    assert isinstance(done.exception, CheckFailed)
    assert done.exception.meaning.exit_code == 1
    assert "unknown" in done.stdout


def test_a_sysroot_that_is_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(doctor_command, ["--sysroot", str(tmp_path / "no")])
    assert isinstance(done.exception, UsageError)


def test_asking_for_permissions_leaves_nothing_changed() -> None:
    import os

    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)
    for answer in (may_run_fifo(), may_renice(), may_reset_peak()):
        assert isinstance(answer, Absent) is not isinstance(answer, str)
        assert str(answer)
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)) == before


def test_fifo_under_the_default_limit_is_for_short_blocks_only() -> None:
    answer = may_run_fifo(composed("rpi5"))
    if isinstance(answer, str):
        assert "0.5 s" in answer and "950000" in answer
    else:
        assert "LimitRTPRIO" in answer.reason


# Unsupported platforms


@pytest.mark.parametrize("version", [(3, 6), (3, 8), (3, 9)])
def test_an_old_python_is_refused_with_the_remedy(version: tuple[int, int]) -> None:
    problem = python_problem(version)
    assert f"{version[0]}.{version[1]}" in problem and "JetPack" in problem


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (4, 0)])
def test_a_newer_python_is_fine(version: tuple[int, int]) -> None:
    assert python_problem(version) == ""


@pytest.mark.parametrize(
    ("machine", "remedy"),
    [
        ("aarch64", "64-bit already"),
        ("armv7l", "ncnn"),
        ("armv6l", "no 64-bit mode"),
        ("i686", "no 64-bit mode"),
    ],
)
def test_a_32_bit_system_is_refused_with_the_remedy(machine: str, remedy: str) -> None:
    assert remedy in board_problem(machine, 32, ncnn=False)
    assert board_problem(machine, 32, ncnn=True) == ""
    assert board_problem(machine, 64) == ""


def test_this_platform_is_supported() -> None:
    require_supported()
    assert userland_bits() == 64


def test_a_refused_board_may_ask_the_doctor_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise UnsupportedPlatform("32-bit")

    monkeypatch.setattr("assay.agent.cli.require_supported", refuse)
    asked = CliRunner().invoke(agent, ["doctor", "--sysroot", str(composed("rpi5"))])
    assert asked.exit_code == 0
    for command in ("run", "bench", "enrol"):
        done = CliRunner().invoke(agent, [command])
        assert isinstance(done.exception, UnsupportedPlatform)
        assert done.exception.meaning.exit_code == 1


def test_what_refuses_old_pythons_has_only_syntax_they_can_parse() -> None:
    import ast

    import assay.agent
    import assay.agent.platform

    for module in (assay.agent, assay.agent.platform):
        source = Path(str(module.__file__)).read_text()
        ast.parse(source, feature_version=(3, 6))
        assert "__future__" not in source
