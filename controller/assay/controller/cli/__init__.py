"""The ``assay`` command line: one file per noun."""

from __future__ import annotations

from typing import NoReturn

import click

from assay.core.command import LazyGroup, global_options, run

_COMMANDS = {
    "controller": ("assay.controller.cli.controller:controller", "Serve agents."),
    "token": ("assay.controller.cli.token:token", "Join tokens for new devices."),
    "device": ("assay.controller.cli.device:device", "The fleet."),
    "operator": ("assay.controller.cli.operator:operator", "Who may run it from elsewhere."),
    "pki": ("assay.controller.cli.pki:pki", "The controller's own certificates."),
    "store": ("assay.controller.cli.store:store", "Keep what the controller knows."),
    "audit": ("assay.controller.cli.audit:audit_command", "Who did what to this controller."),
    "inspect": ("assay.controller.cli.inspect:inspect_command", "What a model file is."),
    "dataset": ("assay.controller.cli.dataset:dataset", "Real samples to measure with."),
    "variant": ("assay.controller.cli.variant:variant", "Models and what recipes make of them."),
    "publish": ("assay.controller.cli.publish:publish", "Sign models, and keep signatures."),
    "sweep": ("assay.controller.cli.sweep:sweep", "Measure variants on devices."),
    "result": ("assay.controller.cli.result:result", "What was measured."),
    "report": ("assay.controller.cli.report:report_command", "One HTML file about a sweep."),
    "watch": ("assay.controller.cli.watch:watch_command", "The fleet and its sweeps, live."),
    "live": ("assay.controller.cli.live:live_command", "Where the live page is."),
    "doctor": ("assay.controller.cli.doctor:doctor_command", "Whether this controller is sound."),
    "demo": ("assay.controller.cli.demo:demo_command", "The whole path on real data."),
}


@global_options
@click.group(name="assay", cls=LazyGroup, lazy=_COMMANDS)
def assay() -> None:
    """Which compressed variant of a model should run on which device, and why."""


def main() -> NoReturn:
    """Entry point of ``assay``."""
    run(assay, "ASSAY")
