"""``assay device``: the fleet."""

from __future__ import annotations

import time

import click

from assay.controller.admin.base import Administration, DeviceChange, DeviceVerb
from assay.controller.cli.office import with_office
from assay.controller.cli.token import utc
from assay.controller.records import DeviceRecord, Duty
from assay.core.errors import UsageError
from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows

_ONLINE_NS = 90 * 1_000_000_000
_COLUMNS = [
    *("name", "state", "duty", "duty_reason", "seen", "class", "board", "runtimes", "labels"),
    "device_id",
]


@click.group()
def device() -> None:
    """The fleet."""


@device.command("list")
@format_option
@with_office
def list_command(office: Administration, output_format: str) -> None:
    """Print every device that enrolled."""
    now_ns = time.time_ns()
    rows = [_row(record, now_ns) for record in office.devices()]
    print_rows(rows, _COLUMNS, output_format)


@device.command("show")
@click.argument("name")
@format_option
@with_office
def show_command(office: Administration, name: str, output_format: str) -> None:
    """Print everything a device says about itself, one fact a line."""
    record = office.device(name)
    rows = [
        {"fact": fact, "value": value}
        for fact, value in _facts(record, time.time_ns())
        if output_format == "json" or value not in ("", None)
    ]
    print_rows(rows, ["fact", "value"], output_format)


@device.command("approve")
@click.argument("name")
@with_office
def approve_command(office: Administration, name: str) -> None:
    """Let a device in that joined with a token that asks for approval."""
    office.change_device(name, DeviceChange(DeviceVerb.APPROVE))
    click.echo(f"device {name} approved; it gets work from its next call on", err=True)


@device.command("revoke")
@click.argument("name")
@with_office
def revoke_command(office: Administration, name: str) -> None:
    """Shut a device out for good, from its next call on; its results stay."""
    office.change_device(name, DeviceChange(DeviceVerb.REVOKE))
    click.echo(f"device {name} revoked; what it was leased goes back when the lease ends", err=True)


@device.command("release")
@click.argument("name")
@with_office
def release_command(office: Administration, name: str) -> None:
    """Let a quarantined device speak again."""
    office.change_device(name, DeviceChange(DeviceVerb.RELEASE))
    click.echo(f"device {name} released", err=True)


@device.command("cordon")
@click.argument("name")
@click.option("--reason", default="", help="Shown in `assay device show`.")
@with_office
def cordon_command(office: Administration, name: str, reason: str) -> None:
    """Grant a device nothing new; the round it holds goes on, and its sweeps wait."""
    office.change_device(name, DeviceChange(DeviceVerb.CORDON, reason=reason))
    click.echo(f"device {name} cordoned; `assay device uncordon {name}` ends it", err=True)


@device.command("uncordon")
@click.argument("name")
@with_office
def uncordon_command(office: Administration, name: str) -> None:
    """Put a cordoned or drained device back to work.

    One that was taken off duty by itself runs its canary first; `uncordon` once more spares it.
    """
    record = office.change_device(name, DeviceChange(DeviceVerb.UNCORDON))
    where = "on probation: it runs its canary first" if record.duty is Duty.PROBATION else "on duty"
    click.echo(f"device {name} is back {where}", err=True)


@device.command("drain")
@click.argument("name")
@click.option("--reason", default="", help="Shown in `assay device show`.")
@with_office
def drain_command(office: Administration, name: str, reason: str) -> None:
    """As cordon, and the device itself is told to take nothing; `uncordon` ends it."""
    office.change_device(name, DeviceChange(DeviceVerb.DRAIN, reason=reason))
    click.echo(f"device {name} drains; `assay device uncordon {name}` ends it", err=True)


@device.command("label")
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@with_office
def label_command(office: Administration, name: str, labels: tuple[str, ...]) -> None:
    """Set labels (KEY=VALUE) or drop them (KEY-); sweeps select devices by them.

    Devices with the same label shared.THING=NAME never measure at once.
    """
    wanted: dict[str, str] = {}
    drops: list[str] = []
    for label in labels:
        key, equals, value = label.partition("=")
        if equals and key:
            wanted[key] = value
        elif not equals and key.endswith("-") and key != "-":
            drops.append(key.removesuffix("-"))
        else:
            raise UsageError(f"{label!r} is no label: write KEY=VALUE to set, KEY- to drop")
    change = DeviceChange(DeviceVerb.LABEL, labels=wanted, drop_labels=tuple(drops))
    record = office.change_device(name, change)
    click.echo(f"device {name}: {_labels(record.labels) or 'no labels'}", err=True)


@device.command("rename")
@click.argument("name")
@click.argument("new_name")
@with_office
def rename_command(office: Administration, name: str, new_name: str) -> None:
    """Give a device another name; its identity and its results stay."""
    office.change_device(name, DeviceChange(DeviceVerb.RENAME, new_name=new_name))
    click.echo(f"device {name} is now {new_name}", err=True)


def _row(record: DeviceRecord, now_ns: int) -> dict[str, object]:
    facts = record.facts
    return {
        "name": record.name,
        "state": record.state.value,
        "duty": record.duty.value,
        "duty_reason": record.duty_reason,
        "seen": _seen(record, now_ns),
        "class": facts.device_class if facts else None,
        "board": facts.board if facts else None,
        "runtimes": [f"{r.name} {r.version}" for r in facts.runtimes] if facts else [],
        "labels": _labels(record.all_labels),
        "device_id": record.device_id,
        "last_seen_ns": record.last_seen_ns,
    }


def _seen(record: DeviceRecord, now_ns: int) -> str:
    if record.last_seen_ns is None:
        return "never"
    age_ns = now_ns - record.last_seen_ns
    return "online" if age_ns < _ONLINE_NS else utc(record.last_seen_ns)


def _labels(labels: object) -> str:
    return " ".join(f"{k}={v}" for k, v in sorted(dict(labels).items()))  # type: ignore[call-overload]


def _facts(record: DeviceRecord, now_ns: int) -> list[tuple[str, object]]:
    known: list[tuple[str, object]] = [
        ("name", record.name),
        ("device_id", record.device_id),
        ("state", record.state.value),
        ("duty", record.duty.value),
        ("off duty because", record.duty_reason),
        ("seen", _seen(record, now_ns)),
        ("enrolled", utc(record.enrolled_ns)),
        ("certificate ends", utc(record.certificate_not_after_ns)),
        ("key_sha256", record.key_sha256),
        ("labels", _labels(record.all_labels)),
    ]
    if record.facts is None:
        return known
    facts = jsonable(record.facts)
    cpu = facts.pop("cpu")
    known += [(f"cpu {key}", _plain(value)) for key, value in cpu.items()]
    for runtime in facts.pop("runtimes"):
        providers = ", ".join(runtime["providers"])
        known.append((f"runtime {runtime['name']}", f"{runtime['version']} ({providers})"))
    for sampler in facts.pop("samplers"):
        reason = sampler["absent_reason"]
        value = f"absent: {reason}" if reason else sampler["unit"]
        known.append((f"sampler {sampler['name']}", value))
    return known + [(key, _plain(value)) for key, value in facts.items()]


def _plain(value: object) -> object:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(
            f"cpus {' '.join(map(str, c['cpus']))} up to {c['max_hz'] or '?'} Hz" for c in value
        )
    if isinstance(value, list):
        return " ".join(map(str, value))
    return value
