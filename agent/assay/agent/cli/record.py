"""``assay-agent record``: a board's files and answers as one archive, to be sent in."""

from __future__ import annotations

from pathlib import Path

import click

from assay.core.errors import UsageError


@click.command(name="record")
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--sysroot",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    show_default=True,
    help="A folder laid out like a board, instead of this one.",
)
@click.option("--force", is_flag=True, help="Replace an archive that is there.")
def record_command(archive: Path, sysroot: Path, force: bool) -> None:
    """Write what the samplers would read here to ARCHIVE (.tar.gz); changes nothing.

    Serial numbers, MAC addresses, boot id and host name are left out. Replay it anywhere with
    assay-agent doctor --sysroot ARCHIVE.
    """
    from assay.agent.recording.archive import pack
    from assay.agent.recording.collect import collect

    if archive.exists() and not force:
        raise UsageError(f"{archive} is there already: name another file or use --force")
    collected = collect(sysroot)
    try:
        archive.write_bytes(pack(collected))
    except OSError as error:
        raise UsageError(f"{archive} cannot be written: {error.strerror}") from error
    denied = sum(why == "EACCES" for why in collected.silent.values())
    click.echo(f"{archive}: {len(collected.files)} files", err=True)
    if denied:
        click.echo(f"{denied} files may be read by root only: run it as root for those", err=True)
