"""``assay report``: what a sweep says."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("sweep")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write one HTML file that opens without a network (Markdown where the name ends in .md); "
    "without it the terminal is used.",
)
def report_command(sweep: str, output: Path | None) -> None:
    """Show what SWEEP says: as tables and sentences here, or as a file, HTML with charts."""
    from rich.console import Console

    from assay.controller.comparing.numbers import size
    from assay.controller.comparing.summary import summarise
    from assay.controller.comparing.sweep_data import load_sweep
    from assay.controller.home import Home
    from assay.controller.report import write_report
    from assay.controller.store import open_store
    from assay.controller.terminal.table import render_summary
    from assay.core.cas import ContentStore

    home = Home.default()
    store = open_store(home)
    if output is None:
        console = Console()
        if not console.is_terminal:
            console = Console(width=200)
        render_summary(summarise(load_sweep(store, sweep)), console)
        return
    written = write_report(store, ContentStore(home.artifacts), sweep, output)
    click.echo(f"wrote {output} ({size(written)})", err=True)
