"""``assay pki``: the controller's own certificates."""

from __future__ import annotations

import datetime as dt
import time

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.cli.token import utc
from assay.controller.home import Home
from assay.core.listing import format_option, print_rows


@click.group()
def pki() -> None:
    """The controller's own certificates."""


@pki.command("show")
@format_option
@with_office
def show_command(office: Administration, output_format: str) -> None:
    """Print the certificates and when they end."""
    rows = [
        {
            "certificate": record.what,
            "ends": utc(record.not_after_ns),
            "sha256": record.sha256,
            "note": record.note,
        }
        for record in office.certificates()
    ]
    print_rows(rows, ["certificate", "ends", "sha256", "note"], output_format)


@pki.command("rotate")
@click.option("--finish", is_flag=True, help="Trust the former CA no more.")
@click.option("--force", is_flag=True, help="Finish though some still need the former CA.")
def rotate_command(finish: bool, force: bool) -> None:
    """Replace the CA, on the controller's host and while no controller runs.

    Begin, start the controller, and let every device renew (20 days); `assay pki show` counts who
    still needs the former CA. Then finish. Operators need new identities, tokens made before the
    end of it are worthless after it.
    """
    from assay.controller.admin.journal import Caller
    from assay.controller.admin.office import Office
    from assay.controller.admin.rotation import begin, finish_rotation
    from assay.controller.store import open_store

    home = Home.default()
    store = open_store(home)
    office = Office(home, store, Caller.of_this_account())
    now = dt.datetime.fromtimestamp(time.time_ns() // 10**9, dt.UTC)
    if finish:
        office.do_local("pki rotate --finish", lambda: finish_rotation(home, store, now, force))
        click.echo("the former CA is trusted no more; start the controller", err=True)
    else:
        office.do_local("pki rotate", lambda: begin(home, now))
        click.echo(
            "a new CA signs devices from now on; start the controller, and finish with "
            "`assay pki rotate --finish` once `assay pki show` says that nobody needs the former",
            err=True,
        )
    store.close()
