"""What ``/metrics`` costs near its full budget, with a store of real results behind it.

    python -m bench.watch.exporter [--devices 60]

Prints one JSON object: CPU time of a render of the thread that renders, after a start, after one
more result of a running sweep, after nothing but a sign of life, and after nothing at all.
Target: at most 1 s of CPU a render. Exit status 1 where it is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.watch.made import filled, full_sweep

from assay.controller.home import Home
from assay.controller.live.process import collect_seldom
from assay.controller.metrics.page import PageSource

MOST_CPU_S = 1.0
_MORE = 8  # results that come one by one


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=60)
    parser.add_argument("--variants", type=int, default=15, help="Each in two runtimes.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-exporter-") as folder:
        found = measure(Home(Path(folder)), options.devices, options.variants)
    print(json.dumps(found, indent=2))
    return 0 if max(found["cpu_s"].values()) <= MOST_CPU_S else 1


def measure(home: Home, devices: int, variants: int) -> dict[str, Any]:
    """Fills a store, then renders it after one change after another."""
    collect_seldom()
    data = full_sweep(devices, variants)
    store, held = filled(home, data, kept_back=_MORE)
    device_id = list(data.devices)[-1]
    with contextlib.closing(store):
        source = PageSource(store)
        spent = {"everything new": cpu_s(source.page)}
        more = []
        for entry in held:
            store.record(device_id, [entry], time.time_ns())
            more.append(cpu_s(source.page))
        spent["one more result"] = sorted(more)[len(more) // 2]
        store.seen(device_id, None, time.time_ns())
        spent["a sign of life"] = cpu_s(source.page)
        spent["nothing"] = cpu_s(source.page)
        page = source.page()
    lines = page.plain.count(b"\n")
    return {
        "devices": devices,
        "results": len(data.results),
        "lines": lines,
        "bytes": len(page.plain),
        "packed_bytes": len(page.packed),
        "cpu_s": {name: round(value, 3) for name, value in spent.items()},
        "target_cpu_s": MOST_CPU_S,
        "load": round(os.getloadavg()[0], 1),
    }


def cpu_s(action: Callable[[], object]) -> float:
    """CPU time of this thread in ``action``."""
    before = time.thread_time()
    action()
    return time.thread_time() - before


if __name__ == "__main__":
    sys.exit(main())
