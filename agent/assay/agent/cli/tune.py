"""``assay-agent tune``: what would make this board's numbers cleaner; sets it and puts it back."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.core.errors import Partial, UsageError
from assay.core.listing import format_option, print_rows

if TYPE_CHECKING:
    from assay.agent.tuning.advise import Board
    from assay.agent.tuning.apply import Done
    from assay.agent.tuning.knobs import Knob

_ADVICE = ("name", "state", "now", "wanted", "why")
_DONE = ("name", "what", "outcome")
_LONG_COMMAND_S = 60.0


@click.command(name="tune")
@click.option("--apply", "applying", is_flag=True, help="Set it, until --restore or a reboot.")
@click.option("--restore", "restoring", is_flag=True, help="Put back what --apply has set.")
@click.option("--power-mode", metavar="ID", help="Jetson: the nvpmodel ID to set first.")
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), help="The agent's home.")
@click.option(
    "--sysroot",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    help="A folder laid out like a board, instead of this one.",
)
@format_option
def tune_command(
    applying: bool,
    restoring: bool,
    power_mode: str | None,
    home: Path | None,
    sysroot: Path,
    output_format: str,
) -> None:
    """Say what would make numbers cleaner here; with --apply set it.

    Advice needs no root and changes nothing. What --apply changes is noted in the agent's home
    before it is changed, so that --restore can put it back. Exit code 3 where some could not be.
    """
    from assay.agent.home import AgentHome
    from assay.agent.sysroot import maybe_text, run_command
    from assay.agent.tuning.advise import advise
    from assay.agent.tuning.apply import apply, restore

    if applying and restoring:
        raise UsageError("--apply and --restore: give one")
    where = home or AgentHome.default().root
    boot_id = maybe_text(sysroot / "proc/sys/kernel/random/boot_id") or ""
    run = functools.partial(run_command, sysroot, timeout_s=_LONG_COMMAND_S)
    if restoring:
        _print_done(restore(sysroot, where, boot_id, run), output_format)
        return
    board = _board(sysroot, where, power_mode)
    if applying:
        _print_done(apply(advise(board), sysroot, where, boot_id, run), output_format)
        return
    _print_advice(advise(board), output_format)


def _board(sysroot: Path, home: Path, power_mode: str | None) -> Board:
    from assay.agent.config import AgentConfig
    from assay.agent.devices.detect import detect
    from assay.agent.measuring.affinity import CpuChooser
    from assay.agent.tuning.advise import Board

    device = detect(sysroot, (), ())
    online = frozenset(cpu for cluster in device.cpu.clusters for cpu in cluster.cpus)
    live = sysroot.resolve() == Path("/")
    chooser = CpuChooser(AgentConfig(sysroot=sysroot), None if live else online or frozenset({0}))
    plan = chooser.plan(device.cpu, 1)
    return Board(
        sysroot,
        device.device_class,
        plan.measure_cpus,
        plan.housekeeping_cpus,
        home / "tune-jetson-clocks.conf",
        power_mode,
    )


def _print_advice(knobs: tuple[Knob, ...], output_format: str) -> None:
    from assay.agent.tuning.knobs import State

    rows = [
        {
            "name": knob.name,
            "state": knob.state.value,
            "now": knob.now,
            "wanted": knob.wanted,
            "why": knob.absent or knob.by_hand or knob.why,
        }
        for knob in knobs
    ]
    print_rows(rows, _ADVICE, output_format)
    if any(knob.state is State.CHANGE for knob in knobs):
        click.echo("assay-agent tune --apply sets what is marked change (as root)", err=True)


def _print_done(done: tuple[Done, ...], output_format: str) -> None:
    rows = [{"name": d.knob, "what": d.what, "outcome": d.error or "done"} for d in done]
    print_rows(rows, _DONE, output_format)
    failed = [d for d in done if d.error]
    if failed:
        root = "" if os.geteuid() == 0 else " (run it as root)"
        raise Partial(f"{len(failed)} of {len(done)} failed: {failed[0].error}{root}")
    if not done:
        click.echo("nothing was to be done", err=True)
