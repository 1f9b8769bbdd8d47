"""Whether devices wait longer for an answer while the controller renders ``/metrics``.

    python -m bench.watch.control_loop [--devices 55]

Starts a real controller on a store that fills the page's budget and calls Sync, one call after
another, while every two seconds another result of a running sweep makes the page be rendered anew;
by turns with and without ``/metrics`` and the live page. A watched turn begins once the long pause
after the first page is over. Prints one JSON object: median and p99 of Sync for both, their ratio,
and how often the page was rendered meanwhile; exit status 1 where it never was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles

from bench.watch.made import Entry, filled, full_sweep

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.server.running import ServingController
from assay.controller.store.base import Store
from assay.core import log
from tests.plane_client import ANY_PORTS, Board, Key, controller_process, enrol

_EVERY_S = 2.0
_PAUSE_S = 0.005
_SETTLED_S = 60.0
_WATCHED = ("--metrics-port=0", "--live-port=0")
_ALONE = ("--no-metrics", "--no-live")


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=55)
    parser.add_argument("--variants", type=int, default=15, help="Each in two runtimes.")
    parser.add_argument("--seconds", type=int, default=14, help="How long each turn takes.")
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    log.configure("warning")
    with tempfile.TemporaryDirectory(prefix="assay-loop-") as folder:
        found = measure(Home(Path(folder) / "home"), options)
    print(json.dumps(found, indent=2))
    return 0 if found["renders"] else 1


def measure(home: Home, options: argparse.Namespace) -> dict[str, object]:
    """Fills a store, then takes turns."""
    data = full_sweep(options.devices, options.variants)
    store, held = filled(home, data, kept_back=2 * options.variants)
    more = iter(held)
    device_id = list(data.devices)[-1]
    took: dict[str, list[float]] = {"alone": [], "watched": []}
    renders = 0
    with contextlib.closing(store):
        for turn in range(2 * options.turns):
            name = ("alone", "watched")[turn % 2]
            arguments = (*ANY_PORTS, *(_WATCHED if turn % 2 else _ALONE))
            with controller_process(home, arguments=arguments) as process:
                serving = process.start()
                with board(home, store, serving, f"caller-{turn}") as caller:
                    before = settled(serving, store, device_id, more) if turn % 2 else 0
                    took[name] += calls(caller, store, device_id, more, options.seconds)
                    renders += rendered(serving) - before
                process.end()
    found = {name: figures(values) for name, values in took.items()}
    return {
        "lines_per_render": options.devices * options.variants * 2 * 30,
        "renders": renders,
        "sync_ms": found,
        "p99_ratio": round(found["watched"]["p99"] / found["alone"]["p99"], 2),
        "load": round(os.getloadavg()[0], 1),
    }


@contextlib.contextmanager
def board(home: Home, store: Store, serving: ServingController, name: str) -> Iterator[Board]:
    """A device of its own that can call the controller."""
    token, key = create_token(home, store, note="bench"), Key()
    with Board(enrol(serving.enrolment_address, token, name, key), key) as made:
        yield made


def calls(
    caller: Board, store: Store, device_id: str, more: Iterator[Entry], seconds: float
) -> list[float]:
    """How long each Sync took, in seconds, while results come in."""
    took = []
    begin_s = next_s = time.monotonic()
    while (now_s := time.monotonic()) < begin_s + seconds:
        if now_s >= next_s and (entry := next(more, None)):
            store.record(device_id, [entry], time.time_ns())
            next_s += _EVERY_S
        started_s = time.perf_counter()
        caller.sync()
        took.append(time.perf_counter() - started_s)
        time.sleep(_PAUSE_S)
    return took


def rendered(serving: ServingController) -> int:
    """How many results the page counts: each came with a render of its own."""
    if not serving.metrics_address:
        return 0
    with urllib.request.urlopen(f"http://{serving.metrics_address}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return int(sum(float(x.split()[-1]) for x in lines if x.startswith("assay_results_total{")))


def settled(serving: ServingController, store: Store, device_id: str, more: Iterator[Entry]) -> int:
    """:func:`rendered`, once a page came after the first."""
    before, deadline_s = rendered(serving), time.monotonic() + _SETTLED_S
    store.record(device_id, [next(more)], time.time_ns())
    while (now := rendered(serving)) == before and time.monotonic() < deadline_s:
        time.sleep(_EVERY_S / 4)
    return now


def figures(took: list[float]) -> dict[str, float]:
    """In milliseconds."""
    cuts = [1000 * value for value in quantiles(took, n=1000)]
    return {
        "calls": len(took),
        "p50": round(cuts[499], 2),
        "p99": round(cuts[989], 2),
        "max": round(1000 * max(took), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
