"""``assay demo``: the whole path on real data."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".demo"),
    show_default=True,
    help="Where everything is kept; remove it to start over.",
)
@click.option("--retry", is_flag=True, help="Measure again what is not VALID.")
def demo_command(directory: Path, retry: bool) -> None:
    """Data, variants, a controller, an agent, a sweep, a report: all real, on this machine.

    A second run builds and measures nothing that is already there. Exit status 0: done, 3: some
    results are not VALID (they are shown, labelled and left out of the ranking).
    """
    from assay.controller.demo.job import run_demo
    from assay.controller.demo.paths import DemoPaths

    run_demo(DemoPaths(directory.resolve()), retry=retry)
