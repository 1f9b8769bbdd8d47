"""``assay-agent run``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from assay.agent import config as settings
from assay.agent.plane.ending import end_by_exception
from assay.core.errors import EXIT_OK, UsageError


@click.command("run")
@settings.options()
@click.option(
    "--once",
    is_flag=True,
    envvar=settings.variable("once"),
    help="End when there is nothing left to do.",
)
def run_command(config_file: Path | None, once: bool, **given: Any) -> None:
    """Serves a controller: syncs, measures what it is asked to, and reports.

    Enrols first where there is a token and no identity yet. SIGTERM and Ctrl-C end it within
    seconds; nothing is lost, and what was going on is run again after the next start.
    """
    config = settings.load(config_file, given)
    if config.token is not None and not config.paths.identity.exists():
        _enrol(config)

    from assay.agent.plane.serve import serve

    sys.exit(serve(config, once=once))


def _enrol(config: settings.AgentConfig) -> None:
    """In a process of its own: what enrolling imports would stay in this one's memory for good."""
    if config.controller is None:
        raise UsageError("a token is given but no --controller HOST:PORT to enrol with")
    command = [sys.executable, "-m", "assay.agent", "enrol", "--controller", config.controller]
    command += ["--home", str(config.home), "--name", config.device_name]
    # Not on the command line, where every user of this device could read it.
    environment = {**os.environ, settings.variable("token"): config.token or ""}
    with end_by_exception():
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != EXIT_OK:
        sys.exit(done.returncode)
