"""``assay report``: what a sweep says."""

from __future__ import annotations

from pathlib import Path

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office


@click.command("report")
@click.argument("sweep")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one HTML file that opens without a network (Markdown where the name ends in .md); "
    "without it the terminal is used.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Compare although conditions or factors differ that nobody asked to vary, and name them.",
)
@with_office
def report_command(office: Administration, sweep: str, output: Path | None, force: bool) -> None:
    """Show what SWEEP says: as tables and sentences here, or as a file, HTML with charts."""
    from assay.controller.comparing.numbers import size

    if output is None:
        _show(office, sweep, force=force)
        return
    body = office.report(sweep, markdown=output.suffix == ".md", force=force)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all.
    partial = output.with_name(output.name + ".part")
    partial.write_bytes(body)
    partial.replace(output)
    click.echo(f"wrote {output} ({size(len(body))})", err=True)


def _show(office: Administration, sweep: str, *, force: bool) -> None:
    from rich.console import Console

    from assay.controller.admin.office import Office
    from assay.controller.comparing.summary import summarise
    from assay.controller.comparing.sweep_data import load_sweep
    from assay.controller.terminal.table import render_summary

    if not isinstance(office, Office):
        # The tables are made of what the store holds, and that is elsewhere.
        click.echo(office.report(sweep, markdown=True, force=force).decode())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    render_summary(summarise(load_sweep(office.store, sweep), force=force), console)
