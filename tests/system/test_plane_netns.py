"""Controller and agent as real processes on two hosts of a network that delays, loses, resets, is
cut in two, and has its controller killed: no acknowledged result is lost, none is doubled, an
artifact comes on from where it was cut off.

Each host is a network namespace on a switch of its own; between the switches runs a cable that
takes 20 ms to 25 ms each way (:mod:`tests.system.hosts.cable`). Losses and resets are nftables'.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.plane.identity import Identity
from assay.agent.plane.traffic import WAITS, kept_day_bytes
from assay.controller.home import Home
from assay.controller.records import RoundState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX, RunSpec
from tests.agent_process import (
    AgentProcess,
    agent_process,
    eventually,
    is_done,
    results_of,
    submit,
    tiny_runs,
    token_for,
)
from tests.conftest import need
from tests.plane_client import ANY_PORTS, ControllerProcess, controller_process
from tests.system.hosts import processes
from tests.system.hosts.network import PREFIX, Lan, Namespace
from tests.tinymodels import MS, SHORT, run_of, save_mlp, save_samples

pytestmark = pytest.mark.system

CONTROLLER, AGENT = 2, 3
DELAY_MS, JITTER_MS = "20", "5"
_MIB = 1 << 20
LONG = replace(SHORT, t_min_ns=1800 * MS, t_max_ns=2000 * MS)


@dataclass
class Lab:
    """The two hosts, what runs on them, and the network between."""

    lan: Lan
    inside: Namespace
    controller: ControllerProcess
    agent: AgentProcess
    home: Home
    store: Store
    runs: list[RunSpec]
    scratch: Path

    def submit(self, runs: Sequence[RunSpec], rounds: int = 1) -> str:
        """A sweep of these on the agent."""
        return submit(self.store, Identity.load(self.agent.home), runs, rounds)

    def until_more(self, text: str, count: int = 1) -> None:
        """Waits for that many more lines of the agent's log."""
        self.agent.until_said(text, self.agent.said.count(text) + count)

    def received_bytes(self) -> int:
        """What has come in on the agent's wire."""
        return self.passed_bytes()[0]

    def passed_bytes(self) -> tuple[int, int]:
        """What has come in on the agent's wire, and gone out."""
        command = self.inside.command(["ip", "-j", "-s", "link", "show", "host0"])
        (link,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return int(link["stats64"]["rx"]["bytes"]), int(link["stats64"]["tx"]["bytes"])

    def reset(self) -> None:
        """Kills every connection of the agent; the other end gets a RST."""
        command = ["ss", "-K", "dst", f"{PREFIX}.{CONTROLLER}"]
        subprocess.run(self.inside.command(command), check=True, capture_output=True)

    @contextmanager
    def rules(self, rule: str) -> Iterator[None]:
        """An nftables rule on everything that goes in or out of the agent's host."""
        chains = "\n".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}"
            for hook in ("input", "output")
        )
        self._nft(f"table inet fault {{\n{chains}\n}}")
        try:
            yield
        finally:
            self._nft("delete table inet fault")

    def _nft(self, text: str) -> None:
        command = self.inside.command(["nft", "-f", "-"])
        subprocess.run(command, input=text.encode(), check=True)

    @contextmanager
    def rate(self, rate: str) -> Iterator[None]:
        """A slow link down to the agent."""
        port = ["dev", f"port{AGENT}", "root"]
        shape = ["tbf", "rate", rate, "burst", "32kb", "latency", "200ms"]
        outside = self.lan.outside
        subprocess.run(outside.command(["tc", "qdisc", "add", *port, *shape]), check=True)
        try:
            yield
        finally:
            subprocess.run(outside.command(["tc", "qdisc", "del", *port]), check=True)

    def finish(self, sweep_id: str, names: Sequence[str]) -> None:
        """Waits for the end of a sweep, and holds its results against both sides' word."""
        agent = self.agent
        agent.until(lambda: is_done(self.store, sweep_id), f"the end of {sweep_id}")
        agent.until(lambda: agent.home.spool.stat().st_size == 0, "the spool is empty")
        agent.until(lambda: not list(agent.home.rounds.glob("*.json")), "the round is forgotten")
        found = results_of(self.store, sweep_id)
        assert [record.result.run.variant_name for record in found] == list(names)
        assert [record.superseded for record in found] == [False] * len(names)
        assert [record.result.failure for record in found] == [None] * len(names)
        assert [record.result.seq % 1000 for record in found] == [1] * len(names)
        recorded = [line for line in agent.said.splitlines() if "result was recorded" in line]
        for record in found:
            key = record.result.attempt_id
            assert sum(f"{key} " in f"{line} " for line in recorded) == 1, key
        assert self.store.conflicts() == []


def inside(namespace: Namespace, module: str) -> tuple[str, str]:
    """A launcher for ``python -m module`` in a namespace; the process keeps its id."""
    command = namespace.command([sys.executable, "-m", module])
    return "-c", f"import os, sys; c = {command!r}; os.execvp(c[0], c + sys.argv[1:])"


@contextmanager
def network() -> Iterator[tuple[Lan, Namespace, Namespace]]:
    """The switches, and the controller's and the agent's host."""
    lan = Lan()
    try:
        hosts = lan.host(CONTROLLER), lan.host(AGENT)
        lan.outside.ip("link", "add", "far0", "type", "bridge")
        lan.outside.ip("link", "set", "far0", "up")
        for tap, switch in (("near1", "lan0"), ("far1", "far0")):
            lan.outside.ip("tuntap", "add", "dev", tap, "mode", "tap")
            lan.outside.ip("link", "set", tap, "master", switch, "up")
        lan.outside.ip("link", "set", f"port{AGENT}", "master", "far0")
        cable = [sys.executable, "-m", "tests.system.hosts.cable", "near1", "far1"]
        carrying = processes.start(lan.outside.command([*cable, DELAY_MS, JITTER_MS]))
        try:
            yield lan, *hosts
        finally:
            processes.kill(carrying)
    finally:
        lan.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need(root=True)
    need(module="onnxruntime")
    for program in ("ip", "tc", "ss", "nft", "nsenter", "setpriv"):
        need(program=program)
    scratch = tmp_path_factory.mktemp("netns")
    home = Home(scratch / "controller")
    address = f"{PREFIX}.{CONTROLLER}"
    with ExitStack() as stack:
        lan, outer, inner = stack.enter_context(network())
        controller = stack.enter_context(
            controller_process(
                home,
                launcher=inside(outer, "assay.controller"),
                arguments=(*ANY_PORTS, "--no-metrics", "--no-live", f"--host={address}"),
            )
        )
        serving = controller.start()
        store = open_store(home)
        stack.callback(store.close)
        agent = stack.enter_context(
            agent_process(
                scratch / "agent",
                launcher=inside(inner, "assay.agent"),
                environment={
                    "ASSAY_AGENT_CONTROLLER": serving.enrolment_address,
                    "ASSAY_AGENT_TOKEN": token_for(home, store),
                    "no_proxy": address,
                },
            )
        )
        agent.start()
        agent.until_said("agent started")
        agent.until(lambda: any(d.facts for d in store.devices()), "a sync")
        runs = tiny_runs(home, scratch, 2, LONG)
        yield Lab(lan, inner, controller, agent, home, store, runs, scratch)


def test_a_network_cut_in_two_in_the_middle_of_a_round(lab: Lab) -> None:
    sweep_id = lab.submit(lab.runs)
    lab.until_more("run began")
    lab.lan.plug(AGENT, connected=False)
    lab.until_more("run ended", 2)
    assert results_of(lab.store, sweep_id) == [], "nothing can have arrived"
    lab.lan.plug(AGENT, connected=True)
    lab.finish(sweep_id, ["mlp0", "mlp1"])


def test_connections_that_are_reset_while_results_are_under_way(lab: Lab) -> None:
    began = lab.agent.said.count("run began")
    sweep_id = lab.submit(lab.runs)
    lab.until_more("run began")
    with lab.rules("meta l4proto tcp reject with tcp reset"):
        lab.reset()
        lab.until_more("results were not taken")
    lab.agent.until(lambda: results_of(lab.store, sweep_id), "the first result")
    lab.reset()
    lab.finish(sweep_id, ["mlp0", "mlp1"])
    assert lab.agent.said.count("run began") == began + 2, "nothing was measured again"


def test_a_controller_killed_on_a_network_that_loses_packets(lab: Lab) -> None:
    began = lab.agent.said.count("run began")
    with lab.rules("numgen random mod 100 < 5 drop"):
        sweep_id = lab.submit(lab.runs)
        lab.agent.until(lambda: results_of(lab.store, sweep_id), "the first result")
        before = lab.controller.serving()
        lab.controller.end(signal.SIGKILL)
        lab.until_more("results were not taken")
        lab.controller.arguments = ("--no-metrics", "--no-live", f"--host={before.host}")
        again = lab.controller.start()
        assert (again.fleet_port, again.blobs_port) == (before.fleet_port, before.blobs_port)
        lab.finish(sweep_id, ["mlp0", "mlp1"])
    assert lab.agent.said.count("run began") == began + 2, "nothing was measured again"


def test_an_artifact_goes_on_from_where_it_was_cut_off(lab: Lab) -> None:
    blobs = ContentStore(lab.home.artifacts)
    model = save_mlp(lab.scratch / "big.onnx", hidden=80_000, seed=9)
    samples = save_samples(lab.scratch / "big.npz")
    blobs.add_file(model, MEDIA_ONNX)
    blobs.add_file(samples, MEDIA_NPZ)
    run = replace(run_of(model, samples, profile=SHORT), cell_key="big", variant_id="big")
    partial = ContentStore(lab.agent.home.artifacts).root / "partial"

    def half_here() -> bool:
        return sum(path.stat().st_size for path in partial.iterdir()) >= 4 * _MIB

    before = lab.received_bytes()
    with lab.rate("24mbit"):
        sweep_id = lab.submit([run])
        eventually(half_here, "half of the artifact")
        lab.reset()
        lab.agent.until_said("download was cut off")
        assert half_here(), "what arrived stays"
        lab.finish(sweep_id, ["big"])
    received = lab.received_bytes() - before
    assert received < 1.4 * model.stat().st_size, "it did not begin anew"


def test_a_days_bytes_are_counted_over_a_flapping_line_and_kept(lab: Lab) -> None:
    """Files arrive in pieces; what is counted is what the wire carried; more than the day has room
    for is not begun, its round goes back unharmed, and comes when there is room; what is here is
    measured meanwhile."""
    limit = 12 * _MIB
    blobs = ContentStore(lab.home.artifacts)
    samples = save_samples(lab.scratch / "metered.npz")
    blobs.add_file(samples, MEDIA_NPZ)
    runs = []
    for name, seed in (("first", 21), ("second", 22)):
        model = save_mlp(lab.scratch / f"{name}.onnx", hidden=80_000, seed=seed)
        blobs.add_file(model, MEDIA_ONNX)
        run = run_of(model, samples, profile=SHORT)
        runs.append(replace(run, cell_key=name, variant_id=name, variant_name=name))
    size = runs[0].artifact.size_bytes
    assert size < limit < 2 * size
    partial = ContentStore(lab.agent.home.artifacts).root / "partial"
    assert lab.agent.end() == 0
    before = sum(lab.passed_bytes())
    lab.agent.start(f"--daily-bytes={limit}")
    with lab.rate("24mbit"):
        sweep_id = lab.submit(runs[:1])
        for part in (1, 3):
            cuts = lab.agent.said.count("download was cut off")
            eventually(lambda p=part: held_bytes(partial) >= p * _MIB, "a part")
            lab.reset()
            lab.agent.until_said("download was cut off", cuts + 1)
        lab.finish(sweep_id, ["first"])
    assert lab.agent.end() == 0
    counted, carried = kept_day_bytes(lab.agent.home.traffic), sum(lab.passed_bytes()) - before
    assert counted is not None
    assert 0.97 < counted / carried < 1.25, f"{counted} counted, {carried} on the wire"

    lab.agent.start(f"--daily-bytes={limit}")
    waiting = lab.submit(runs[1:])
    lab.until_more("round was given back")
    eventually(lambda: WAITS in capabilities(lab.store), "the store says why")
    (round_,) = lab.store.rounds(waiting)
    assert (round_.state, round_.grants) == (RoundState.QUEUED, 0), "it cost nothing"
    lab.finish(lab.submit(runs[:1]), ["first"])
    assert lab.store.round(round_.round_id).grants == 0, "what is here was measured meanwhile"
    assert lab.agent.end() == 0
    assert sum(lab.passed_bytes()) - before < limit
    lab.agent.start(f"--daily-bytes={3 * limit}")
    lab.finish(waiting, ["second"])
    assert WAITS not in capabilities(lab.store)


def held_bytes(folder: Path) -> int:
    """Bytes of the files there."""
    return sum(path.stat().st_size for path in folder.iterdir())


def capabilities(store: Store) -> tuple[str, ...]:
    """What the one device says it can."""
    (device,) = store.devices()
    return device.facts.capabilities if device.facts else ()
