"""Advice for clean numbers from fake boards; what is set is put back, whatever happens between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.agent.cli import agent
from assay.agent.sysroot import maybe_text
from assay.agent.tuning.advise import Board, advise
from assay.agent.tuning.apply import FILE, apply, restore
from assay.agent.tuning.knobs import CommandChange, FileChange, Knob, State
from assay.core.errors import Partial, SamplerError, SpecError
from tests.boards import copy_of, write

POLICY = "sys/devices/system/cpu/cpufreq/policy0"
UNITS = (
    "commands/systemctl-list-units-state-active-plain-no-legend-no-pager.txt",
    "cron.service loaded active running Cron\napt-daily.timer loaded active waiting Daily apt\n",
)


class Commands:
    """Answers every command with nothing; those that begin like ``broken`` fail."""

    def __init__(self, broken: str = "") -> None:
        self.ran: list[str] = []
        self.broken = broken

    def __call__(self, *argv: str) -> str:
        self.ran.append(" ".join(argv))
        if self.broken and self.ran[-1].startswith(self.broken):
            raise SamplerError(f"{argv[0]}: status 1: refused")
        return ""


@pytest.fixture
def pi(tmp_path: Path) -> Path:
    root = copy_of("rpi5", tmp_path)
    return write(
        root,
        {
            f"{POLICY}/scaling_available_governors": "ondemand performance",
            "proc/irq/40/smp_affinity_list": "0-3",
            "proc/irq/40/effective_affinity_list": "3",
            "proc/irq/41/smp_affinity_list": "0",
            "proc/swaps": "Filename Type Size Used Priority\n/dev/zram0 partition 999 512 100",
            UNITS[0]: UNITS[1],
        },
    )


def board(root: Path, device_class: str = "rpi5", power_mode: str | None = None) -> Board:
    return Board(root, device_class, (1, 2, 3), (0,), Path("/home/clocks"), power_mode)


def knob(board_: Board, name: str) -> Knob:
    (found,) = [one for one in advise(board_) if one.name == name]
    return found


def test_a_pi_is_told_what_to_change_and_what_is_a_persons_business(pi: Path) -> None:
    states = {one.name: one.state for one in advise(board(pi))}
    assert states == {
        "governor": State.CHANGE,
        "real-time limit": State.CHANGE,
        "services": State.CHANGE,
        "interrupts": State.CHANGE,
        "isolated cpus": State.BY_HAND,
        "swap": State.BY_HAND,
    }
    assert knob(board(pi), "services").now == "apt-daily.timer"
    assert "isolcpus=managed_irq,domain,1,2,3" in knob(board(pi), "isolated cpus").by_hand
    (moved,) = knob(board(pi), "interrupts").changes
    assert moved == FileChange("proc/irq/40/smp_affinity_list", "0-3", "0")


def test_a_tuned_board_is_left_alone(pi: Path) -> None:
    write(
        pi,
        {
            f"{POLICY}/scaling_governor": "performance",
            "proc/sys/kernel/sched_rt_runtime_us": "-1",
            "proc/irq/40/effective_affinity_list": "0",
            "sys/devices/system/cpu/isolated": "1-3",
            "proc/swaps": "Filename Type Size Used Priority",
            UNITS[0]: "cron.service loaded active running Cron",
        },
    )
    assert {one.state for one in advise(board(pi))} == {State.FINE}


def test_without_a_cpu_of_its_own_real_time_keeps_its_limit(pi: Path) -> None:
    shared = Board(pi, "rpi5", (0,), (0,), Path("/home/clocks"))
    assert not knob(shared, "real-time limit").changes
    assert knob(shared, "isolated cpus").state is State.BY_HAND


def test_a_boost_is_turned_off_by_either_name(tmp_path: Path) -> None:
    root = copy_of("x86_laptop", tmp_path)
    write(root, {"sys/devices/system/cpu/intel_pstate/no_turbo": "0"})
    (change,) = knob(board(root, "x86_64"), "boost").changes
    assert isinstance(change, FileChange) and change.wanted == "1"
    other = copy_of("x86_server", tmp_path)
    write(other, {"sys/devices/system/cpu/cpufreq/boost": "1"})
    (change,) = knob(board(other, "x86_64"), "boost").changes
    assert isinstance(change, FileChange) and change.wanted == "0"


def test_a_ceiling_below_the_hardware_is_said_and_not_raised(pi: Path) -> None:
    write(pi, {f"{POLICY}/scaling_max_freq": "1500000", f"{POLICY}/cpuinfo_max_freq": "2400000"})
    found = knob(board(pi), "clock ceiling")
    assert found.state is State.BY_HAND and "1500 of 2400 MHz" in found.now


def test_a_jetsons_power_mode_comes_before_its_clocks_and_goes_back_after(tmp_path: Path) -> None:
    root = copy_of("jetson_orin_nano", tmp_path)
    for folder in (root / "sys/devices/system/cpu/cpufreq").glob("policy*"):
        (folder / "scaling_min_freq").write_text("729600\n")
        (folder / "scaling_max_freq").write_text("1510400\n")
    asked, commands = board(root, "jetson_orin_nano", "0"), Commands()
    knobs = [one for one in advise(asked) if one.name in ("power mode", "jetson_clocks")]
    apply(knobs, root, tmp_path, "b", commands)
    assert commands.ran == [
        "nvpmodel -m 0",
        "jetson_clocks --store /home/clocks",
        "jetson_clocks",
    ]
    again = Commands()
    apply(knobs, root, tmp_path, "b", again)
    assert "jetson_clocks --store /home/clocks" not in again.ran, "it would store locked clocks"
    back = Commands()
    restore(root, tmp_path, "b", back)
    assert back.ran == ["jetson_clocks --restore /home/clocks", "nvpmodel -m 2"]


def test_what_was_set_is_put_back_in_the_reverse_order(pi: Path, tmp_path: Path) -> None:
    commands = Commands()
    done = apply(advise(board(pi)), pi, tmp_path, "b", commands)
    assert not [one for one in done if one.error]
    assert maybe_text(pi / POLICY / "scaling_governor") == "performance"
    assert maybe_text(pi / "proc/irq/40/smp_affinity_list") == "0"
    back = restore(pi, tmp_path, "b", commands)
    assert [one.knob for one in back] == [one.knob for one in done][::-1]
    assert maybe_text(pi / POLICY / "scaling_governor") == "ondemand"
    assert maybe_text(pi / "proc/sys/kernel/sched_rt_runtime_us") == "950000"
    assert maybe_text(pi / "proc/irq/40/smp_affinity_list") == "0-3"
    assert commands.ran == ["systemctl stop apt-daily.timer", "systemctl start apt-daily.timer"]
    assert not (tmp_path / FILE).exists() and restore(pi, tmp_path, "b", commands) == ()


def test_setting_twice_keeps_what_stood_before_the_first_time(pi: Path, tmp_path: Path) -> None:
    apply(advise(board(pi)), pi, tmp_path, "b", Commands())
    write(pi, {f"{POLICY}/scaling_governor": "schedutil"})
    apply(advise(board(pi)), pi, tmp_path, "b", Commands())
    restore(pi, tmp_path, "b", Commands())
    assert maybe_text(pi / POLICY / "scaling_governor") == "ondemand"


def test_one_change_that_fails_is_told_and_kept_for_another_try(pi: Path, tmp_path: Path) -> None:
    (pi / "proc/irq/40/smp_affinity_list").unlink()
    (pi / "proc/irq/40/smp_affinity_list").mkdir()
    knobs = (
        Knob("interrupts", "", "", "", (FileChange("proc/irq/40/smp_affinity_list", "3", "0"),)),
        Knob("services", "", "", "", (CommandChange("u", ("stop", "u"), ("start", "u")),)),
    )
    first, second = apply(knobs, pi, tmp_path, "b", Commands())
    assert "/proc/irq/40/smp_affinity_list" in first.error and not second.error
    back = restore(pi, tmp_path, "b", Commands(broken="start"))
    assert [bool(one.error) for one in back] == [True, True]
    assert len(json.loads((tmp_path / FILE).read_text())["changes"]) == 2


def test_a_reboot_has_undone_all_but_the_power_mode(tmp_path: Path) -> None:
    write(tmp_path, {"sys/a": "1"})
    mode = CommandChange("m", ("nvpmodel", "-m", "0"), ("nvpmodel", "-m", "2"), True)
    knobs = (
        Knob("mode", "", "", "", (mode,)),
        Knob("a", "", "", "", (FileChange("sys/a", "1", "0"),)),
    )
    apply(knobs, tmp_path, tmp_path, "yesterday", Commands())
    commands = Commands()
    done = restore(tmp_path, tmp_path, "today", commands)
    assert "which the reboot has done" in done[0].what and maybe_text(tmp_path / "sys/a") == "0"
    assert commands.ran == ["nvpmodel -m 2"]


def test_a_broken_note_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"changes": [{"knob": "x"}]}')
    with pytest.raises(SpecError, match="put the board back by hand"):
        restore(tmp_path, tmp_path, "b", Commands())


def tune(root: Path, home: Path, *argv: str) -> tuple[list[dict[str, str]], BaseException | None]:
    given = ["tune", "--sysroot", str(root), "--home", str(home), "--format", "json", *argv]
    done = CliRunner().invoke(agent, given)
    return json.loads(done.stdout), done.exception


def test_the_command_advises_sets_and_puts_back(pi: Path, tmp_path: Path) -> None:
    rows, error = tune(pi, tmp_path)
    assert error is None and not (tmp_path / FILE).exists()
    assert {"governor", "interrupts"} <= {r["name"] for r in rows if r["state"] == "change"}
    # No recording answers `systemctl stop`, so one of the changes fails, and is said to.
    rows, error = tune(pi, tmp_path, "--apply")
    assert isinstance(error, Partial) and "systemctl" in str(error)
    assert maybe_text(pi / POLICY / "scaling_governor") == "performance"
    tune(pi, tmp_path, "--restore")
    assert maybe_text(pi / POLICY / "scaling_governor") == "ondemand"
