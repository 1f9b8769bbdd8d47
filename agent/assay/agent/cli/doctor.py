"""``assay-agent doctor``: what this board can and cannot measure, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from assay.core.errors import CheckFailed, UsageError
from assay.core.listing import format_option, print_rows

if TYPE_CHECKING:
    from assay.agent.examine import RuntimeAnswer

_COLUMNS = ("area", "name", "status", "value", "detail")


@click.command(name="doctor")
@click.option(
    "--sysroot",
    type=click.Path(path_type=Path),
    default=Path("/"),
    show_default=True,
    help="A folder with another board's proc, sys and commands to look at instead.",
)
@format_option
def doctor_command(sysroot: Path, output_format: str) -> None:
    """Say what this board can and cannot measure, and why.

    Needs no root and changes nothing. Exits with 1 when nothing can be measured here.
    """
    from assay.agent.examine import can_measure, examine

    if not sysroot.is_dir():
        raise UsageError(f"--sysroot: {sysroot} is no folder")
    live = sysroot.resolve() == Path("/")
    root = Path("/") if live else sysroot
    findings = examine(root, _probe_runtimes() if live else ())
    print_rows([asdict(finding) for finding in findings], _COLUMNS, output_format)
    if not can_measure(findings, root):
        what = "no runtime works here, so nothing can be measured" if live else "no sensor answers"
        raise CheckFailed(what)


def _probe_runtimes() -> tuple[RuntimeAnswer, ...]:
    from assay.agent.runtimes.probe import probe_runtimes

    return probe_runtimes()
