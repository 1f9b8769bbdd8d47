"""``assay store``: keeping what the controller knows."""

from __future__ import annotations

from pathlib import Path

import click

from assay.controller.home import Home


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
