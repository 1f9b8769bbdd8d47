"""What a phone's services say, and what must not be read into it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from assay.agent.phones.conditions import (
    PhoneState,
    parse_state,
    power_absence,
    reasons_of,
    statuses_in,
)
from assay.agent.phones.invoke import FIXED, HEAT, OUTPUT, STATUS, command_line, detached
from assay.core.errors import RuntimeRejected
from assay.core.model import (
    PROFILES,
    ArtifactRef,
    InputSpec,
    RunSpec,
    RuntimeSpec,
    Scenario,
)

THERMAL = """IsStatusOverride: false
ThermalEventListeners:
Thermal Status: 0
Cached temperatures:
 Temperature{mValue=84.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
 Temperature{mValue=58.0, mType=0, mName=CPU0, mStatus=0}
"""
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  level: 76
  scale: 100
  voltage: 4211
Battery event log:
  level: 12
  voltage: 3300
  USB powered: false
"""


def state(thermal: str = THERMAL, battery: str = BATTERY, tail: str = "") -> PhoneState:
    tail = tail or "mWakefulness=Asleep\n@@airplane\n1\n"
    return parse_state(f"{thermal}@@battery\n{battery}@@screen\n{tail}")


def test_everything_told_is_read() -> None:
    assert state() == PhoneState(0, True, 0.76, "Asleep", True)


def test_status_0_without_a_hal_or_sensors_is_unknown_and_not_cool() -> None:
    assert state(thermal="Thermal Status: 0\nHAL Ready: false\n").thermal_status is None
    assert state(thermal="Thermal Status: 3\nHAL Ready: false\n").thermal_status == 3


def test_an_event_log_below_the_battery_does_not_count() -> None:
    assert state().battery_level == 0.76 and state().powered is True


def test_keys_that_nearly_are_those_do_not_count() -> None:
    near = "  Capacity level: 3\n  batteryLevel: 7\n  USB powered (HVDCP): false\n  time scale: 5\n"
    marked = BATTERY.replace("  AC powered", f"{near}  AC powered")
    assert state(battery=marked) == state()
    again = BATTERY.replace("  voltage: 4211\n", "  voltage: 4211\n  level: 3\n")
    assert state(battery=again) == state()


@pytest.mark.parametrize("indent", ["", "  "])
def test_an_event_log_answers_nothing_that_the_service_did_not_say(indent: str) -> None:
    log = "".join(f"{indent}{line}\n" for line in ("level: 12", "USB powered: true"))
    block = BATTERY.partition("Battery event log")[0]
    assert state(battery=f"{block}Battery event log:\n{log}") == state(battery=block)
    silent = block.replace("  level: 76\n", "")
    assert state(battery=f"{silent}Battery event log:\n{log}").battery_level is None


@pytest.mark.parametrize("text", ["", "Can't find service: thermalservice\n"])
def test_services_that_are_missing_tell_nothing(text: str) -> None:
    found = parse_state(f"{text}@@battery\n{text}@@screen\n@@airplane\nnull\n")
    assert found == PhoneState()
    assert parse_state("") == PhoneState()


def test_heat_makes_a_run_invalid_and_a_cable_suspect() -> None:
    reasons = reasons_of(state(), PhoneState(thermal_status=2), on_usb=True)
    assert [(r.code, r.hard) for r in reasons] == [("throttled", True), ("usb_powered", False)]
    quiet = PhoneState(0, False, 0.1)
    assert [r.code for r in reasons_of(quiet, quiet, on_usb=False)] == ["battery_low"]


def test_heat_that_is_gone_when_the_host_looks_again_counts() -> None:
    cool = PhoneState(0, False)
    during = statuses_in("@@run\nThermal Status: 0\n@@run\n  Thermal Status: 2\nlast\n")
    assert during == [0, 2]
    (found,) = reasons_of(cool, cool, on_usb=False, during=during)
    assert (found.code, found.hard) == ("throttled", True)
    assert reasons_of(cool, cool, on_usb=False, during=[0, 0]) == ()


def test_on_a_cable_there_is_no_energy_and_never_zero() -> None:
    assert "usb_powered" in power_absence(state(), on_usb=True).reason
    assert "usb_powered" in power_absence(PhoneState(powered=True), on_usb=False).reason
    assert "not calibrated" in power_absence(PhoneState(powered=False), on_usb=False).reason


def run_of(name: str, **spec: object) -> RunSpec:
    ref = ArtifactRef("sha256:" + "0" * 64, 1, "model/tflite")
    return RunSpec(
        "a", "c", "v", "v", ref, RuntimeSpec(name, **spec), Scenario(), PROFILES["quick"],  # type: ignore[arg-type]
        InputSpec("d", ref),
    )  # fmt: skip


def test_threads_and_time_reach_the_binary() -> None:
    argv, times = command_line(run_of("litert", threads=4), "/b", "/m")
    assert argv[:3] == ["/b", "--graph=/m", "--num_threads=4"] and times == 1
    assert "--min_secs=10" in argv
    argv, _ = command_line(run_of("onnxruntime", allow_spinning=False), "/b", "/m")
    assert argv[-1] == "/m" and "-D" in argv and "-I" in argv
    argv, times = command_line(run_of("ncnn"), "/b", "/m.param", (1, 28, 14))
    assert argv[-1] == "shape=[14,28,1]" and times > 10


def test_what_a_binary_cannot_do_is_refused_by_name() -> None:
    with pytest.raises(RuntimeRejected, match="given: graph"):
        command_line(run_of("onnxruntime", options={"graph": "all"}), "/b", "/m")
    with pytest.raises(RuntimeRejected, match="not on NNAPI"):
        command_line(run_of("litert", provider="NNAPI"), "/b", "/m")
    with pytest.raises(RuntimeRejected, match="no native benchmark binary of torch"):
        command_line(run_of("torch"), "/b", "/m")


def test_words_are_quoted_for_the_phones_shell() -> None:
    script = detached(["/b", "--graph=/m; rm -rf /"], 1, "/data/run", 0xF0)
    assert "taskset f0" in script and "'--graph=/m; rm -rf /'" in script.replace("'\"'\"'", "'")


@pytest.mark.parametrize(
    ("sdk", "status", "told"),
    [(34, 0, ["true", "false"]), (34, 255, ["true"]), (29, 0, [])],
)
def test_the_fixed_performance_mode_is_on_for_the_run_where_there_is_one(
    tmp_path: Path, sdk: int, status: int, told: list[str]
) -> None:
    # Before API 30 a phone may answer the unknown command with status 0.
    log = tmp_path / "log"
    commands = {
        "dumpsys": 'echo "Thermal Status: 1"',
        "getprop": f"echo {sdk}",
        "cmd": f'echo "$3" >> {log}; exit {status}',
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = detached(["sh", "-c", f"cat {log}; echo ran"], 1, str(tmp_path), 0)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    # The script's own session holds the pipe until it has ended.
    waiting = script.replace("> /dev/null 2>&1 &", "3>&1 > /dev/null 2>&1 &")
    subprocess.run(["sh", "-c", waiting], env=environment, capture_output=True, timeout=20)
    output = (tmp_path / OUTPUT).read_text()
    assert (tmp_path / STATUS).read_text() == "0\n" and "ran" in output
    assert statuses_in((tmp_path / HEAT).read_text()) == [1]
    assert (FIXED in output) is (told == ["true", "false"])
    said = log.read_text().split() if log.exists() else []
    assert said == told and (not told or "true" in output)
