"""``assay-agent doctor``: what this board can and cannot measure, and why."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.agent import config as settings
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
@settings.options("home", "daily_bytes", "trusted_publishers")
@format_option
def doctor_command(
    sysroot: Path, output_format: str, config_file: Path | None, **given: Any
) -> None:
    """Say what this board can and cannot measure, and why.

    Needs no root and changes nothing. Exits with 1 when nothing can be measured here.
    """
    from assay.agent.examine import can_measure, examine, examine_line
    from assay.agent.recording.archive import opened
    from assay.agent.trust import examine_publishers

    if not sysroot.exists():
        raise UsageError(f"--sysroot: {sysroot} is neither a folder nor an archive")
    live = sysroot.resolve() == Path("/")
    config = settings.load(config_file, given)
    with opened(Path("/") if live else sysroot) as root:
        findings = examine(root, _probe_runtimes() if live else ())
        if live:
            findings.append(examine_line(config.paths.traffic, config.daily_bytes))
            findings += examine_publishers(config.trusted_publishers)
        measurable = can_measure(findings, root)
    print_rows([asdict(finding) for finding in findings], _COLUMNS, output_format)
    if not measurable:
        what = "nothing can be measured here: see above" if live else "no sensor answers"
        raise CheckFailed(what)


def _probe_runtimes() -> tuple[RuntimeAnswer, ...]:
    from assay.agent.runtimes.probe import probe_runtimes

    return probe_runtimes()
