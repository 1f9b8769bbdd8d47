"""What an idle agent costs: memory and CPU of a real agent that syncs with a real controller.

    python bench/agent/idle.py [--seconds 60]

Starts both on loopback with homes of their own, lets the agent settle, then reads its resident
memory and CPU time from /proc. Targets: at most 60 MB resident, less than 1 % of one core, no
runtime and no numpy loaded. Exit status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

MOST_RSS_BYTES = 60_000_000
MOST_CPU_SHARE = 0.01
HEAVY = ("numpy", "onnxruntime", "ai_edge_litert", "torch", "cryptography")
SETTLE_S = 5.0


def main() -> int:
    """Prints one JSON object; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="How long CPU time is counted.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-idle-") as folder:
        found = measure(Path(folder), options.seconds)
    targets = {"rss_bytes": MOST_RSS_BYTES, "cpu_share": MOST_CPU_SHARE, "heavy_loaded": []}
    print(json.dumps({"idle": asdict(found), "targets": targets}, indent=2))
    small = found.rss_bytes <= MOST_RSS_BYTES and not found.heavy_loaded
    return 0 if small and found.cpu_share < MOST_CPU_SHARE else 1


@dataclass(frozen=True, slots=True)
class Idle:
    """An agent's figures over ``seconds`` of doing nothing; ``heavy_loaded`` names packages."""

    rss_bytes: int
    cpu_share: float
    threads: int
    heavy_loaded: list[str]
    seconds: float


def measure(folder: Path, seconds: float) -> Idle:
    """Starts both sides, watches the agent, ends both."""
    environment = {
        **os.environ,
        "ASSAY_HOME": str(folder / "controller"),
        "ASSAY_AGENT_HOME": str(folder / "agent"),
    }
    ports = [f"--{name}-port=0" for name in ("enrol", "fleet", "blobs")]
    controller = start(
        environment, folder, "assay.controller", "controller", "serve", "--no-metrics", *ports
    )
    agent: subprocess.Popen[bytes] | None = None
    try:
        address = enrolment_address(environment)
        environment["ASSAY_AGENT_TOKEN"] = run(environment, "token", "create").strip()
        agent = start(environment, folder, "assay.agent", "run", "--controller", address)
        wait_for(folder / "assay.agent.log", "agent started")
        time.sleep(SETTLE_S)
        return watch(agent.pid, seconds)
    finally:
        for process in (agent, controller):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def watch(pid: int, seconds: float) -> Idle:
    """Reads /proc before and after."""
    cpu_before_s, begin_s = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    elapsed_s = time.monotonic() - begin_s
    status = Path(f"/proc/{pid}/status").read_text()
    maps = Path(f"/proc/{pid}/maps").read_text()
    return Idle(
        rss_bytes=int(status.partition("VmRSS:")[2].split()[0]) * 1024,
        cpu_share=(cpu_s(pid) - cpu_before_s) / elapsed_s,
        threads=int(status.partition("Threads:")[2].split()[0]),
        heavy_loaded=[name for name in HEAVY if f"/{name}/" in maps],
        seconds=round(elapsed_s, 1),
    )


def cpu_s(pid: int) -> float:
    """User and system time of the process, in seconds (/proc/PID/stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(
    environment: dict[str, str], folder: Path, module: str, *arguments: str
) -> subprocess.Popen[bytes]:
    """One of the two programs, its log in ``folder``."""
    with (folder / f"{module}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments], env=environment, stdout=log, stderr=log
        )


def run(environment: dict[str, str], *arguments: str) -> str:
    """What an ``assay`` command prints."""
    command = [sys.executable, "-m", "assay.controller", *arguments]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout


def enrolment_address(environment: dict[str, str]) -> str:
    """Where the controller takes join tokens, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told = run(environment, "controller", "status", "--format", "json")
        if told:
            return str(json.loads(told)[0]["enrolment"])
        time.sleep(0.2)
    raise SystemExit("the controller did not start")


def wait_for(log: Path, text: str) -> None:
    """Until a line is in a log."""
    deadline = time.monotonic() + 180
    while text not in (said := log.read_text()):
        if time.monotonic() > deadline or "error:" in said:
            raise SystemExit(f"{log.name} does not say {text!r}:\n{said}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
