"""Makes a board draw more power in steps, for calibrating its sensor against a meter.

The children are ``python -m assay.agent.power.load_levels DUTY``; each ends when its stdin closes,
so none outlives its parent.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from assay.agent.environ import child_environment

_PERIOD_S = 0.02
_STOP_S = 5.0


def duties(level: int, levels: int, cpus: int) -> tuple[float, ...]:
    """How busy each CPU that works is (0 to 1) at ``level`` of ``levels``: none at the first, all
    at the last, evenly in between."""
    whole, part = divmod(level / (levels - 1) * cpus, 1)
    return (1.0,) * int(whole) + ((part,) if part > 0.01 else ())


@contextmanager
def busy(shares: tuple[float, ...]) -> Iterator[None]:
    """Keeps one CPU busy per share while the block runs."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, f"{share:.3f}"],
            stdin=subprocess.PIPE,
            env=child_environment(),
        )
        for share in shares
    ]
    try:
        yield
    finally:
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
        for child in children:
            try:
                child.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def main(share: float) -> int:
    """The child: busy for ``share`` of each 20 ms until stdin closes."""
    os.nice(5)
    while True:
        end = time.perf_counter() + share * _PERIOD_S
        while time.perf_counter() < end:
            pass
        ready, _, _ = select.select([sys.stdin], [], [], (1 - share) * _PERIOD_S)
        if ready and not os.read(0, 1):
            return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
