"""How long deploying takes, on real hosts: ``python -m bench.deploy.measure [--agents 3 6]``.

Each count is a lab of its own: a bench host (controller and Prometheus) and so many devices, all
fresh, Debian with systemd and sshd in containers on this machine. Told for the first run and the
second, which changes nothing: wall time, and the processor time of the control node alone, which
is what a fleet of boards with processors of their own is bounded by. From the smallest and the
largest lab both are drawn out to ``--extrapolate`` agents in a straight line, which the row says.
Needs root and the programs of the system tests.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tests.system.ansible.fleet import Fleet, fresh_fleet


@dataclass(frozen=True)
class Timing:
    """One run of ``deploy.yml``."""

    wall_s: float
    control_cpu_s: float
    changed: int


def drawn_out(known: Mapping[int, Timing], agents: int) -> Timing:
    """The straight line through the smallest and the largest of ``known`` (by agents), at
    ``agents``."""
    low, high = min(known), max(known)
    share = (agents - low) / (high - low)

    def at(before: float, after: float) -> float:
        return before + share * (after - before)

    first, last = known[low], known[high]
    return Timing(
        at(first.wall_s, last.wall_s),
        at(first.control_cpu_s, last.control_cpu_s),
        round(at(first.changed, last.changed)),
    )


def deploy(fleet: Fleet) -> Timing:
    """Runs the playbook once."""
    before = _children_s()
    done = fleet.play("deploy").ended()
    changed = sum(counts["changed"] for counts in done.recap.values())
    return Timing(done.seconds, _children_s() - before, changed)


def main() -> None:
    """Prints a row for each run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[3, 6])
    parser.add_argument("--extrapolate", type=int, default=50)
    given = parser.parse_args()
    runs: dict[str, dict[int, Timing]] = {"first": {}, "second": {}}
    print("| agents | run | wall | control node's CPU | changes | load before |")
    print("|---|---|---|---|---|---|")
    for count in given.agents:
        with fresh_fleet([f"device-{number}" for number in range(1, count + 1)]) as fleet:
            for run, known in runs.items():
                load = os.getloadavg()[0]
                known[count] = deploy(fleet)
                print(_row(str(count), run, known[count], f"{load:.1f}"), flush=True)
    if len(set(given.agents)) > 1:
        for run, known in runs.items():
            drawn = drawn_out(known, given.extrapolate)
            if drawn.wall_s < known[max(known)].wall_s:
                print(f"{run}: not drawn out, other work disturbed the runs", file=sys.stderr)
                continue
            print(_row(f"{given.extrapolate} (extrapolated)", run, drawn, "-"))


def _row(agents: str, run: str, took: Timing, load: str) -> str:
    times = f"{took.wall_s:.0f} s | {took.control_cpu_s:.0f} s"
    return f"| {agents} | {run} | {times} | {took.changed} | {load} |"


def _children_s() -> float:
    """Processor time of the processes this one started and waited for; not that of the hosts."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
