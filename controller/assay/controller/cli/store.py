"""``assay store``: keeping what the controller knows."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.controller.home import Home
from assay.core.errors import NotFound
from assay.core.listing import format_option, print_rows

if TYPE_CHECKING:
    from assay.controller.admin.garbage import Piece


@click.group()
def store() -> None:
    """Keep what the controller knows."""


@store.command("backup")
@click.argument("target", type=click.Path(path_type=Path), metavar="FILE|DIRECTORY")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=7,
    show_default=True,
    help="In a DIRECTORY, how many backups stay; the oldest go.",
)
def backup_command(target: Path, keep: int) -> None:
    """Write everything into FILE: database, keys, artifacts. The controller may run.

    In a DIRECTORY that is there the file is named by its time. Whoever reads it can make devices
    and operators: keep it as you keep the home.
    """
    from assay.controller.store.backup import back_up, back_up_dated

    if target.is_dir():
        target, size = back_up_dated(Home.default(), target, keep)
    else:
        size = back_up(Home.default(), target)
    click.echo(f"{target}: {size / 2**20:.1f} MiB; `assay store restore` brings it back", err=True)


@store.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
def restore_command(file: Path) -> None:
    """Bring FILE back into a home that is empty or not there yet; every digest is checked.

    Devices find the controller again where it listens at the address and ports they know.
    """
    from assay.controller.store.backup import restore

    home = Home.default()
    restore(file, home)
    click.echo(f"{home.root} restored; `assay doctor` looks it over", err=True)


@store.command("check")
@click.option("--quick", is_flag=True, help="Do not read the files, only see that they are there.")
@format_option
def check_command(quick: bool, output_format: str) -> None:
    """See whether everything kept is whole. The controller may run.

    The database and what refers to what in it; every file against its digest; and that the files
    of variants, datasets and open rounds are there. Exit status 1 where something is broken.
    """
    from assay.controller.cli.doctor import tell
    from assay.controller.store import open_store
    from assay.controller.store.soundness import look

    home = _home()
    with contextlib.closing(open_store(home)) as opened:
        tell(home, look(home, opened, read=not quick, named=True), output_format)


@store.command("gc")
@click.option(
    "--grace-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="How long a file stays untouched before it may go; 0 only while nothing else runs.",
)
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@format_option
def gc_command(grace_hours: float, dry_run: bool, output_format: str) -> None:
    """Remove the files that nothing names any more, and list them. The controller may run.

    What stays: files of variants, trained networks, datasets, canaries, running sweeps and leased
    rounds; whatever a result was measured with, and its raw trace; and anything written or looked
    for within the grace, which a build or an upload may be about to name.
    """
    from assay.controller.admin.garbage import collect
    from assay.controller.admin.journal import Caller
    from assay.controller.admin.office import Office
    from assay.controller.store import open_store

    home, now_ns = _home(), time.time_ns()
    with contextlib.closing(open_store(home)) as opened:

        def work() -> list[Piece]:
            grace_ns = int(grace_hours * 3_600_000_000_000)
            return collect(home, opened, now_ns=now_ns, grace_ns=grace_ns, dry_run=dry_run)

        office = Office(home, opened, Caller.of_this_account())
        gone = work() if dry_run else office.do_local("store gc", work)
    rows = [
        {
            "kind": piece.kind,
            "file": piece.path.name,
            "bytes": piece.size_bytes,
            "age_h": round((now_ns - piece.modified_ns) / 3_600_000_000_000, 1),
        }
        for piece in gone
    ]
    print_rows(rows, ["kind", "file", "bytes", "age_h"], output_format)
    size = sum(piece.size_bytes for piece in gone) / 2**20
    said = "would go" if dry_run else "are gone"
    click.echo(f"{len(gone)} file(s), {size:.1f} MiB, {said}", err=True)


def _home() -> Home:
    home = Home.default()
    if not home.database.exists():
        raise NotFound(f"{home.root} holds no store; set ASSAY_HOME to the one that is meant")
    return home
