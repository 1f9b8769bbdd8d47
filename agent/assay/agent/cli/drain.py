"""``assay-agent drain`` and ``assay-agent resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.agent import config as settings
from assay.agent.plane.drain import Drain


@click.command("drain")
@settings.options("home")
@click.option(
    "--wait",
    "patience_s",
    type=click.FloatRange(min=0),
    envvar=settings.variable("wait"),
    metavar="SECONDS",
    help="Wait until nothing is held; exit with 3 after so many seconds.",
)
def drain_command(config_file: Path | None, patience_s: float | None, **given: Any) -> None:
    """Takes no new rounds until `assay-agent resume`; what is held is finished.

    The mark outlives a restart of the agent.
    """
    drain = Drain(settings.load(config_file, given).paths)
    drain.mark()
    if patience_s is not None:
        drain.wait(patience_s)
        click.echo("drained: nothing is held", err=True)


@click.command("resume")
@settings.options("home")
def resume_command(config_file: Path | None, **given: Any) -> None:
    """Takes new rounds again."""
    Drain(settings.load(config_file, given).paths).unmark()
