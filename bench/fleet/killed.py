"""Results lost or doubled while the controller and the agents are killed again and again.

    python -m bench.fleet.killed [--results 40000] [--agents 4] [--kills 7]

Agents whose session, spool and reporter are the real ones (:mod:`bench.fleet.agent`) deliver
results to a real controller over mTLS. As often as ``--kills`` says, spread over the results, the
controller is ended by SIGKILL and started again, and so is an agent. Then every acknowledgement in
the agents' logs must be a result in the store, and every attempt must have exactly one that counts.
Prints one JSON object; exit status 1 where one was lost or doubled, or an agent ended by itself.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.fleet.made import credentials, enrol_fleet

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.records import RoundRecord, RoundState
from assay.controller.server.running import ServingController
from assay.controller.store import open_store
from assay.core.channel import Credentials
from tests.plane import queued, sweep
from tests.plane_client import ControllerProcess, controller_process

_RUNS = 50
_PATIENCE_S = 900.0


@dataclass(slots=True)
class Agent:
    """One agent's process, its home and its log."""

    home: AgentHome
    process: subprocess.Popen[bytes] | None = None
    fallen: int = 0
    """How often it has ended by itself."""

    @property
    def log(self) -> Path:
        """Beside its home."""
        return self.home.root.with_suffix(".log")

    def start(self) -> None:
        """Once more."""
        command = [sys.executable, "-m", "bench.fleet.agent", str(self.home.root)]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(command, stderr=file)

    def revive(self) -> None:
        """Starts it again where it ended by itself, as a service manager would."""
        if self.process is not None and self.process.poll() is not None:
            self.fallen += 1
            self.start()

    def kill(self) -> None:
        """By SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def acknowledged(self) -> set[tuple[str, int]]:
        """(attempt, seq) of every acknowledgement it noted; a kill may cut a line short."""
        found = set()
        for line in self.log.read_bytes().splitlines():
            if b'"result was recorded"' in line and line.endswith(b"}"):
                said = json.loads(line)
                found.add((said["attempt"], said["seq"]))
        return found


def main() -> int:
    """Prints what became of the results; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--results", type=int, default=40_000)
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--kills", type=int, default=7, help="Of the controller, and of agents.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-killed-") as folder:
        found = measure(Path(folder), options.results, options.agents, options.kills)
    print(json.dumps(found, indent=2))
    wrong = ("lost", "doubled", "without_a_result", "conflicts", "rounds_not_done")
    return 1 if any(found[name] for name in (*wrong, "ended_by_themselves")) else 0


def measure(folder: Path, count: int, agents: int, kills: int) -> dict[str, Any]:
    """Starts everything, kills, waits for the end, counts."""
    home, file = Home(folder / "home"), folder / "fleet.json"
    enrol_fleet(home, file, agents)
    wanted = plan(home, count)
    began = time.monotonic()
    with controller_process(home) as controller:
        serving = controller.start()
        all_ = [
            enrolled(folder / f"agent-{index}", f"id-d{index:05}", own, serving)
            for index, own in enumerate(credentials(file, 0, agents))
        ]
        controller.arguments = ("--no-metrics", "--no-live")  # it comes back on the same ports
        try:
            for agent in all_:
                agent.start()
            kill_by_and_by(controller, all_, home, wanted, kills)
            until(home, all_, wanted, over=True)
        finally:
            for agent in all_:
                agent.kill()
        controller.end(signal.SIGTERM)
    took = time.monotonic() - began
    return counted(home, all_, wanted) | {
        "controller_kills": kills,
        "agent_kills": kills,
        "seconds": round(took, 1),
    }


def plan(home: Home, count: int) -> int:
    """Rounds for every device; how many results they want."""
    store = open_store(home)
    devices = store.devices()
    rounds: list[RoundRecord] = []
    for index in range(-(-count // (_RUNS * len(devices)))):
        for device in devices:
            round_id = f"r{index}-{device.name}"
            each = queued(round_id, *["fp32"] * _RUNS, device_id=device.device_id, index=index)
            runs = (replace(run, attempt_id=f"{round_id}-{n}") for n, run in enumerate(each.runs))
            rounds.append(replace(each, runs=tuple(runs)))
    store.add_sweep(sweep(rounds=len(rounds) // len(devices)), [], rounds)
    store.close()
    return len(rounds) * _RUNS


def enrolled(root: Path, device_id: str, own: Credentials, serving: ServingController) -> Agent:
    """An agent's home as enrolment leaves it."""
    home = AgentHome(root).create()
    home.key.write_bytes(own.key_pem)
    Identity(
        device_id=device_id,
        name=device_id.removeprefix("id-"),
        certificate_pem=own.certificate_pem.decode(),
        ca_bundle_pem=own.ca_bundle_pem.decode(),
        fleet_address=serving.fleet_address,
        blobs_address=serving.blobs_address,
        enrolled_at=serving.enrolment_address,
        not_after_unix_s=int(time.time()) + 30 * 86_400,
    ).store(home)
    return Agent(home)


def kill_by_and_by(
    controller: ControllerProcess, agents: list[Agent], home: Home, wanted: int, kills: int
) -> None:
    """Evenly over the results, each at a moment nobody chose."""
    rng = random.Random(7)
    for index in range(kills):
        until(home, agents, wanted * (index + 1) // (kills + 1))
        time.sleep(rng.uniform(0, 0.3))
        controller.end(signal.SIGKILL)
        time.sleep(rng.uniform(0, 1.0))
        controller.start()
        time.sleep(rng.uniform(0.5, 1.5))
        agent = agents[index % len(agents)]
        agent.kill()
        agent.start()
        print(f"killed both {index + 1} of {kills} times", file=sys.stderr)


def until(home: Home, agents: list[Agent], count: int, *, over: bool = False) -> None:
    """Waits for that many results, or where ``over`` for the end of every round too."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        for agent in agents:
            agent.revive()
        there = one(home, "SELECT count(*) FROM results")
        if there >= count and not (over and unfinished(home)):
            return
        time.sleep(0.1)
    print(f"error: {there} of {count} results after {_PATIENCE_S:g} s", file=sys.stderr)


def unfinished(home: Home) -> int:
    """Rounds that are not done."""
    return one(home, f"SELECT count(*) FROM rounds WHERE state <> '{RoundState.DONE.value}'")


def one(home: Home, query: str) -> int:
    """A number from the database, without the store: nothing of it is taken on trust."""
    connection = sqlite3.connect(f"file:{home.database}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def counted(home: Home, agents: list[Agent], wanted: int) -> dict[str, Any]:
    """Both sides' word against each other."""
    connection = sqlite3.connect(home.database)
    rows = connection.execute("SELECT attempt_id, seq, superseded FROM results").fetchall()
    connection.close()
    acknowledged = set().union(*(agent.acknowledged() for agent in agents))
    stored = {(attempt, seq) for attempt, seq, _ in rows}
    counting = Counter(attempt for attempt, _, superseded in rows if not superseded)
    return {
        "wanted": wanted,
        "stored": len(rows),
        "acknowledged": len(acknowledged),
        "lost": len(acknowledged - stored),
        "doubled": sum(times > 1 for times in counting.values()),
        "without_a_result": wanted - len(counting),
        "superseded": sum(bool(superseded) for *_, superseded in rows),
        "conflicts": one(home, "SELECT count(*) FROM conflicts"),
        "rounds_not_done": unfinished(home),
        "ended_by_themselves": sum(agent.fallen for agent in agents),
    }


if __name__ == "__main__":
    sys.exit(main())
