"""``assay-agent phones``: phones on this host's adb as devices of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.agent import config as settings
from assay.core.errors import NotFound, Partial, UsageError
from assay.core.listing import format_option, print_rows

if TYPE_CHECKING:
    from assay.agent.phones.adb import AdbServer

_RESCAN_S = 5.0
_ADB_PORT = click.option(
    "--adb-port",
    type=click.IntRange(1024, 65535),
    default=5838,
    show_default=True,
    help="Port of a private adb server.",
)
_BINARY = click.option(
    "--binary",
    "binaries",
    multiple=True,
    metavar="RUNTIME=FILE",
    help="A native benchmark binary, e.g. litert=./benchmark_model; may be repeated.",
)


def _daily_bytes(
    _context: click.Context, _parameter: click.Parameter, raw: str | None
) -> int | None:
    try:
        return None if raw is None else settings.read_size(raw)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group(name="phones")
def phones_command() -> None:
    """Tethered phones, each a device of its own."""


@phones_command.command(name="list")
@_ADB_PORT
@format_option
def list_command(adb_port: int, output_format: str) -> None:
    """List phones on adb, with what keeps each from being used."""
    from assay.agent.phones.adb import AdbServer
    from assay.agent.phones.listing import parse_devices, usable

    rows = parse_devices(AdbServer(adb_port).devices())
    chosen = usable(rows)
    print_rows(
        [
            {
                "serial": row.target,
                "state": row.state,
                "model": row.fields.get("model", ""),
                "problem": row.problem
                or ("" if row in chosen else "the same phone as another row"),
            }
            for row in rows
        ],
        ("serial", "state", "model", "problem"),
        output_format,
    )


@phones_command.command(name="run")
@settings.options("controller", "token", "home")
@_ADB_PORT
@_BINARY
@click.option("--connect", multiple=True, metavar="HOST:PORT", help="A phone on the network.")
@click.option("--serial", help="This phone only, in this process.")
@click.option(
    "--daily-bytes",
    metavar="BYTES",
    callback=_daily_bytes,
    help="What may be sent to each phone in a day (UTC), e.g. 500MiB; no limit if not given.",
)
@click.option("--once", is_flag=True, help="End when there is nothing left to do.")
def run_command(
    config_file: Path | None,
    adb_port: int,
    binaries: tuple[str, ...],
    connect: tuple[str, ...],
    serial: str | None,
    daily_bytes: int | None,
    once: bool,
    **given: Any,
) -> None:
    """Serve every usable phone, one process each, started again when it comes back."""
    from assay.agent.phones.adb import AdbServer

    config = settings.load(config_file, given)
    server = AdbServer(adb_port)
    named = _binaries(binaries)
    server.start()
    if serial is not None:
        sys.exit(_serve_one(config, server, serial, named, daily_bytes, once=once))
    watch = _Watch(server, sys.argv[1:], connect)
    # As Ctrl-C does: whoever stops this command stops the phones' processes with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = watch.until_interrupted(once=once)
    finally:
        watch.end()
        server.end()
    if failed:
        raise Partial(f"not served to the end: {', '.join(failed)}; see above")


def _serve_one(
    config: settings.AgentConfig,
    server: AdbServer,
    serial: str,
    named: dict[str, Path],
    daily_bytes: int | None,
    *,
    once: bool,
) -> int:
    from assay.agent.phones.listing import parse_devices
    from assay.agent.phones.present import serve_phone

    rows = {row.target: row for row in parse_devices(server.devices())}
    if serial not in rows:
        raise NotFound(f"no phone {serial} on adb; there: {', '.join(rows) or 'none'}")
    if rows[serial].problem:
        raise UsageError(f"{serial}: {rows[serial].problem}")
    return serve_phone(config, server, rows[serial], named, daily_bytes, once=once)


def _binaries(given: tuple[str, ...]) -> dict[str, Path]:
    from assay.agent.phones.benchmarks import PARSERS

    found = {}
    for text in given:
        name, _, path = text.partition("=")
        if name not in PARSERS or not Path(path).is_file():
            known = ", ".join(PARSERS)
            raise UsageError(f"--binary {text}: needs RUNTIME=FILE, a file and one of {known}")
        found[name] = Path(path)
    return found


class _Watch:
    """One child per phone, by what adb calls it."""

    def __init__(self, server: AdbServer, arguments: list[str], connect: tuple[str, ...]) -> None:
        self._server = server
        self._arguments = arguments
        self._connect = connect
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def until_interrupted(self, *, once: bool) -> list[str]:
        """Looks for phones every few seconds; with ``once`` until the first have ended. The
        phones whose process failed."""
        while True:
            self._start_new()
            if once:
                return [serial for serial, child in self._children.items() if child.wait() != 0]
            time.sleep(_RESCAN_S)

    def end(self) -> None:
        """Ends every child."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _start_new(self) -> None:
        from assay.agent.phones.listing import parse_devices, usable
        from assay.core.errors import Unreachable

        for address in self._connect:
            try:
                if address not in self._running():
                    self._server.reconnect(address)
            except Unreachable as error:
                click.echo(f"{address}: {error}", err=True)
        rows, running = parse_devices(self._server.devices()), self._running()
        # A serial that a second phone has too means neither of them to adb.
        for serial in running.intersection(r.serial for r in rows if r.target != r.serial):
            self._children[serial].terminate()
        for row in usable(rows):
            # Once its twin is gone, one that is served by its place has its serial to itself again.
            if running.isdisjoint((row.serial, row.target, f"usb:{row.fields.get('usb')}")):
                argv = [
                    sys.executable,
                    "-m",
                    "assay.agent",
                    *self._arguments,
                    "--serial",
                    row.target,
                ]
                self._children[row.target] = subprocess.Popen(argv, start_new_session=True)

    def _running(self) -> set[str]:
        return {serial for serial, child in self._children.items() if child.poll() is None}
