"""``assay audit``: who did what to this controller."""

from __future__ import annotations

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.cli.token import utc
from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows

_COLUMNS = ["at", "actor", "role", "origin", "action", "subject", "outcome"]


@click.command("audit")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@format_option
@with_office
def audit_command(office: Administration, limit: int, output_format: str) -> None:
    """Print the newest calls for administration, the newest last.

    Calls over a socket or from elsewhere are all there, refused ones too; commands on the home
    itself are there where they changed something.
    """
    rows = [{"at": utc(entry.at_ns), **jsonable(entry)} for entry in office.audit(limit)]
    print_rows(rows, _COLUMNS, output_format)
