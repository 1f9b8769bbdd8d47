"""The ``assay-agent`` command line."""

from __future__ import annotations

from typing import NoReturn

import click

from assay.agent.platform import require_supported
from assay.core.command import LazyGroup, global_options, run

_COMMANDS = {
    "run": ("assay.agent.cli.run:run_command", "Serve a controller: sync, measure, report."),
    "enrol": ("assay.agent.cli.enrol:enrol_command", "Join a controller with a token."),
    "doctor": ("assay.agent.cli.doctor:doctor_command", "What this board can measure."),
    "drain": ("assay.agent.cli.drain:drain_command", "Take no new rounds, finish what is held."),
    "resume": ("assay.agent.cli.drain:resume_command", "Take new rounds again."),
    "record": ("assay.agent.cli.record:record_command", "Write a board's readings to an archive."),
    "phones": ("assay.agent.cli.phones:phones_command", "Tethered phones as devices."),
    "calibrate": ("assay.agent.cli.calibrate:calibrate_command", "Fit sensors to a true meter."),
    "tune": ("assay.agent.cli.tune:tune_command", "What makes this board's numbers cleaner."),
    "bench": ("assay.agent.cli.bench:bench_command", "Measure a local model file, no controller."),
}


class _AgentGroup(LazyGroup):
    """Refuses a platform that cannot run Assay before a command's own imports fail on it."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command; only the doctor answers everywhere, since it says what to do."""
        if cmd_name in _COMMANDS and cmd_name != "doctor":
            require_supported()
        return super().get_command(ctx, cmd_name)


@global_options
@click.group(name="assay-agent", cls=_AgentGroup, lazy=_COMMANDS)
def agent() -> None:
    """Measures models on this device."""


def main() -> NoReturn:
    """Entry point of ``assay-agent``."""
    run(agent, "ASSAY_AGENT")
