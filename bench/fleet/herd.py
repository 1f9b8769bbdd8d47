"""A fleet that comes back all at once: every device dials within a second, with mTLS.

    python -m bench.fleet.herd [--devices 3000] [--processes 4]

The controller has just been killed and started again. Prints one JSON object: when the last device
had its answer, and how the calls ended. Exit status 1 where that took more than 20 s or a call
ended otherwise than well.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fleet.clients import Clients, Habit
from bench.fleet.made import enrol_fleet

from assay.controller.home import Home
from tests.plane_client import controller_process

MOST_S = 20.0
_PATIENCE_S = 300.0


def main() -> int:
    """Prints the figures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=3000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-herd-") as folder:
        found = measure(Path(folder), options.devices, options.processes)
    print(json.dumps(found, indent=2))
    return 0 if found["served_s"] <= MOST_S and set(found["codes"]) == {"OK"} else 1


def measure(folder: Path, count: int, processes: int) -> dict[str, Any]:
    """Enrols a fleet and lets it come."""
    home, file = Home(folder / "home"), folder / "fleet.json"
    enrol_fleet(home, file, count)
    with controller_process(home) as controller:
        controller.start()
        controller.end(signal.SIGKILL)
        serving = controller.start()
        habit = Habit(spread_s=1.0, wait_s=0.0, pause_s=-1.0)
        with Clients(file, count, processes, serving.fleet_address, habit) as clients:
            clients.ask()
            began = time.monotonic()
            while (seen := clients.ask()).attached < count:
                if time.monotonic() - began > _PATIENCE_S:
                    break
                time.sleep(0.5)
    return {
        "devices": count,
        "served": seen.attached,
        "served_s": round(seen.last_first_s, 2),
        "codes": dict(seen.codes),
        "reasons": dict(seen.reasons),
        "target": f"all within {MOST_S:g} s, OK alone",
    }


if __name__ == "__main__":
    sys.exit(main())
