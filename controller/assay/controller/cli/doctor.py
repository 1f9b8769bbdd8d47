"""``assay doctor``: whether this controller is sound."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
from collections.abc import Callable, Iterable, Iterator

import click

from assay.controller.home import Home
from assay.controller.server.running import running_controller
from assay.controller.store import open_store
from assay.controller.store.soundness import Finding, look
from assay.core.errors import AssayError, CheckFailed
from assay.core.listing import format_option, print_rows

_LEAST_FREE_BYTES = 1 << 30
_SOON = dt.timedelta(days=30)


@click.command("doctor")
@format_option
@click.option("--thorough", is_flag=True, help="Read every artifact; see that all named are there.")
def doctor_command(output_format: str, thorough: bool) -> None:
    """Check the store, the certificates, the artifacts, the disk and the running controller.

    Exit status 1 where something is broken.
    """
    home = Home.default()
    tell(home, examine(home, dt.datetime.now(dt.UTC), thorough=thorough), output_format)


def tell(home: Home, found: Iterable[Finding], output_format: str) -> None:
    """Prints what was found; :class:`CheckFailed` where something is broken."""
    findings = list(found)
    rows = [
        {"check": f.check, "state": "ok" if f.ok else "BROKEN", "detail": f.detail}
        for f in findings
    ]
    print_rows(rows, ["check", "state", "detail"], output_format)
    broken = [f.check for f in findings if not f.ok]
    if broken:
        raise CheckFailed(f"{home.root}: {', '.join(broken)}: broken; the table says how")


def examine(home: Home, now: dt.datetime, *, thorough: bool = False) -> Iterator[Finding]:
    """Every check on ``home``, in the order of what rests on what."""
    home.create()
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _home(home),
        lambda: _disk(home),
        lambda: _store(home, thorough),
        lambda: _pki(home, now),
        lambda: _controller(home),
    ]
    names = ["home", "disk", "store", "certificates", "controller"]
    for name, check in zip(names, checks, strict=True):
        try:
            yield from check()
        except (AssayError, OSError, ValueError) as error:
            yield Finding(name, False, str(error))


def _home(home: Home) -> Iterator[Finding]:
    mode = home.root.stat().st_mode & 0o022
    writable = os.access(home.root, os.W_OK | os.X_OK)
    detail = str(home.root)
    if mode:
        detail += f" can be changed by others: chmod go-w {home.root}"
    elif not writable:
        detail += " cannot be written by this user"
    yield Finding("home", writable and not mode, detail)


def _disk(home: Home) -> Iterator[Finding]:
    free = shutil.disk_usage(home.root).free
    detail = f"{free / 2**30:.1f} GiB free"
    if free < _LEAST_FREE_BYTES:
        detail += "; less than 1 GiB: results may be refused soon, free some space"
    yield Finding("disk", free >= _LEAST_FREE_BYTES, detail)


def _store(home: Home, thorough: bool) -> Iterator[Finding]:
    with contextlib.closing(open_store(home)) as store:
        yield from look(home, store, read=thorough, named=thorough)


def _pki(home: Home, now: dt.datetime) -> Iterator[Finding]:
    from assay.controller.identity.pki import Authority

    if not home.pki.exists():
        yield Finding("certificates", True, "none yet; made by the first token or serve")
        return
    authority = Authority(home.pki, now)
    loose = [p.name for p in home.pki.glob("*.*") if p.stat().st_mode & 0o077]
    if loose:
        yield Finding("keys", False, f"{', '.join(loose)} readable by others: chmod 600")
    ends = {"CA": authority.not_after, "server": authority.server_not_after}
    late = [
        f"{name} ends {end:%Y-%m-%d}" for name, end in ends.items() if end and end - now < _SOON
    ]
    detail = "; ".join(f"{name} until {end:%Y-%m-%d}" for name, end in ends.items() if end)
    if late:
        detail = "; ".join(late) + ": restart the controller to renew the server's"
    yield Finding("certificates", not late, f"{detail}; pin {authority.sha256[:16]}…")


def _controller(home: Home) -> Iterator[Finding]:
    found = running_controller(home)
    if found is None:
        yield Finding("controller", True, "not running; `assay controller serve` starts it")
        return
    detail = f"pid {found.pid}, fleet on {found.fleet_address}"
    dead = [
        name
        for name, address in (
            ("enrolment", found.enrolment_address),
            ("fleet", found.fleet_address),
            ("blobs", found.blobs_address),
        )
        if not _answers(address)
    ]
    if dead:
        detail += f"; does not answer: {', '.join(dead)}: restart it"
    yield Finding("controller", not dead, detail)


def _answers(address: str) -> bool:
    import socket

    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=2.0):
            return True
    except OSError:
        return False
