"""Controller and agent killed at every point where something has just become true, or was about to.

Real processes; each is killed by SIGKILL at the named place, started again, and must carry on:
nothing acknowledged is lost, nothing counts twice, every round ends.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import RoundState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.errors import AssayError
from assay.core.model import RunSpec
from tests.agent_process import (
    AgentProcess,
    agent_process,
    is_done,
    results_of,
    submit,
    tiny_runs,
    token_for,
)
from tests.conftest import need
from tests.failpoints import LAUNCHER
from tests.plane import queued, result, sweep
from tests.plane_client import Board, ControllerProcess, Key, controller_process, enrol

pytestmark = pytest.mark.system

T = TypeVar("T")

_SQL = "assay.controller.store.sql:SqlStore"
_RECORDER = "assay.controller.server.recorder:Recorder"

CONTROLLER_POINTS = [
    f"{_SQL}.enrol_device:before",
    f"{_SQL}.enrol_device:after",
    f"{_SQL}.lease_round:before",
    f"{_SQL}.lease_round:after",
    f"{_SQL}.accept_round:before",
    f"{_SQL}.accept_round:after",
    f"{_SQL}.record_all:before",
    f"{_SQL}.record_all:after",
    # The acknowledgement has been handed to the network, or not quite.
    f"{_RECORDER}._commit:after",
]


@dataclass
class Doomed:
    """A controller with a trap; whenever it died it is started again with the next one."""

    controller: ControllerProcess
    left: list[str]

    def start(self) -> None:
        self.controller.environment = {"FAILPOINT": self.left[0]} if self.left else {}
        self.controller.start()

    def insist(self, action: Callable[[], T]) -> T:
        """Does it until the controller answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(AssayError):
                return action()
            with suppress(subprocess.TimeoutExpired):
                assert self.controller.process is not None
                status = self.controller.process.wait(0.2)
                assert status == -signal.SIGKILL, self.controller.log.read_text()[-4000:]
                del self.left[0]
                self.start()
        raise AssertionError(self.controller.log.read_text()[-4000:])


def test_a_controller_killed_anywhere_loses_and_doubles_nothing(home: Home, store: Store) -> None:
    """Boards join, work and report until every trap went off."""
    arguments = ("--no-metrics", "--no-live", "--enrol-port=0")
    with controller_process(
        home, launcher=(LAUNCHER, "assay.controller"), arguments=arguments
    ) as it:
        doomed, number = Doomed(it, list(CONTROLLER_POINTS)), 0
        doomed.start()
        address = it.serving().enrolment_address
        it.arguments = arguments[:2]  # it comes back on the ports of the last time
        while doomed.left:
            number += 1
            assert number <= len(CONTROLLER_POINTS), f"{doomed.left[0]} never went off"
            one_board(doomed, address, home, store, f"board-{number}")
        assert len(store.devices()) == number
        assert store.conflicts() == []


def one_board(doomed: Doomed, address: str, home: Home, store: Store, name: str) -> None:
    """Everything a device says, each until it is answered."""
    token, key = create_token(home, store, uses=1), Key()
    enrolled = doomed.insist(lambda: enrol(address, token, name, key))
    with Board(enrolled, key) as board:
        sweep_id = f"s-{name}"
        waiting = queued(f"{name}-r", sweep_id=sweep_id, device_id=board.device_id)
        store.add_sweep(sweep(sweep_id), [], [waiting])
        (granted,) = doomed.insist(board.assigned)
        assert doomed.insist(lambda: board.assigned([granted])) == [granted]
        for position in range(len(granted.runs)):
            said = doomed.insist(lambda p=position: board.report(result(granted, p)))  # type: ignore[misc]
            assert said in (["STORED"], ["ALREADY_STORED"])
    assert [round_.state for round_ in store.rounds(sweep_id)] == [RoundState.DONE]
    found = store.results(sweep_id=sweep_id, superseded=True)
    assert [record.superseded for record in found] == [False] * len(granted.runs)


_BOOK = "assay.agent.plane.rounds:RoundBook"
_SPOOL = "assay.agent.plane.spool:Spool"

# Each list is one round, in the order of its life: an agent that is started again carries the next
# trap. A run that brings the agent down three times is given up, so the runs are shared out.
AGENT_POINTS = [
    [
        f"{_BOOK}.accept:after",
        f"{_BOOK}.advance:before:FETCHING",
        f"{_BOOK}.advance:after:VERIFIED",
        f"{_BOOK}.start:after",
        f"{_BOOK}.advance:after:SETTLING",
        f"{_SPOOL}.append:after",
        f"{_BOOK}.recorded:before",
    ],
    [
        f"{_BOOK}.advance:after:WARMING",
        f"{_BOOK}.advance:after:MEASURING",
        f"{_BOOK}.advance:after:SPOOLED",
        f"{_BOOK}.forget:after",
    ],
    [f"{_BOOK}.recorded:after", f"{_SPOOL}.remove:before", f"{_SPOOL}.remove:after"],
    [f"{_SPOOL}.append:before", f"{_BOOK}.forget:before"],
]


@dataclass
class Bench:
    """A controller that stays, an enrolled agent, and what it is given to run."""

    store: Store
    agent: AgentProcess
    runs: list[RunSpec]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need(module="onnxruntime")
    scratch = tmp_path_factory.mktemp("failpoints")
    home = Home(scratch / "controller")
    with controller_process(home) as controller, agent_process(scratch / "agent") as agent:
        store = open_store(home)
        serving = controller.start()
        agent.launcher = (LAUNCHER, "assay.agent")
        agent.environment = {
            "ASSAY_AGENT_CONTROLLER": serving.enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(home, store),
        }
        yield Bench(store, agent, tiny_runs(home, scratch, 1))
        store.close()


def test_an_agent_killed_anywhere_loses_and_doubles_nothing(bench: Bench) -> None:
    agent, store = bench.agent, bench.store
    agent.start("--once")
    assert agent.wait() == 0, agent.said
    identity, plain = Identity.load(AgentHome(agent.home.root)), agent.environment
    for places in AGENT_POINTS:
        sweep_id = submit(store, identity, bench.runs)
        for place in places:
            agent.environment = {**plain, "FAILPOINT": place}
            agent.start()
            assert agent.wait() == -signal.SIGKILL, f"{place}: {agent.said[-4000:]}"
        agent.environment = plain
        agent.start()
        agent.until(lambda s=sweep_id: is_done(store, s), f"the end after {places}")  # type: ignore[misc]
        agent.until(lambda: not list(agent.home.rounds.glob("*.json")), "the round is forgotten")
        agent.until(lambda: agent.home.spool.stat().st_size == 0, "the spool is empty")
        # Where nothing was left to do it may be ended before it listens to signals.
        assert agent.end() in (0, -signal.SIGTERM)
        (found,) = results_of(store, sweep_id)
        assert not found.superseded
        assert found.result.failure is None, found.result.failure
    assert store.conflicts() == []
