"""An agent as a real process, and a sweep of a tiny model for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import (
    CellRecord,
    ResultRecord,
    RoundRecord,
    RoundState,
    SweepRecord,
    SweepState,
)
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX, Profile, RunSpec
from tests.tinymodels import SHORT, run_of, save_mlp, save_samples

PATIENCE_S = 120.0


@dataclass(slots=True)
class AgentProcess:
    """``assay-agent run`` on ``home``, with its log in a file beside it; ``launcher`` replaces
    ``-m assay.agent``."""

    home: AgentHome
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    launcher: Sequence[str] = ("-m", "assay.agent")
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home.root.parent / f"{self.home.root.name}.log"

    @property
    def said(self) -> str:
        """The log so far."""
        return self.log.read_text() if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *arguments: str) -> AgentProcess:
        """Starts it; does not wait."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *self.launcher, "run", *self.arguments, *arguments],
                env={
                    **os.environ,
                    "ASSAY_AGENT_HOME": str(self.home.root),
                    # Others take seconds to load.
                    "ASSAY_AGENT_RUNTIMES": "onnxruntime",
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        return self

    def until(self, condition: Callable[[], object], what: str = "it") -> None:
        """Waits for something; fails with the log where it does not come or the agent ends."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            ended = self.process is not None and self.process.poll() is not None
            if (ended and not condition()) or time.monotonic() > deadline:
                why = "the agent ended" if ended else "time is up"
                raise AssertionError(f"{what} did not come about ({why}):\n{self.said[-6000:]}")
            time.sleep(0.02)

    def until_said(self, text: str, times: int = 1) -> None:
        """Waits for a line of the log."""
        self.until(lambda: self.said.count(text) >= times, repr(text))

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Waits until it ends by itself."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def agent_process(home: Path, **options: object) -> Iterator[AgentProcess]:
    """An agent that is not started yet, and is gone after the block."""
    made = AgentProcess(AgentHome(home), **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


def eventually(condition: Callable[[], object], what: str = "it") -> None:
    """Waits for something that takes no agent to come about."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)


def children(*pids: int) -> list[int]:
    """Every process below these, by now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found = re.search(r"^PPid:\s+(\d+)$", (entry / "status").read_text(), re.MULTILINE)
            if found is not None:
                parents[int(entry.name)] = int(found[1])
    known = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return sorted(known - set(pids))


def alive(pids: Sequence[int]) -> list[int]:
    """Those that still run (a zombie does not)."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def token_for(home: Home, store: Store, **changes: object) -> str:
    """A join token of the controller on ``home``."""
    options = {"note": "test", "uses": 9, "lifetime_s": 600, **changes}
    return str(create_token(home, store, **options))  # type: ignore[arg-type]


def tiny_runs(home: Home, scratch: Path, count: int, profile: Profile = SHORT) -> list[RunSpec]:
    """Runs of as many tiny models, with their files in the controller's store."""
    blobs = ContentStore(home.artifacts)
    samples = save_samples(scratch / "samples.npz")
    blobs.add_file(samples, MEDIA_NPZ)
    made = []
    for seed in range(count):
        model = save_mlp(scratch / f"mlp{seed}.onnx", seed=seed)
        blobs.add_file(model, MEDIA_ONNX)
        run = run_of(model, samples, profile=profile)
        made.append(replace(run, cell_key=f"cell-{seed}", variant_id=f"variant-{seed}"))
    return made


def submit(
    store: Store,
    identity: Identity,
    runs: Sequence[RunSpec],
    rounds: int = 1,
    **limits: float,
) -> str:
    """A sweep of these runs on the device, each in every round; its id."""
    sweep_id, now_ns = f"sweep-{len(store.sweeps())}", time.time_ns()
    spec = json.dumps({"limits": limits})
    record = SweepRecord(sweep_id, sweep_id, spec, 7, rounds, SweepState.RUNNING, now_ns)
    cells = [
        CellRecord(run.cell_key, sweep_id, identity.device_id, "g", run, baseline=index == 0)
        for index, run in enumerate(runs)
    ]
    made = [
        RoundRecord(
            round_id=f"{sweep_id}-r{index}",
            sweep_id=sweep_id,
            device_id=identity.device_id,
            group="g",
            index=index,
            state=RoundState.QUEUED,
            fence=0,
            runs=tuple(
                replace(run, attempt_id=f"{sweep_id}-r{index}-{p}") for p, run in enumerate(runs)
            ),
            since_ns=now_ns,
        )
        for index in range(rounds)
    ]
    store.add_sweep(record, cells, made)
    return sweep_id


def is_done(store: Store, sweep_id: str) -> bool:
    """Whether the sweep has ended."""
    return store.sweep(sweep_id).state is SweepState.DONE


def results_of(store: Store, sweep_id: str) -> list[ResultRecord]:
    """Everything recorded, superseded or not."""
    return store.results(sweep_id=sweep_id, superseded=True)
