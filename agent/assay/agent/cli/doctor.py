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
    help="Another board: a folder with its proc, sys and commands, or an archive of its record.",
)
@format_option
def doctor_command(sysroot: Path, output_format: str) -> None:
    """Say what this board can and cannot measure, and why.

    Needs no root and changes nothing. Exits with 1 when nothing can be measured here.
    """
    from assay.agent.examine import can_measure, examine
    from assay.agent.recording.archive import opened

    if not sysroot.exists():
        raise UsageError(f"--sysroot: {sysroot} is neither a folder nor an archive")
    live = sysroot.resolve() == Path("/")
    with opened(Path("/") if live else sysroot) as root:
        findings = examine(root, _probe_runtimes() if live else ())
        measurable = can_measure(findings, root)
    print_rows([asdict(finding) for finding in findings], _COLUMNS, output_format)
    if not measurable:
        what = "no runtime works here, so nothing can be measured" if live else "no sensor answers"
        raise CheckFailed(what)


def _probe_runtimes() -> tuple[RuntimeAnswer, ...]:
    from assay.agent.runtimes.probe import probe_runtimes

    return probe_runtimes()
