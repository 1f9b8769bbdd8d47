"""Artifacts to one device's disk, beside nginx: throughput, and the server's CPU for each GB.

    python -m bench.wire.throughput [--mb 512] [--turns 5] [--format table|json|csv]

Needs nginx (Debian: nginx-light) and root. The same file, verified by its sha256 and flushed to
disk, over loopback: by an agent's own fetcher from the controller's blob process, and over HTTP
from one nginx worker with sendfile; both in plaintext and with client certificates. The blob
process has no plaintext door: for that row it runs with one (:mod:`bench.wire.plain`). By turns,
each against its neighbour in time; printed is the median turn. CPU is the server's alone. Exit
status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from bench.fleet.made import credentials, enrol_fleet
from bench.wire import web

from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow
from assay.controller.blobs.child import blob_command
from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.server.leash import Child
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.channel import CHANNEL_OPTIONS, dial
from assay.core.digest import hex_of
from assay.core.listing import print_rows
from assay.core.model import MEDIA_ONNX, ArtifactRef
from tests.plane import queued, sweep

LEAST_THROUGHPUT = {"plaintext": 0.8, "mTLS": 0.5}
MOST_CPU = {"plaintext": 6.0, "mTLS": 3.0}
_LEASE_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True)
class Way:
    """One way for the file to come, how it is removed again, and the processes that serve it."""

    fetch: Callable[[], None]
    remove: Callable[[], None]
    pids: list[int]


def main() -> int:
    """Prints a row for each of plaintext and mTLS; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mb", type=int, default=512, help="The artifact's size.")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-wire-") as folder, ExitStack() as stack:
        ways = prepare(stack, Path(folder), options.mb * 1_000_000)
        rows = [
            row(security, ours, theirs, options.mb, options.turns)
            for security, (ours, theirs) in ways.items()
        ]
    print_rows(rows, list(rows[0]), options.format)
    slow = any(r["throughput"] < r["least throughput"] for r in rows)
    return 1 if slow or any(r["CPU"] > r["most CPU"] for r in rows) else 0


def prepare(stack: ExitStack, folder: Path, size_bytes: int) -> dict[str, tuple[Way, Way]]:
    """Starts every server; by security, the controller's way and nginx's."""
    home, file = Home(folder / "home"), folder / "fleet.json"
    enrol_fleet(home, file, 1)
    ref, device_id = leased(home, folder / "artifact", size_bytes)
    (own,) = credentials(file, 0, 1)
    now = dt.datetime.now(dt.UTC)
    identity = Authority(home.pki, now).server_identity([], now)
    plain, secure = (free_port() for _ in range(2))
    server = stack.enter_context(
        web.nginx(folder / "nginx", home.artifacts, identity, (plain, secure))
    )
    path = "/" + str(ContentStore(home.artifacts).path(ref.digest).relative_to(home.artifacts))
    kept = web.write_credentials(folder / "own", own)

    command = blob_command(home, "127.0.0.1", "warning", json_lines=False)
    open_command = [*command[:2], "bench.wire.plain", device_id, *command[3:]]
    found = {}
    for security, its_command, port, tls in (
        ("plaintext", open_command, server.plain, None),
        ("mTLS", command, server.secure, kept),
    ):
        child = Child(f"blobs {security}", its_command, {"blobs": 0})
        stack.callback(child.stop)
        address = f"127.0.0.1:{child.ports['blobs']}"
        channel = functools.partial(dial, address, own) if tls else functools.partial(bare, address)
        device, target = ContentStore(folder / f"device-{security}"), folder / f"http-{security}"
        ours = functools.partial(fetch, channel, ref, device)
        theirs = functools.partial(web.fetch, port, path, target, hex_of(ref.digest), tls)
        found[security] = (
            Way(ours, functools.partial(device.remove, ref.digest), [child.process.pid]),
            Way(theirs, target.unlink, server.pids),
        )
    return found


def row(security: str, ours: Way, theirs: Way, mb: int, turns: int) -> dict[str, Any]:
    """Both ways by turns."""
    pairs = [(timed(ours), timed(theirs)) for _ in range(turns + 1)][1:]  # the first warms up
    gb = mb / 1000
    return {
        "": security,
        "MB/s": round(median(mb / our_s for (our_s, _), _ in pairs)),
        "nginx MB/s": round(median(mb / their_s for _, (their_s, _) in pairs)),
        "throughput": round(median(their_s / our_s for (our_s, _), (their_s, _) in pairs), 2),
        "least throughput": LEAST_THROUGHPUT[security],
        "CPU s/GB": round(median(cpu / gb for (_, cpu), _ in pairs), 2),
        "nginx CPU s/GB": round(median(cpu / gb for _, (_, cpu) in pairs), 2),
        # /proc counts in hundredths of a second: the sums, not the single turns, are compared.
        "CPU": round(
            sum(cpu for (_, cpu), _ in pairs) / max(0.01, sum(cpu for _, (_, cpu) in pairs)), 2
        ),
        "most CPU": MOST_CPU[security],
    }


def timed(way: Way) -> tuple[float, float]:
    """Seconds, and CPU seconds of the server; either way begins without a file."""
    cpu, began = sum(map(cpu_s, way.pids)), time.perf_counter()
    way.fetch()
    took, cpu = time.perf_counter() - began, sum(map(cpu_s, way.pids)) - cpu
    way.remove()
    return took, cpu


def fetch(channel: Callable[[], grpc.Channel], ref: ArtifactRef, store: ContentStore) -> None:
    """As an agent fetches, on a connection of its own."""
    link = Link(channel, channel, QuietWindow())
    fetcher = Fetcher(ArtifactCache(store, 1 << 40, 0), link.read)
    fetcher.fetch(ref, threading.Event())
    link.close()


def bare(address: str) -> grpc.Channel:
    """A plaintext channel with an agent's options."""
    return grpc.insecure_channel(address, options=[*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)])


def leased(home: Home, file: Path, size_bytes: int) -> tuple[ArtifactRef, str]:
    """A file of noise that the only device may read; the file, and the device's id."""
    with file.open("wb") as target:
        for at in range(0, size_bytes, 1 << 20):
            target.write(os.urandom(min(1 << 20, size_bytes - at)))
    ref = ContentStore(home.artifacts).add_file(file, MEDIA_ONNX)
    file.unlink()
    store = open_store(home)
    (device,) = store.devices()
    round_ = queued("r0", "fp32", device_id=device.device_id)
    runs = tuple(replace(run, attempt_id="a0", artifact=ref) for run in round_.runs)
    store.add_sweep(sweep(), [], [replace(round_, runs=runs)])
    store.lease_round(device.device_id, _LEASE_NS, time.time_ns())
    store.close()
    return ref, device.device_id


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_s(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
