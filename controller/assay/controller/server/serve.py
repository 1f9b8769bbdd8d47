"""``assay controller serve``: every part of the plane, started in order and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from assay.controller.blobs.child import blob_command
from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.server.administering import AdminServer
from assay.controller.server.counting import count_bytes
from assay.controller.server.leash import Child, leashed
from assay.controller.server.listening import check_free, is_free
from assay.controller.server.process import ControlServers, Listening
from assay.controller.server.running import (
    ServingController,
    announce,
    last_ports,
    sole_controller,
    withdraw,
)
from assay.controller.server.tidying import tidy
from assay.controller.server.watching import tell, watching_command
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import log
from assay.core.channel import is_loopback
from assay.core.version import __version__

_log = log.get(__name__)


_MOST_FILES = 1 << 20
# Threads that hash, decode and write take turns with the one that answers devices; with Python's
# 5 ms a Sync beside a flood of results takes four times as long, and the results do too.
_TURN_S = 0.001
_ANY = ("0.0.0.0", "::", "")
_PORTS = {
    "enrol_port": ("--enrol-port", 7400),
    "fleet_port": ("--fleet-port", 7401),
    "blobs_port": ("--blobs-port", 7402),
    "metrics_port": ("--metrics-port", 9464),
    "live_port": ("--live-port", 9465),
}


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve.

    A port that is None is the one of the last time, else the usual one, else any free one; 0 is any
    free one; a given one is that one or an error; but without an ``admin_port`` administration is
    by the socket alone. Devices are told to call ``advertised_host``
    (empty: ``host``, or the address they dialled where that is every interface). ``names`` are
    further names for the server's certificate. ``audit_days`` is how long the audit log is kept; 0:
    for ever. ``gc`` is whether files that nothing names go once a day.
    """

    host: str = "127.0.0.1"
    enrol_port: int | None = None
    fleet_port: int | None = None
    blobs_port: int | None = None
    metrics_port: int | None = None
    metrics: bool = True
    live_port: int | None = None
    live: bool = True
    live_tls: bool = False
    admin_port: int | None = None
    audit_days: int = 365
    gc: bool = True
    advertised_host: str = ""
    names: tuple[str, ...] = ()
    log_level: str = "info"
    log_json: bool = False


def serve(
    home: Home,
    options: ServeOptions,
    *,
    ready: Callable[[ServingController], None] = lambda _: None,
    opener: Callable[[Home], Store] = open_store,
) -> None:
    """Serves until SIGTERM or SIGINT. ``ready`` is called once everything listens."""
    home.create()
    may_hold_a_fleet()
    sys.setswitchinterval(_TURN_S)
    with sole_controller(home):
        store = opener(home)
        try:
            asyncio.run(_serve(home, options, store, ready))
        finally:
            withdraw(home)
            store.close()


def may_hold_a_fleet() -> None:
    """Lets this process and its children open as many files as they are allowed to: each connection
    is one, and the usual 1,024 are fewer than a fleet, or than a stranger can take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MOST_FILES) if hard != resource.RLIM_INFINITY else _MOST_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def advertised_host(options: ServeOptions) -> str:
    """The host devices are told to call; empty (the one they dialled) where we cannot know it."""
    return options.advertised_host or ("" if options.host in _ANY else options.host)


async def _serve(
    home: Home, options: ServeOptions, store: Store, ready: Callable[[ServingController], None]
) -> None:
    stop = _stop_on_signals()
    ports = _choose_ports(home, options)
    now = dt.datetime.now(dt.UTC)
    authority = Authority(home.pki, now)
    names = [n for n in (options.host, options.advertised_host, *options.names) if n not in _ANY]
    identity = authority.server_identity(names, now)
    async with contextlib.AsyncExitStack() as parts:
        blobs, *watching = await asyncio.gather(
            *(parts.enter_async_context(each) for each in _beside(home, options, ports))
        )
        bound = {name: port for child in (blobs, *watching) for name, port in child.ports.items()}
        control = ControlServers(store, authority, time.time_ns)
        parts.push_async_callback(control.stop)
        listening = await control.start(
            identity,
            Listening(
                options.host,
                ports["enrol_port"],
                ports["fleet_port"],
                bound["blobs"],
                advertised_host(options),
            ),
        )
        admin = AdminServer(home, store, time.time_ns, audit_days=options.audit_days)
        parts.push_async_callback(admin.stop)
        admin_socket, admin_port = await admin.start(identity, options.host, options.admin_port)
        serving = ServingController(
            pid=os.getpid(),
            host=options.host,
            enrol_port=listening.enrol_port,
            fleet_port=listening.fleet_port,
            blobs_port=bound["blobs"],
            metrics_port=bound.get("metrics", 0),
            live_port=bound.get("live", 0),
            live_secure=options.live and (options.live_tls or not is_loopback(options.host)),
            admin_port=admin_port,
            admin_socket=admin_socket,
            started_ns=time.time_ns(),
            version=__version__,
        )
        announce(home, serving)
        _log.info("controller started", **_addresses(serving), home=str(home.root))
        ready(serving)
        await _first_of(
            stop.wait(),
            control.watch(),
            admin.watch(),
            blobs.watch(),
            *(child.watch() for child in watching),
            *(tell(child, control.vitals, control.tally) for child in watching),
            count_bytes(blobs, control.tally),
            *((tidy(home),) if options.gc else ()),
        )
        _log.info("controller stopping")


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _choose_ports(home: Home, options: ServeOptions) -> dict[str, int]:
    """Every port to ask for (0: any), all checked before anything starts."""
    if options.admin_port is not None:
        check_free(options.host, options.admin_port, option="--admin-port")
    last = last_ports(home)
    chosen: dict[str, int] = {}
    for name, (option, usual) in _PORTS.items():
        if not {"metrics_port": options.metrics, "live_port": options.live}.get(name, True):
            continue
        given: int | None = getattr(options, name)
        if given is not None:
            check_free(options.host, given, option=option)
            chosen[name] = given
            continue
        wished = last.get(name, usual)
        chosen[name] = wished if is_free(options.host, wished) else 0
        if name in last and chosen[name] == 0:
            _log.warning(
                "port of the last time was taken", port=wished, option=option, now="any free one"
            )
    return chosen


def _beside(
    home: Home, options: ServeOptions, ports: Mapping[str, int]
) -> Iterator[contextlib.AbstractAsyncContextManager[Child]]:
    """The processes beside the control loop: blobs, and whatever is to be watched."""
    level, lines = options.log_level, options.log_json
    command = blob_command(home, options.host, level, json_lines=lines)
    yield leashed("blob", command, {"blobs": ports["blobs_port"]})
    watched = {n: ports[f"{n}_port"] for n in ("metrics", "live") if f"{n}_port" in ports}
    if watched:
        tls = options.live_tls
        command = watching_command(home, options.host, level, json_lines=lines, tls=tls)
        yield leashed("watching", command, watched)


def _addresses(serving: ServingController) -> dict[str, str]:
    return {
        "enrolment": serving.enrolment_address,
        "fleet": serving.fleet_address,
        "blobs": serving.blobs_address,
        "metrics": serving.metrics_address,
        "live": serving.live_url,
        "admin": serving.admin_address,
    }


async def _first_of(*works: object) -> None:
    """Ends with the first of these, and as it does."""
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for task in done:
        task.result()
