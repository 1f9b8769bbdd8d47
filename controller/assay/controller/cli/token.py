"""``assay token``: join tokens for new devices."""

from __future__ import annotations

import re
import time

import click

from assay.controller.home import Home
from assay.controller.records import TokenRecord
from assay.controller.store import open_store
from assay.core.listing import format_option, print_rows

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
def create_command(uses: int, expires: int, note: str) -> None:
    """Print a new join token; it is shown this once and kept only as a hash."""
    from assay.controller.identity.enrol import create_token

    home = Home.default().create()
    made = create_token(home, open_store(home), note=note, uses=uses, lifetime_s=expires)
    click.echo(str(made))
    devices = "one device" if uses == 1 else f"{uses} devices"
    click.echo(
        f"token {made.token_id} is for {devices}; on each: "
        "assay-agent enrol --controller HOST:PORT --token TOKEN "
        "(`assay controller status` shows the enrolment port)",
        err=True,
    )


@token.command("list")
@format_option
def list_command(output_format: str) -> None:
    """Print every token, without its secret."""
    now_ns = time.time_ns()
    rows = [_row(record, now_ns) for record in open_store(Home.default()).tokens()]
    print_rows(rows, ["token", "state", "uses_left", "expires", "note"], output_format)


@token.command("revoke")
@click.argument("token_id")
def revoke_command(token_id: str) -> None:
    """Make a token worthless; devices that joined with it stay."""
    open_store(Home.default()).revoke_token(token_id)
    click.echo(f"token {token_id} revoked", err=True)


def _row(record: TokenRecord, now_ns: int) -> dict[str, object]:
    return {
        "token": record.token_id,
        "state": _state(record, now_ns),
        "uses_left": record.uses_left,
        "expires": utc(record.expires_ns),
        "created": utc(record.created_ns),
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
