"""A real agent and a real controller: what happens to a round, whatever happens to them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.gather import refs_of
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.records import (
    DeviceRecord,
    DeviceState,
    Duty,
    ResultRecord,
    SweepState,
)
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.errors import EXIT_CHECK_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, EXIT_USAGE
from assay.core.model import RunSpec, VerdictKind
from assay.core.trace import read_trace
from tests.agent_process import (
    AgentProcess,
    agent_process,
    alive,
    children,
    eventually,
    is_done,
    results_of,
    submit,
    tiny_runs,
    token_for,
)
from tests.conftest import need
from tests.network import Network
from tests.plane_client import ControllerProcess, controller_process
from tests.tinymodels import MS, SHORT

LONG = replace(SHORT, t_min_ns=1800 * MS, t_max_ns=2000 * MS)


@dataclass
class Plane:
    """One controller that stays, and what its tests need."""

    home: Home
    store: Store
    controller: ControllerProcess
    runs: list[RunSpec]
    scratch: Path

    @property
    def address(self) -> str:
        return self.controller.serving().enrolment_address


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    need(module="onnxruntime")
    scratch = tmp_path_factory.mktemp("plane")
    home = Home(scratch / "controller")
    with controller_process(home) as controller:
        store = open_store(home)
        controller.start()
        yield Plane(home, store, controller, tiny_runs(home, scratch, 2), scratch)
        store.close()


@pytest.fixture
def agent(plane: Plane, tmp_path: Path) -> Iterator[AgentProcess]:
    """An enrolled agent that is not running yet."""
    with agent_process(tmp_path / "agent") as made:
        enrolled(plane, made)
        yield made


def enrolled(plane: Plane, agent: AgentProcess, name: str = "") -> Identity:
    """Enrols it as users do."""
    name = name or f"board-{len(plane.store.devices())}"
    done = subprocess.run(
        [sys.executable, "-m", "assay.agent", "enrol", "--name", name],
        env={
            **os.environ,
            "ASSAY_AGENT_HOME": str(agent.home.root),
            "ASSAY_AGENT_CONTROLLER": plane.address,
            "ASSAY_AGENT_TOKEN": token_for(plane.home, plane.store),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"enrolled as {name} at {plane.address}\n"
    return Identity.load(agent.home)


def the_sweep(plane: Plane, agent: AgentProcess, **options: object) -> str:
    """A sweep of all runs for this agent."""
    runs = options.pop("runs", plane.runs)
    return submit(plane.store, Identity.load(agent.home), runs, **options)  # type: ignore[arg-type]


def finish(plane: Plane, agent: AgentProcess, sweep_id: str) -> list[ResultRecord]:
    """Waits for the end of a sweep and of everything on the device that belongs to it."""
    agent.until(lambda: is_done(plane.store, sweep_id), f"the end of {sweep_id}")
    agent.until(lambda: not list(agent.home.rounds.glob("*.json")), "the round is forgotten")
    agent.until(lambda: agent.home.spool.stat().st_size == 0, "the spool is empty")
    assert not list(ContentStore(agent.home.traces).held())
    return results_of(plane.store, sweep_id)


def names(results: list[ResultRecord]) -> list[str]:
    return [record.result.run.variant_name for record in results]


def test_a_round_is_measured_and_recorded_with_verdict_and_trace(
    plane: Plane, agent: AgentProcess
) -> None:
    sweep_id = the_sweep(plane, agent)
    agent.start()
    results = finish(plane, agent, sweep_id)
    assert names(results) == ["mlp0", "mlp1"]
    blobs = ContentStore(plane.home.artifacts)
    identity = Identity.load(agent.home)
    for record in results:
        result = record.result
        assert result.failure is None, result.failure
        assert result.verdict.kind in VerdictKind
        assert result.latency is not None and result.latency.n > 10
        assert result.provenance.device_name == identity.name
        assert result.environment["device"] == identity.name
        assert result.trace is not None
        trace = read_trace(blobs.path(result.trace.digest))
        assert len(trace.latency_ns) == result.latency.n
    device = plane.store.device(identity.name)
    assert device.facts is not None and device.facts.runtimes
    held = {digest for digest, _ in ContentStore(agent.home.artifacts).held()}
    assert {run.artifact.digest for run in plane.runs} <= held
    assert agent.end() == 0
    assert "agent ended" in agent.said


def test_an_agent_killed_in_the_middle_of_a_run_loses_and_doubles_nothing(
    plane: Plane, agent: AgentProcess
) -> None:
    sweep_id = the_sweep(plane, agent, runs=[plane.runs[0], replace(plane.runs[1], profile=LONG)])
    agent.start()
    agent.until(lambda: len(results_of(plane.store, sweep_id)) == 1, "the first result")
    agent.until_said("run began", times=2)
    agent.until(lambda: children(agent.pid), "a worker")
    time.sleep(1.0)
    below = children(agent.pid)
    agent.end(signal.SIGKILL)
    eventually(lambda: alive(below) == [], "the end of worker and sampler")
    agent.start()
    results = finish(plane, agent, sweep_id)
    assert names(results) == ["mlp0", "mlp1"]
    assert [record.result.seq % 1000 for record in results] == [1, 2]
    assert [record.superseded for record in results] == [False, False]
    assert plane.store.conflicts() == []


def test_an_end_on_request_is_prompt_and_leaves_nothing_running(
    plane: Plane, agent: AgentProcess
) -> None:
    sweep_id = the_sweep(plane, agent, runs=[replace(plane.runs[0], profile=LONG)])
    agent.start()
    agent.until_said("run began")
    agent.until(lambda: len(children(agent.pid)) >= 2, "worker and sampler")
    time.sleep(1.5)
    below = children(agent.pid)
    before = time.monotonic()
    assert agent.end(signal.SIGINT) == EXIT_INTERRUPTED
    assert time.monotonic() - before < 8
    assert alive(below) == []
    assert list(agent.home.work.iterdir()) == []
    assert results_of(plane.store, sweep_id) == []


def test_an_end_while_it_starts_leaves_nothing_running(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    agent.until(lambda: children(agent.pid), "the probe of a runtime")
    below = children(agent.pid)
    assert agent.end(signal.SIGTERM) == 0
    eventually(lambda: alive(below) == [], "the end of the probe")
    assert "Traceback" not in agent.said


def test_a_controller_killed_and_started_again_is_carried_on_with(
    tmp_path: Path, plane: Plane
) -> None:
    home = Home(tmp_path / "controller")
    with controller_process(home) as controller, agent_process(tmp_path / "agent") as agent:
        store = open_store(home)
        serving = controller.start()
        runs = [plane.runs[0], replace(plane.runs[1], profile=LONG)]
        blobs = ContentStore(home.artifacts)
        for run in runs:
            for ref in (run.artifact, run.inputs.artifact):
                blobs.add_file(ContentStore(plane.home.artifacts).path(ref.digest), ref.media_type)
        own = Plane(home, store, controller, runs, tmp_path)
        sweep_id = submit(store, enrolled(own, agent), runs)
        agent.start()
        agent.until(lambda: len(results_of(store, sweep_id)) == 1, "the first result")
        controller.end(signal.SIGKILL)
        agent.until_said("results were not taken")
        # Without --*-port it comes back on the ports of the last time.
        controller.arguments = ("--no-metrics",)
        again = controller.start()
        assert again.fleet_port == serving.fleet_port
        results = finish(own, agent, sweep_id)
        assert names(results) == ["mlp0", "mlp1"]
        assert [record.result.seq % 1000 for record in results] == [1, 1]
        store.close()


@pytest.fixture
def network(plane: Plane, agent: AgentProcess) -> Iterator[Network]:
    """Puts relays between the agent and the controller."""
    serving = plane.controller.serving()
    it = Network(serving.fleet_port, serving.blobs_port)
    fleet, blobs = (relay.address for relay in it.relays)
    identity = Identity.load(agent.home)
    replace(identity, fleet_address=fleet, blobs_address=blobs).store(agent.home)
    yield it
    for relay in it.relays:
        relay.close()


def test_what_takes_too_long_before_a_run_is_named_and_three_such_rounds_are_enough(
    plane: Plane, agent: AgentProcess
) -> None:
    """First no file comes, then no worker begins in time; the board is taken off duty by itself."""
    identity = Identity.load(agent.home)
    # Nobody listens there.
    replace(identity, blobs_address="127.0.0.1:9").store(agent.home)
    hasty = [replace(r, profile=replace(r.profile, settle_max_ns=0)) for r in plane.runs]
    agent.environment = {"ASSAY_AGENT_LOG_JSON": "true"}
    agent.start()
    unfetched = finish(plane, agent, the_sweep(plane, agent, fetch_s=0.3, fetch_bytes_per_s=1e9))
    blobs, held = ContentStore(plane.home.artifacts), ContentStore(agent.home.artifacts)
    for ref in refs_of(plane.runs):
        held.add_bytes(blobs.path(ref.digest).read_bytes(), ref.media_type)
    late = [
        record
        for _ in range(2)
        for record in finish(plane, agent, the_sweep(plane, agent, runs=hasty, start_s=0.01))
    ]
    codes = [r.result.failure and r.result.failure.code for r in (*unfetched, *late)]
    assert codes == [*["fetch_timeout"] * 2, *["start_timeout"] * 4]
    assert alive(children(agent.pid)) == []

    def device() -> DeviceRecord:
        return plane.store.device(identity.name)

    eventually(lambda: device().duty is Duty.CORDONED, "the device off duty")
    assert device().duty_reason.endswith("to nothing: fetch_timeout (1), start_timeout (2)")
    lines = [json.loads(line) for line in agent.said.splitlines() if line.startswith("{")]
    assert {"event", "level", "timestamp", "module"} <= set.intersection(*map(set, lines))
    failed = [line for line in lines if line["event"] == "run failed"]
    assert [line["code"] for line in failed] == codes
    assert {line["attempt_id"] for line in failed} == {r.attempt_id for r in (*unfetched, *late)}


def test_nothing_is_sent_while_a_block_is_timed_and_a_network_that_is_gone_loses_nothing(
    plane: Plane, agent: AgentProcess, network: Network
) -> None:
    sweep_id = the_sweep(plane, agent, runs=[replace(run, profile=LONG) for run in plane.runs])
    agent.start()
    agent.until(lambda: len(results_of(plane.store, sweep_id)) == 1, "the first result")
    # From now on the agent looks for its controller, but not inside the second block.
    network.cut()
    agent.until_said("run ended", times=2)
    agent.until_said("results were not taken")
    assert len(results_of(plane.store, sweep_id)) == 1
    network.mend()
    records = finish(plane, agent, sweep_id)
    assert names(records) == ["mlp0", "mlp1"]
    assert agent.said.count("run began") == 2
    for record in records:
        first, last = timed_part(plane, record)
        assert last - first > 1.5
        assert [at for at in network.sent_at if first <= at <= last] == []
        assert [at for at in network.sent_at if at < first]
        assert [at for at in network.sent_at if at > last]


def timed_part(plane: Plane, record: ResultRecord) -> tuple[float, float]:
    """Beginning and end by CLOCK_MONOTONIC of this machine, seconds."""
    assert record.result.trace is not None
    path = ContentStore(plane.home.artifacts).path(record.result.trace.digest)
    trace = read_trace(path)
    assert trace.block_start_ns is not None
    return (
        trace.block_start_ns[0] / 1e9,
        (trace.block_start_ns[-1] + trace.latency_ns[-1]) / 1e9,
    )


@pytest.mark.system
def test_a_bit_that_flipped_on_the_devices_disk_is_fetched_anew(
    plane: Plane, agent: AgentProcess
) -> None:
    first = the_sweep(plane, agent, runs=plane.runs[:1])
    agent.start()
    finish(plane, agent, first)
    path = ContentStore(agent.home.artifacts).path(plane.runs[0].artifact.digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    (record,) = finish(plane, agent, the_sweep(plane, agent, runs=plane.runs[:1]))
    assert record.result.failure is None
    assert "artifact was corrupt on disk" in agent.said
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert plane.runs[0].artifact.digest == f"sha256:{found}"


def test_a_cancelled_sweep_ends_the_run_going_on(plane: Plane, agent: AgentProcess) -> None:
    slow = replace(SHORT, warmup_min_ns=20_000 * MS, warmup_max_ns=30_000 * MS)
    sweep_id = the_sweep(plane, agent, runs=[replace(plane.runs[0], profile=slow)])
    agent.start()
    agent.until_said("run began")
    agent.until(lambda: len(children(agent.pid)) >= 2, "worker and sampler")
    plane.store.set_sweep_state(sweep_id, SweepState.CANCELLED)
    agent.until_said("round was left")
    agent.until(lambda: not list(agent.home.rounds.glob("*.json")), "the round is forgotten")
    assert children(agent.pid) == []
    assert results_of(plane.store, sweep_id) == []


@pytest.mark.system
@pytest.mark.parametrize("ended", [False, True], ids=["in time", "after its end"])
def test_a_certificate_is_renewed_and_work_goes_on_with_it(
    plane: Plane, agent: AgentProcess, ended: bool
) -> None:
    old = Identity.load(agent.home)
    # Only the device believes it: the fleet's port would still let the old one in.
    end = int(time.time()) + (-1 if ended else 86_400 // 2)
    replace(old, not_after_unix_s=end).store(agent.home)
    agent.start()
    agent.until_said("certificate was renewed")
    new = Identity.load(agent.home)
    assert new.certificate_pem != old.certificate_pem
    assert new.not_after_unix_s >= old.not_after_unix_s
    assert not agent.home.next_identity.exists()
    finish(plane, agent, the_sweep(plane, agent, runs=plane.runs[:1]))
    assert loaded(agent) == set()


def test_run_enrols_first_where_it_is_given_a_token(plane: Plane, tmp_path: Path) -> None:
    options = {
        "ASSAY_AGENT_TOKEN": token_for(plane.home, plane.store),
        "ASSAY_AGENT_CONTROLLER": plane.address,
        "ASSAY_AGENT_NAME": "enrolled-by-run",
    }
    with agent_process(tmp_path / "agent", environment=options) as agent:
        agent.start("--once")
        assert agent.wait() == 0, agent.said
        assert Identity.load(agent.home).name == "enrolled-by-run"
        eventually(lambda: plane.store.device("enrolled-by-run").facts, "a sync")


def test_once_works_off_what_there_is_and_ends(plane: Plane, agent: AgentProcess) -> None:
    sweep_id = the_sweep(plane, agent, runs=plane.runs[:1], rounds=2)
    agent.start("--once")
    assert agent.wait() == 0, agent.said
    assert names(results_of(plane.store, sweep_id)) == ["mlp0", "mlp0"]
    eventually(lambda: is_done(plane.store, sweep_id), f"the end of {sweep_id}")


@pytest.mark.parametrize(
    ("token", "status", "words"),
    [
        (
            "assay1.00000000." + "0" * 32 + "." + "0" * 64,
            EXIT_CHECK_FAILED,
            "is not the controller",
        ),
        ("unknown", EXIT_CHECK_FAILED, "token"),
        ("assay1.half", EXIT_CHECK_FAILED, "not a whole join token"),
    ],
)
def test_a_wrong_token_is_refused_plainly(
    plane: Plane, tmp_path: Path, token: str, status: int, words: str
) -> None:
    if token == "unknown":
        good = token_for(plane.home, plane.store)
        head, _, tail = good.split(".", 1)[1].split(".")
        token = f"assay1.{head}.{'f' * 32}.{tail}"
    with agent_process(tmp_path / "agent") as agent:
        agent.start("--token", token, "--controller", plane.address)
        assert agent.wait() == status
        assert "error: " in agent.said and words in agent.said
        assert "Traceback" not in agent.said
        assert not agent.home.identity.exists()


def test_an_agent_that_never_enrolled_says_how(tmp_path: Path) -> None:
    with agent_process(tmp_path / "agent") as agent:
        agent.start()
        assert agent.wait() == EXIT_USAGE
        assert "assay-agent enrol --controller HOST:PORT" in agent.said


def test_a_second_agent_on_the_same_home_is_refused(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    agent.until_said("agent started")
    second = AgentProcess(AgentHome(agent.home.root)).start()
    assert second.wait() == EXIT_USAGE
    assert f"another agent (pid {agent.pid})" in agent.said
    assert agent.end() == 0


def test_a_revoked_device_ends_its_work_and_says_so(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    agent.until_said("agent started")
    device = plane.store.device(Identity.load(agent.home).name)
    plane.store.update_device(replace(device, state=DeviceState.REVOKED))
    assert agent.wait() == EXIT_CHECK_FAILED
    assert f"device {device.name} is revoked" in agent.said
    assert "Traceback" not in agent.said


def test_once_gives_up_where_nobody_answers(plane: Plane, agent: AgentProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    replace(Identity.load(agent.home), fleet_address=f"127.0.0.1:{port}").store(agent.home)
    agent.start("--once")
    assert agent.wait() == EXIT_UNREACHABLE
    assert "certificate may be refused" in agent.said


def test_a_run_without_its_runtime_fails_by_name_and_the_round_goes_on(
    plane: Plane, agent: AgentProcess, tmp_path: Path
) -> None:
    # A package that cannot be imported, ahead of the real one on the path.
    (tmp_path / "broken/onnxruntime").mkdir(parents=True)
    (tmp_path / "broken/onnxruntime/__init__.py").write_text("raise ImportError('not here')")
    agent.environment = {"PYTHONPATH": str(tmp_path / "broken")}
    sweep_id = the_sweep(plane, agent)
    agent.start()
    results = finish(plane, agent, sweep_id)
    codes = [record.result.failure and record.result.failure.code for record in results]
    assert codes == ["runtime_absent"] * 2
    assert "runtime=onnxruntime" in agent.said
    assert not list(ContentStore(agent.home.artifacts).held())


def loaded(agent: AgentProcess) -> set[str]:
    """Which of the packages an agent must do without are in its memory."""
    maps = Path(f"/proc/{agent.pid}/maps").read_text()
    heavy = ("numpy", "onnxruntime", "ai_edge_litert", "cryptography", "torch", "psutil")
    return {package for package in heavy if f"/{package}/" in maps}


def rss_bytes(agent: AgentProcess) -> int:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def test_an_agent_is_small_and_stays_so_after_a_round(plane: Plane, agent: AgentProcess) -> None:
    agent.start()
    agent.until_said("agent started")
    agent.until(lambda: plane.store.device(Identity.load(agent.home).name).facts, "a sync")
    assert loaded(agent) == set()
    assert rss_bytes(agent) <= 60_000_000
    finish(plane, agent, the_sweep(plane, agent, runs=plane.runs[:1]))
    assert loaded(agent) == set()
    assert rss_bytes(agent) <= 60_000_000
