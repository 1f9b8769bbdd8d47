"""The ``assay-agent`` command line."""

from __future__ import annotations

from typing import NoReturn

import click

from assay.core.command import LazyGroup, global_options, run

_COMMANDS = {
    "run": ("assay.agent.cli.run:run_command", "Serve a controller: sync, measure, report."),
    "enrol": ("assay.agent.cli.enrol:enrol_command", "Join a controller with a token."),
    "doctor": ("assay.agent.cli.doctor:doctor_command", "What this board can measure."),
    "bench": ("assay.agent.cli.bench:bench_command", "Measure a local model file, no controller."),
}


@global_options
@click.group(name="assay-agent", cls=LazyGroup, lazy=_COMMANDS)
def agent() -> None:
    """Measures models on this device."""


def main() -> NoReturn:
    """Entry point of ``assay-agent``."""
    run(agent, "ASSAY_AGENT")
