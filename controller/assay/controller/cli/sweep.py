"""``assay sweep``: measure variants on devices."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from assay.controller import toml_file
from assay.controller.admin.base import Administration
from assay.controller.admin.views import SweepFile, SweepLook, SweepPlan
from assay.controller.cli.office import with_office
from assay.core.errors import Partial
from assay.core.listing import format_option, print_rows

_MATRIX = ["device", "variant", "runtime", "threads", "scenario", "batch", "rounds"]
_LOOK = ["name", "state", "runs", "valid", "suspect", "invalid", "id"]
_ROUNDS = ["round", "group", "device", "state", "runs", "grants", "trouble", "id"]


@click.group()
def sweep() -> None:
    """Measure variants on devices, here or with --controller elsewhere."""


@sweep.command("plan")
@click.argument("file", type=click.Path(path_type=Path))
@format_option
@with_office
def plan_command(office: Administration, file: Path, output_format: str) -> None:
    """Print what FILE would measure, and how long that takes; nothing is started."""
    _plan(office, file, output_format)


@sweep.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--follow/--no-follow", "following", default=True, help="Watch until it ends.")
@click.option("--dry-run", is_flag=True, help="Like `sweep plan`.")
@with_office
def run_command(office: Administration, file: Path, following: bool, dry_run: bool) -> None:
    """Start the sweep of FILE, or resume it where it stopped.

    Variants of the recipes that FILE names are built first; with --controller it may name none:
    build them where the controller runs.

    Ctrl-C leaves the view; the sweep goes on. Exit status 0: every cell has its VALID results;
    3: some have not; 4: no controller is serving.
    """
    if dry_run:
        _plan(office, file, "table")
        return
    with _patience("planning"):
        started = office.run_sweep(_read(file))
    if started.plan is not None:
        _say_plan(started.plan)
    else:
        said = f"sweep {started.sweep.name} resumed: {started.rounds_added} rounds added"
        click.echo(said, err=True)
    _watch(office, started.sweep.name, following)


@sweep.command("resume")
@click.argument("name")
@click.option("--follow/--no-follow", "following", default=True, help="Watch until it ends.")
@with_office
def resume_command(office: Administration, name: str, following: bool) -> None:
    """Measure again what sweep NAME lacks: cells without their number of VALID results."""
    started = office.resume_sweep(name)
    click.echo(f"{started.rounds_added} rounds added", err=True)
    _watch(office, started.sweep.name, following)


@sweep.command("status")
@click.argument("name")
@click.option("--follow", "following", is_flag=True, help="Watch until it ends, as `sweep run`.")
@format_option
@with_office
def status_command(office: Administration, name: str, following: bool, output_format: str) -> None:
    """Print how sweep NAME stands.

    Exit status with --follow as of `sweep run`.
    """
    if following:
        _watch(office, name, following)
        return
    look = office.look_at_sweep(name)
    more = {"cells": look.cells, "short": look.cells_short, "left_s": round(look.left_ns / 1e9)}
    print_rows([{**_row(look), **more}], [*_LOOK[:-1], *more], output_format)


@sweep.command("cancel")
@click.argument("name")
@with_office
def cancel_command(office: Administration, name: str) -> None:
    """Stop sweep NAME; what was measured stays."""
    office.cancel_sweep(name)
    click.echo(f"sweep {name} cancelled; `assay sweep resume {name}` takes it up again", err=True)


@sweep.command("prioritise")
@click.argument("name")
@click.argument("priority", type=click.IntRange(-1000, 1000))
@with_office
def prioritise_command(office: Administration, name: str, priority: int) -> None:
    """Put sweep NAME before those of lower PRIORITY (0 unless changed); equals take turns."""
    office.prioritise_sweep(name, priority)
    click.echo(f"sweep {name} has priority {priority}", err=True)


@sweep.command("list")
@format_option
@with_office
def list_command(office: Administration, output_format: str) -> None:
    """List the sweeps, the newest last."""
    print_rows([_row(look) for look in office.look_at_sweeps()], _LOOK, output_format)


@sweep.command("show")
@click.argument("name")
@format_option
@with_office
def show_command(office: Administration, name: str, output_format: str) -> None:
    """Show the rounds of sweep NAME and how each stands."""
    rows = [
        {
            "round": round_.index,
            "group": round_.group,
            "device": round_.device,
            "state": round_.state,
            "runs": round_.runs,
            "grants": round_.grants,
            "trouble": round_.trouble,
            "id": round_.round_id,
        }
        for round_ in office.rounds(name)
    ]
    print_rows(rows, _ROUNDS, output_format)


def _plan(office: Administration, file: Path, output_format: str) -> None:
    with _patience("planning"):
        plan = office.plan_sweep(_read(file))
    rows = [
        {
            "device": cell.device,
            "variant": cell.variant,
            "runtime": cell.runtime,
            "threads": cell.threads,
            "scenario": cell.scenario,
            "batch": cell.batch,
            "rounds": plan.rounds_each,
            "cell": cell.cell_key,
        }
        for cell in plan.cells
    ]
    print_rows(rows, _MATRIX, output_format)
    _say_plan(plan)


def _read(file: Path) -> SweepFile:
    return SweepFile(str(file), toml_file.read(file), file.parent)


def _say_plan(plan: SweepPlan) -> None:
    for entry in plan.left_out:
        click.echo(
            f"left out: {entry.variant} in {entry.runtime} on {entry.device}: {entry.reason}",
            err=True,
        )
    click.echo(
        f"{plan.measured} cells, {plan.rounds} rounds, {plan.runs} runs with the canaries: "
        f"about {plan.estimate_ns / 6e10:.0f} min",
        err=True,
    )


@contextlib.contextmanager
def _patience(what: str) -> Iterator[None]:
    """Shows that something goes on; nothing where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def _watch(office: Administration, name: str, following: bool) -> None:
    from assay.controller.terminal.follow import follow

    looks = office.watch_sweep(name)
    if not following:
        # That there is one says that somebody serves the sweep.
        next(looks)
        return
    try:
        look = follow(looks)
    except KeyboardInterrupt:
        click.echo(
            f"\nleft the view; the sweep goes on. `assay sweep status {name} --follow` looks "
            f"again, `assay sweep cancel {name}` stops it",
            err=True,
        )
        os._exit(0)
    _judge(look)


def _judge(look: SweepLook) -> None:
    name = look.sweep.name
    state = look.sweep.state.value
    click.echo(f"sweep {name} {state}: `assay report {name} -o report.html`", err=True)
    if look.cells_short:
        raise Partial(
            f"{look.cells_short} of {look.cells} cells have fewer than {look.sweep.rounds} VALID "
            f"results; `assay result list {name}` says why, `assay sweep resume {name}` measures "
            "again"
        )


def _row(look: SweepLook) -> dict[str, Any]:
    return {
        "name": look.sweep.name,
        "state": look.sweep.state.value,
        "runs": f"{look.runs_done}/{look.runs_total}",
        "valid": look.verdicts.get("valid", 0),
        "suspect": look.verdicts.get("suspect", 0),
        "invalid": look.verdicts.get("invalid", 0),
        "priority": look.sweep.priority,
        "id": look.sweep.sweep_id,
    }
