"""How long the agent takes to look at its board: every composed board, and this machine.

    python bench/runtimes/detection.py [--rounds 5]

Each time in a fresh process, imports left out, since an agent has them already. Runtimes are left
out too: each is probed by a process of its own. The target is 0.3 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
BOARDS = REPOSITORY / "tests/fixtures/boards"
_LOOK = """
import sys, time
from pathlib import Path
from assay.agent.devices.detect import detect
import assay.agent.samplers as samplers
samplers.all_samplers()
wall, cpu = time.perf_counter(), time.process_time()
detect(Path(sys.argv[1]), ())
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


def main() -> None:
    """Prints a table: median and worst of wall time, median of CPU time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print("| board | wall ms (worst) | CPU ms |\n|---|---|---|")
    boards = sorted(path for path in BOARDS.iterdir() if path.is_dir())
    for root in (Path("/"), *boards):
        walls, cpus = [], []
        for _ in range(rounds):
            argv = [sys.executable, "-c", _LOOK, str(root)]
            out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
            walls.append(float(out[-2]) * 1e3)
            cpus.append(float(out[-1]) * 1e3)
        name = "this machine" if root == Path("/") else root.name
        wall, worst, cpu = statistics.median(walls), max(walls), statistics.median(cpus)
        print(f"| {name} | {wall:.0f} ({worst:.0f}) | {cpu:.0f} |")


if __name__ == "__main__":
    main()
