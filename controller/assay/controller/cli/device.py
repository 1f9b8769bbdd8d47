"""``assay device``: the fleet."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from assay.controller.cli.token import utc
from assay.controller.home import Home
from assay.controller.records import DeviceRecord, DeviceState
from assay.controller.store import open_store
from assay.core.errors import UsageError
from assay.core.jsonable import jsonable
from assay.core.listing import format_option, print_rows

_ONLINE_NS = 90 * 1_000_000_000


@click.group()
def device() -> None:
    """The fleet."""


@device.command("list")
@format_option
def list_command(output_format: str) -> None:
    """Print every device that enrolled."""
    now_ns = time.time_ns()
    rows = [_row(record, now_ns) for record in open_store(Home.default()).devices()]
    columns = ["name", "state", "seen", "class", "board", "runtimes", "labels", "device_id"]
    print_rows(rows, columns, output_format)


@device.command("show")
@click.argument("name")
@format_option
def show_command(name: str, output_format: str) -> None:
    """Print everything a device says about itself, one fact a line."""
    record = open_store(Home.default()).device(name)
    rows = [
        {"fact": fact, "value": value}
        for fact, value in _facts(record, time.time_ns())
        if output_format == "json" or value not in ("", None)
    ]
    print_rows(rows, ["fact", "value"], output_format)


@device.command("revoke")
@click.argument("name")
def revoke_command(name: str) -> None:
    """Shut a device out for good, from its next call on; its results stay."""
    store = open_store(Home.default())
    store.update_device(replace(store.device(name), state=DeviceState.REVOKED))
    click.echo(f"device {name} revoked; what it was leased goes back when the lease ends", err=True)


@device.command("release")
@click.argument("name")
def release_command(name: str) -> None:
    """Let a quarantined device speak again."""
    store = open_store(Home.default())
    record = store.device(name)
    if record.state is not DeviceState.QUARANTINED:
        raise UsageError(f"device {name} is {record.state.value}, not quarantined")
    store.update_device(replace(record, state=DeviceState.ACTIVE))
    click.echo(f"device {name} released", err=True)


@device.command("label")
@click.argument("name")
@click.argument("labels", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def label_command(name: str, labels: tuple[str, ...]) -> None:
    """Set labels (KEY=VALUE) or drop them (KEY-); sweeps select devices by them."""
    store = open_store(Home.default())
    record = store.device(name)
    changed = dict(record.labels)
    for label in labels:
        key, equals, value = label.partition("=")
        if equals and key:
            changed[key] = value
        elif not equals and key.endswith("-") and key != "-":
            changed.pop(key.removesuffix("-"), None)
        else:
            raise UsageError(f"{label!r} is no label: write KEY=VALUE to set, KEY- to drop")
    store.update_device(replace(record, labels=changed))
    click.echo(f"device {name}: {_labels(changed) or 'no labels'}", err=True)


@device.command("rename")
@click.argument("name")
@click.argument("new_name")
def rename_command(name: str, new_name: str) -> None:
    """Give a device another name; its identity and its results stay."""
    from assay.controller.identity.enrol import check_name

    store = open_store(Home.default())
    store.update_device(replace(store.device(name), name=check_name(new_name)))
    click.echo(f"device {name} is now {new_name}", err=True)


def _row(record: DeviceRecord, now_ns: int) -> dict[str, object]:
    facts = record.facts
    return {
        "name": record.name,
        "state": record.state.value,
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
