"""``assay token``: join tokens for new devices."""

from __future__ import annotations

import re
import time

import click

from assay.controller.admin.base import Administration
from assay.controller.cli.office import with_office
from assay.controller.records import TokenRecord
from assay.core.listing import format_option, print_rows
from assay.core.token import JoinToken

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Lifetime(click.ParamType[int]):
    """A duration such as ``90m``, ``24h`` or ``7d``, in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Seconds."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+)([smhd])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is not a duration: write 90m, 24h or 7d", param, ctx)
        return int(found[1]) * _UNITS_S[found[2]]


@click.group()
def token() -> None:
    """Join tokens for new devices."""


@token.command("create")
@click.option("--uses", type=click.IntRange(1), default=1, show_default=True, help="Devices.")
@click.option("--expires", type=Lifetime(), default="24h", show_default=True, help="Lifetime.")
@click.option("--note", default="", help="What it is for.")
@click.option("--approval", is_flag=True, help="Devices wait for `assay device approve`.")
@with_office
def create_command(
    office: Administration, uses: int, expires: int, note: str, approval: bool
) -> None:
    """Print a new join token; it is shown this once and kept only as a hash."""
    made = office.create_token(note=note, uses=uses, lifetime_s=expires, approval=approval)
    click.echo(made)
    devices = "one device" if uses == 1 else f"{uses} devices"
    click.echo(
        f"token {JoinToken.parse(made).token_id} is for {devices}; on each: "
        "assay-agent enrol --controller HOST:PORT --token TOKEN "
        "(`assay controller status` shows the enrolment port)",
        err=True,
    )


@token.command("list")
@format_option
@with_office
def list_command(office: Administration, output_format: str) -> None:
    """Print every token, without its secret."""
    now_ns = time.time_ns()
    rows = [_row(record, now_ns) for record in office.tokens()]
    columns = ["token", "state", "uses_left", "expires", "approval", "note"]
    print_rows(rows, columns, output_format)


@token.command("revoke")
@click.argument("token_id")
@with_office
def revoke_command(office: Administration, token_id: str) -> None:
    """Make a token worthless; devices that joined with it stay."""
    office.revoke_token(token_id)
    click.echo(f"token {token_id} revoked", err=True)


def _row(record: TokenRecord, now_ns: int) -> dict[str, object]:
    return {
        "token": record.token_id,
        "state": _state(record, now_ns),
        "uses_left": record.uses_left,
        "expires": utc(record.expires_ns),
        "created": utc(record.created_ns),
        "approval": record.approval,
        "note": record.note,
    }


def _state(record: TokenRecord, now_ns: int) -> str:
    if record.revoked:
        return "revoked"
    if record.uses_left < 1:
        return "used up"
    return "expired" if record.expires_ns <= now_ns else "good"


def utc(time_ns: int) -> str:
    """A moment for people: ISO 8601, UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ns // 1_000_000_000))
