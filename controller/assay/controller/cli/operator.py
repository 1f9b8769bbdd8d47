"""``assay operator``: who may run this controller from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.cli.token import utc
from assay.controller.records import OperatorRecord, Role
from assay.core.errors import UsageError
from assay.core.listing import format_option, print_rows


@click.group()
def operator() -> None:
    """Who may run this controller from elsewhere."""


@operator.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.VIEWER.value,
    show_default=True,
    help="A viewer may list, an operator may change.",
)
@click.option(
    "--days", type=click.IntRange(1, 366), default=90, show_default=True, help="Lifetime."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="File for key, certificate and CA; give it to NAME over a safe way.",
)
@with_office
def add_command(office: Administration, name: str, role: str, days: int, output: Path) -> None:
    """Write an identity for NAME; an identity NAME had before is refused from then on."""
    if output.exists():
        raise UsageError(f"{output} exists; name another file")
    identity_pem = office.add_operator(name, Role(role), days)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(identity_pem)
    click.echo(
        f"{role} {name}: ASSAY_CONTROLLER=HOST:PORT ASSAY_IDENTITY={output} assay device list "
        "(`assay controller serve --admin-port PORT` listens there)",
        err=True,
    )


@operator.command("list")
@format_option
@with_office
def list_command(office: Administration, output_format: str) -> None:
    """Print every operator."""
    rows = [_row(record) for record in office.operators()]
    print_rows(rows, ["name", "role", "state", "until", "created"], output_format)


@operator.command("revoke")
@click.argument("name")
@with_office
def revoke_command(office: Administration, name: str) -> None:
    """Refuse NAME from the next call on."""
    office.revoke_operator(name)
    click.echo(f"operator {name} revoked", err=True)


def _row(record: OperatorRecord) -> dict[str, object]:
    return {
        "name": record.name,
        "role": record.role.value,
        "state": "revoked" if record.revoked else "good",
        "until": utc(record.not_after_ns),
        "created": utc(record.created_ns),
    }
