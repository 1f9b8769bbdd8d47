"""Controller and agent as real processes on disks that fill up, with clocks that are wrong, behind
a captive portal, with artifacts that rot and a database that is locked: what is asked of them then
is late or fails by name, and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.records import ResultRecord
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import RunSpec
from assay.core.token import JoinToken
from tests.agent_process import (
    AgentProcess,
    agent_process,
    is_done,
    results_of,
    submit,
    tiny_runs,
    token_for,
)
from tests.conftest import REPOSITORY, need
from tests.plane import queued, result, sweep
from tests.plane_client import Board, ControllerProcess, Key, controller_process, enrol
from tests.system.hosts.disk import Disk, fill, mounting

pytestmark = pytest.mark.system

_MIB = 1 << 20


@dataclass
class Lab:
    """A controller, models for its devices, and room for them."""

    home: Home
    store: Store
    controller: ControllerProcess
    runs: list[RunSpec]
    scratch: Path

    @contextmanager
    def agent(
        self, name: str, *, runtimes: bool = True, **options: object
    ) -> Iterator[AgentProcess]:
        """An agent that enrols as it starts."""
        given = {
            "ASSAY_AGENT_CONTROLLER": self.controller.serving().enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(self.home, self.store),
            "ASSAY_AGENT_NAME": name,
            **options.pop("environment", {}),  # type: ignore[dict-item]
        }
        with agent_process(self.scratch / name, environment=given, **options) as made:
            made.start()
            made.until(lambda: self.knows(name, runtimes=runtimes), "a sync")
            yield made

    def knows(self, name: str, *, runtimes: bool) -> bool:
        """Whether the device has told what it is, and what it can run."""
        known = [device.facts for device in self.store.devices() if device.name == name]
        return any(facts is not None and (facts.runtimes or not runtimes) for facts in known)

    def submit(self, name: str, runs: Sequence[RunSpec]) -> str:
        """A sweep of these on the device of that name."""
        device_id = self.store.device(name).device_id
        return submit(self.store, replace(_NOBODY, device_id=device_id, name=name), runs)

    def finished(self, agent: AgentProcess, sweep_id: str) -> list[ResultRecord]:
        """Waits for the end of a sweep; its results."""
        agent.until(lambda: is_done(self.store, sweep_id), f"the end of {sweep_id}")
        return results_of(self.store, sweep_id)


_NOBODY = Identity("", "", "", "", "", "", "", 0)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need(root=True)
    need(module="onnxruntime")
    scratch = tmp_path_factory.mktemp("faults")
    home = Home(scratch / "controller")
    with controller_process(home) as controller:
        controller.start()
        store = open_store(home)
        yield Lab(home, store, controller, tiny_runs(home, scratch, 4), scratch)
        store.close()


def failures(results: Sequence[ResultRecord]) -> list[str]:
    """The code of each result's failure; empty for one that was measured."""
    found = [record.result.failure for record in results]
    return ["" if failure is None else failure.code for failure in found]


def test_artifacts_that_rotted_on_the_controller_fail_their_runs_alone(lab: Lab) -> None:
    flipped, short, long, _ = (run.artifact.digest for run in lab.runs)
    paths = [ContentStore(lab.home.artifacts).path(each) for each in (flipped, short, long)]
    whole = [path.read_bytes() for path in paths]
    paths[0].write_bytes(bytes([whole[0][0] ^ 1]) + whole[0][1:])
    paths[1].write_bytes(whole[1][:-1])
    paths[2].write_bytes(whole[2] + bytes(64 * _MIB))
    try:
        with lab.agent("rot") as agent:
            results = lab.finished(agent, lab.submit("rot", lab.runs))
            held = ContentStore(agent.home.artifacts)
            assert not any(held.has(each) for each in (flipped, short, long))
    finally:
        for path, data in zip(paths, whole, strict=True):
            path.write_bytes(data)
    assert failures(results) == ["corrupt_artifact"] * 3 + [""]


class Portal:
    """Answers whatever is said with a page to log in at, on every connection to its port."""

    _PAGE = b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n"

    def __init__(self) -> None:
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near:
                near.recv(4096)
                near.sendall(self._PAGE)
            self.asked += 1

    def close(self) -> None:
        self._listener.close()


def test_a_captive_portal_is_an_outage(lab: Lab) -> None:
    with lab.agent("hotel") as agent:
        assert agent.end() == 0
        right, portal = Identity.load(agent.home), Portal()
        replace(right, fleet_address=portal.address, blobs_address=portal.address).store(agent.home)
        sweep_id = lab.submit("hotel", lab.runs[:1])
        agent.start()
        agent.until(lambda: portal.asked >= 3, "several tries")
        agent.until_said("controller did not answer", times=2)
        assert agent.process is not None and agent.process.poll() is None
        assert agent.end() == 0
        portal.close()
        right.store(agent.home)
        agent.start()
        assert failures(lab.finished(agent, sweep_id)) == [""]


def test_a_full_disk_on_the_device_is_waited_out(lab: Lab) -> None:
    disk = Disk(lab.scratch / "small", 200 * _MIB)
    command = disk.command([sys.executable, "-m", "assay.agent"])
    launcher = ("-c", f"import os, sys; c = {command!r}; os.execvp(c[0], c + sys.argv[1:])")
    try:
        with lab.agent("small", launcher=launcher) as agent:
            sweep_id = lab.submit("small", lab.runs[1:3])
            agent.until_said("run began")
            filler = fill(disk.seen)
            agent.until(lambda: "round waits for room" in agent.said, "a word of it")
            filler.unlink()
            assert set(failures(lab.finished(agent, sweep_id))) <= {"", "disk_full"}
            spool = AgentHome(disk.seen).spool
            agent.until(lambda: spool.stat().st_size == 0, "the spool is empty")
    finally:
        disk.close()


def test_a_full_disk_on_the_controller_loses_nothing(tmp_path: Path) -> None:
    need(root=True)
    command = [sys.executable, "-m", "tests.system.full_disk", str(tmp_path)]
    done = subprocess.run(
        mounting(tmp_path, 32 * _MIB, command),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "free some space" in done.stdout, "the controller's log says so"


def test_a_database_that_is_locked_is_waited_for(lab: Lab) -> None:
    key = Key()
    token = JoinToken.parse(token_for(lab.home, lab.store))
    address = lab.controller.serving().enrolment_address
    with Board(enrol(address, token, "patient", key), key) as board:
        waiting = [queued("locked", device_id=board.device_id, sweep_id="locked")]
        lab.store.add_sweep(sweep("locked"), [], waiting)
        (granted,) = board.assigned()
        other = sqlite3.connect(lab.home.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        statuses: list[str] = []
        report = threading.Thread(target=lambda: statuses.extend(board.report(result(granted))))
        report.start()
        report.join(1)
        assert statuses == [], "nothing is acknowledged that is not written"
        other.execute("ROLLBACK")
        other.close()
        report.join(30)
        assert statuses == ["STORED"]


def test_a_clock_that_is_years_off_and_is_set_while_it_works(lab: Lab) -> None:
    """Only enrolling and syncing: Python starts no children under libfaketime."""
    need(program="faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    said = lab.scratch / "clock"
    said.write_text("-3y\n")
    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(said),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    ahead = subprocess.run(
        [sys.executable, "-m", "assay.agent", "enrol", f"--home={lab.scratch / 'ahead'}"],
        env={
            **os.environ,
            **environment,
            "FAKETIME": "+3y",
            "FAKETIME_TIMESTAMP_FILE": "",
            "ASSAY_AGENT_CONTROLLER": lab.controller.serving().enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(lab.home, lab.store),
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ahead.returncode == 4, ahead.stderr
    assert "has ended by this device's clock" in ahead.stderr
    with lab.agent("pi", runtimes=False, environment=environment) as agent:
        assert "device's clock is wrong" in agent.said
        before = lab.store.device("pi").last_seen_ns
        said.write_text("+0\n")
        agent.until(lambda: lab.store.device("pi").last_seen_ns != before, "another sync")
        assert "controller did not answer" not in agent.said
        assert agent.end() == 0
