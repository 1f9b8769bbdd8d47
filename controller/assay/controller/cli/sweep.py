"""``assay sweep``: measure variants on devices."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.home import Home
from assay.controller.planning import sweeps
from assay.controller.planning.cells import Skipped
from assay.controller.planning.plan import Plan
from assay.controller.planning.progress import Progress, lacking, measure_progress
from assay.controller.planning.spec import SweepSpec, load_spec
from assay.controller.records import SweepRecord
from assay.controller.server.running import running_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.terminal.follow import follow
from assay.core.cas import ContentStore
from assay.core.errors import Partial, Unreachable
from assay.core.listing import format_option, print_rows


@click.group()
def sweep() -> None:
    """Measure variants on devices."""


@sweep.command("plan")
@click.argument("file", type=click.Path(path_type=Path))
@format_option
def plan_command(file: Path, output_format: str) -> None:
    """Print what FILE would measure, and how long that takes; nothing is started."""
    home = Home.default()
    store = open_store(home)
    spec = load_spec(file)
    _build_recipes(spec, file.parent, store, home)
    made = sweeps.plan_sweep(spec, store, ContentStore(home.artifacts))
    print_rows(_matrix(made, store), _MATRIX, output_format)
    _say_skipped(made.skipped)
    click.echo(_size(made), err=True)


@sweep.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--follow/--no-follow", "following", default=True, help="Watch until it ends.")
@click.option("--dry-run", is_flag=True, help="Like `sweep plan`.")
@click.pass_context
def run_command(ctx: click.Context, file: Path, following: bool, dry_run: bool) -> None:
    """Start the sweep of FILE, or resume it where it stopped.

    Ctrl-C leaves the view; the sweep goes on. Exit status 0: every cell has its VALID results;
    3: some have not; 4: no controller is serving.
    """
    if dry_run:
        ctx.invoke(plan_command, file=file, output_format="table")
        return
    home = Home.default()
    store = open_store(home)
    spec = load_spec(file)
    _build_recipes(spec, file.parent, store, home)
    done = sweeps.submit(spec, store, ContentStore(home.artifacts))
    if done.plan is not None:
        _say_skipped(done.plan.skipped)
        click.echo(_size(done.plan), err=True)
    else:
        click.echo(f"sweep {spec.name} resumed: {len(done.added)} rounds added", err=True)
    _watch(store, home, done.sweep, following)


@sweep.command("resume")
@click.argument("name")
@click.option("--follow/--no-follow", "following", default=True, help="Watch until it ends.")
def resume_command(name: str, following: bool) -> None:
    """Measure again what sweep NAME lacks: cells without their number of VALID results."""
    home = Home.default()
    store = open_store(home)
    done = sweeps.resume(store.sweep(name), store)
    click.echo(f"{len(done.added)} rounds added", err=True)
    _watch(store, home, done.sweep, following)


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
def list_command(output_format: str) -> None:
    """List the sweeps, the newest last."""
    store = open_store(Home.default())
    rows = [_sweep_row(record, _progress(store, record)) for record in store.sweeps()]
    print_rows(rows, ["name", "state", "runs", "valid", "suspect", "invalid", "id"], output_format)


@sweep.command("show")
@click.argument("name")
@format_option
def show_command(name: str, output_format: str) -> None:
    """Show the rounds of sweep NAME and how each stands."""
    store = open_store(Home.default())
    record = store.sweep(name)
    devices = {d.device_id: d.name for d in store.devices()}
    rows = [
        {
            "round": round_.index,
            "group": round_.group,
            "device": devices.get(round_.device_id, round_.device_id),
            "state": round_.state.value,
            "runs": len(round_.runs),
            "grants": round_.fence,
            "id": round_.round_id,
        }
        for round_ in store.rounds(record.sweep_id)
    ]
    print_rows(rows, ["round", "group", "device", "state", "runs", "grants", "id"], output_format)


_MATRIX = ["device", "variant", "runtime", "threads", "scenario", "batch", "rounds"]


def _matrix(made: Plan, store: Store) -> list[dict[str, Any]]:
    devices = {d.device_id: d.name for d in store.devices()}
    return [
        {
            "device": devices[cell.device_id],
            "variant": cell.run.variant_name,
            "runtime": cell.run.runtime.name,
            "threads": cell.run.runtime.threads,
            "scenario": cell.run.scenario.kind.value,
            "batch": cell.run.scenario.samples_per_query,
            "rounds": made.sweep.rounds,
            "cell": cell.cell_key,
        }
        for cell in made.cells
    ]


def _size(made: Plan) -> str:
    cells = sum(not cell.run.canary for cell in made.cells)
    runs = sum(len(round_.runs) for round_ in made.rounds)
    return (
        f"{cells} cells, {len(made.rounds)} rounds, {runs} runs with the canaries: "
        f"about {made.estimate_ns / 6e10:.0f} min"
    )


def _say_skipped(skipped: tuple[Skipped, ...]) -> None:
    for entry in skipped:
        click.echo(
            f"left out: {entry.variant} in {entry.runtime} on {entry.device}: {entry.reason}",
            err=True,
        )


def _build_recipes(spec: SweepSpec, folder: Path, store: Store, home: Home) -> None:
    if not spec.recipes:
        return
    from assay.controller.variants import build_variants

    build_variants(
        [folder / path for path in spec.recipes],
        store.dataset(spec.dataset),
        store,
        ContentStore(home.artifacts),
    )


def _watch(store: Store, home: Home, record: SweepRecord, following: bool) -> None:
    serving = running_controller(home) is not None
    if not serving:
        raise Unreachable(
            f"sweep {record.name} is stored and waits, but no controller serves {home.root}: "
            "start one with `assay controller serve`"
        )
    if not following:
        return
    try:
        seen = follow(store, record.sweep_id, alive=lambda: running_controller(home) is not None)
    except KeyboardInterrupt:
        click.echo(
            f"\nleft the view; the sweep goes on. `assay sweep run` or `assay sweep list` looks "
            f"again, `assay sweep cancel {record.name}` stops it",
            err=True,
        )
        os._exit(0)
    _judge(store, record, seen)


def _judge(store: Store, sweep: SweepRecord, seen: Progress) -> None:
    name = sweep.name
    if not seen.ended:
        raise Unreachable(f"the controller went away; sweep {name} goes on when it is back")
    click.echo(f"sweep {name} {seen.state.value}: `assay report {name} -o report.html`", err=True)
    cells = [c for c in store.cells(sweep.sweep_id) if not c.run.canary]
    short = lacking(sweep, cells, store.results(sweep_id=sweep.sweep_id))
    if short:
        raise Partial(
            f"{len(short)} of {len(cells)} cells have fewer than {sweep.rounds} VALID results; "
            f"`assay result list {name}` says why, `assay sweep resume {name}` measures again"
        )


def _progress(store: Store, record: SweepRecord) -> Progress:
    sweep_id = record.sweep_id
    return measure_progress(record, store.rounds(sweep_id), store.results(sweep_id=sweep_id))


def _sweep_row(record: SweepRecord, seen: Progress) -> dict[str, Any]:
    return {
        "name": record.name,
        "state": record.state.value,
        "runs": f"{seen.runs_done}/{seen.runs_total}",
        "valid": seen.verdicts.get("valid", 0),
        "suspect": seen.verdicts.get("suspect", 0),
        "invalid": seen.verdicts.get("invalid", 0),
        "id": record.sweep_id,
    }
