"""What an attached fleet costs its controller: memory for each agent, CPU for each Sync.

    python -m bench.fleet.attached [--devices 5000] [--processes 4] [--beat 30] [--seconds 90]

Each synthetic device holds a connection with mTLS and asks again as soon as its long-poll of
``--beat`` seconds ends. Beside it, in the same run and at the same rate, a server that only
answers (:mod:`bench.fleet.bare`). Prints one JSON object; exit status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.fleet.clients import Clients, Habit
from bench.fleet.made import enrol_fleet

from assay.controller.home import Home
from tests.plane_client import controller_process

MOST_BYTES = 110_000
MOST_RATIO = 2.0
_BARE_DEVICES = 500
_PATIENCE_S = 300.0


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=5000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--beat", type=float, default=30.0, help="Seconds between two Syncs.")
    parser.add_argument("--seconds", type=float, default=90.0, help="How long CPU is counted.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-attached-") as folder:
        found = measure(Path(folder), options)
    print(json.dumps(found, indent=2))
    held = found["attached"] == options.devices and set(found["codes"]) == {"OK"}
    small = found["bytes_per_agent"] <= MOST_BYTES and found["cpu_ratio"] <= MOST_RATIO
    return 0 if held and small else 1


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The controller first, then the bare server, both with the same certificates."""
    home, file = Home(folder / "home"), folder / "fleet.json"
    enrol_fleet(home, file, options.devices)
    with controller_process(home) as controller:
        serving = controller.start()
        before = resident_bytes(serving.pid)
        habit = Habit(spread_s=options.beat, wait_s=options.beat, pause_s=0.0)
        count, processes = options.devices, options.processes
        with Clients(file, count, processes, serving.fleet_address, habit) as clients:
            attach(clients, count, options.beat)
            grown = resident_bytes(serving.pid) - before
            per_sync, rate = cost(serving.pid, clients, options.seconds)
            seen = clients.ask()
    bare = min(_BARE_DEVICES, options.devices)
    pause_s = bare / rate
    with bare_server(home) as (pid, address):
        habit = Habit(spread_s=pause_s, wait_s=0.0, pause_s=pause_s)
        with Clients(file, bare, 1, address, habit) as clients:
            attach(clients, bare, pause_s)
            per_call, bare_rate = cost(pid, clients, min(options.seconds, 30.0))
    return {
        "devices": count,
        "attached": seen.attached,
        "codes": dict(seen.codes),
        "bytes_per_agent": round(grown / count),
        "syncs_per_s": round(rate, 1),
        "cpu_ms_per_sync": round(per_sync * 1e3, 2),
        "bare_calls_per_s": round(bare_rate, 1),
        "cpu_ms_per_bare_call": round(per_call * 1e3, 2),
        "cpu_ratio": round(per_sync / per_call, 2),
        "targets": {"bytes_per_agent": MOST_BYTES, "cpu_ratio": MOST_RATIO},
    }


def attach(clients: Clients, count: int, settle_s: float) -> None:
    """Waits until every device has been answered once, then until all are in step."""
    began = time.monotonic()
    while clients.ask().attached < count and time.monotonic() - began < _PATIENCE_S:
        time.sleep(0.5)
    time.sleep(settle_s)


def cost(pid: int, clients: Clients, seconds: float) -> tuple[float, float]:
    """CPU seconds of a server for each answer, and answers a second, while it goes on."""

    def answers() -> int:
        return clients.ask().codes["OK"]

    cpu, calls, began = cpu_s(pid), answers(), time.monotonic()
    time.sleep(seconds)
    spent, made, took = cpu_s(pid) - cpu, answers() - calls, time.monotonic() - began
    if not made:
        raise SystemExit("error: nothing was answered in that time; give it more --seconds")
    return spent / made, made / took


@contextmanager
def bare_server(home: Home) -> Iterator[tuple[int, str]]:
    """Its process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.fleet.bare", str(home.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.pid, f"127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()
        process.wait(20)


def cpu_s(pid: int) -> float:
    """What a process has used, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Anonymous memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
