"""What the report of a large sweep costs: 30 variants on 5 devices, one result each, with traces.

    python -m bench.watch.report

Prints one JSON object. Targets: at most 5 s, at most 3 MB. Exit status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.watch.exporter import cpu_s
from bench.watch.made import devices, variants

from assay.controller.home import Home
from assay.controller.report import write_report
from assay.core.cas import ContentStore
from tests.factories import FakeStore, make_sweep

MOST_S, MOST_BYTES = 5.0, 3_000_000


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=5)
    parser.add_argument("--variants", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-report-") as folder:
        found = measure(Path(folder), options.devices, options.variants, options.rounds)
    print(json.dumps(found, indent=2))
    fast = found["wall_s"] <= MOST_S
    return 0 if fast and found["bytes"] <= MOST_BYTES else 1


def measure(folder: Path, device_count: int, variant_count: int, rounds: int) -> dict[str, Any]:
    """Makes the sweep, then its report."""
    blobs = ContentStore(Home(folder).create().artifacts)
    data = make_sweep(
        shapes=variants(variant_count),
        devices=devices(device_count),
        runtimes=("onnxruntime",),
        rounds=rounds,
        blobs=blobs,
        scratch=folder,
        spoil=False,
    )
    store, path = FakeStore(data), folder / "report.html"
    began_s = time.monotonic()
    spent_s = cpu_s(lambda: write_report(store, blobs, "demo", path))  # type: ignore[arg-type]
    return {
        "results": sum(not r.result.run.canary for r in data.results),
        "wall_s": round(time.monotonic() - began_s, 2),
        "cpu_s": round(spent_s, 2),
        "bytes": path.stat().st_size,
        "targets": {"wall_s": MOST_S, "bytes": MOST_BYTES},
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
