"""What takes minutes: memory over many reconnects, and a path that dies without a word.

``make soak`` runs these; ``ASSAY_SOAK_S`` is how long the memory is watched (20 minutes).
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.store import open_store
from assay.core.errors import Unreachable
from tests.agent_process import agent_process, is_done, results_of, submit, tiny_runs, token_for
from tests.conftest import need
from tests.network import Network, Relay
from tests.plane_client import Board, Key, controller_process, enrol

pytestmark = pytest.mark.soak

SOAK_S = float(os.environ.get("ASSAY_SOAK_S", "1200"))
_BREAK_EVERY_S = 10.0
_MIB = 1 << 20


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, without the pages it shares with files."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@dataclass(frozen=True)
class Slope:
    """A line through samples of memory: bytes an hour, and how far samples lie off it."""

    bytes_per_h: float
    noise_bytes: float
    grown_bytes: float

    @classmethod
    def through(cls, samples: list[tuple[float, int]]) -> Slope:
        """By least squares."""
        n = len(samples)
        mean_t = sum(t for t, _ in samples) / n
        mean_y = sum(y for _, y in samples) / n
        spread = sum((t - mean_t) ** 2 for t, _ in samples)
        slope = sum((t - mean_t) * (y - mean_y) for t, y in samples) / spread
        off = [y - mean_y - slope * (t - mean_t) for t, y in samples]
        noise = (sum(each**2 for each in off) / max(1, n - 2)) ** 0.5
        return cls(slope * 3600, noise, slope * (samples[-1][0] - samples[0][0]))


@pytest.fixture
def swallowed(tmp_path: Path) -> Iterator[tuple[Board, Relay]]:
    """A board whose path to the controller can be made to swallow everything."""
    home = Home(tmp_path / "home")
    with controller_process(home) as controller:
        serving = controller.start()
        store = open_store(home)
        key, relay = Key(), Relay(serving.fleet_port)
        enrolled = enrol(serving.enrolment_address, create_token(home, store), "board", key)
        enrolled.fleet_address = relay.address
        with Board(enrolled, key) as board:
            yield board, relay
        relay.close()
        store.close()


def test_a_connection_a_nat_forgot_is_found_within_half_a_minute(
    swallowed: tuple[Board, Relay], figures: Callable[..., None]
) -> None:
    board, relay = swallowed
    board.sync()
    relay.swallowing = True
    before = time.monotonic()
    with pytest.raises(Unreachable):
        board.sync(wait_s=30)
    found_s = time.monotonic() - before
    figures(given_up_after=f"{found_s:.1f} s")
    assert found_s < 30
    relay.swallowing = False
    relay.cut()
    relay.refusing = False
    for _ in range(10):
        try:
            board.sync()
            return
        except Unreachable:
            time.sleep(1)
    raise AssertionError("the board never came back")


def test_memory_stays_flat_over_reconnects(tmp_path: Path, figures: Callable[..., None]) -> None:
    """A real agent measures round after round while its network breaks every ten seconds."""
    need(module="onnxruntime")
    home = Home(tmp_path / "controller")
    with controller_process(home) as controller, agent_process(tmp_path / "agent") as agent:
        store = open_store(home)
        serving = controller.start()
        runs = tiny_runs(home, tmp_path, 1)
        agent.environment = {
            "ASSAY_AGENT_CONTROLLER": serving.enrolment_address,
            "ASSAY_AGENT_TOKEN": token_for(home, store),
        }
        agent.start("--once")
        assert agent.wait() == 0, agent.said
        network = Network(serving.fleet_port, serving.blobs_port)
        fleet, blobs = (relay.address for relay in network.relays)
        agent_home = AgentHome(agent.home.root)
        identity = replace(Identity.load(agent_home), fleet_address=fleet, blobs_address=blobs)
        identity.store(agent_home)
        agent.start()
        pids = {"controller": serving.pid, "agent": agent.pid}
        seen: dict[str, list[tuple[float, int]]] = {name: [] for name in pids}
        started = time.monotonic()
        sweeps = [submit(store, identity, runs)]
        for _ in itertools.takewhile(
            lambda _: time.monotonic() - started < SOAK_S, itertools.count()
        ):
            time.sleep(_BREAK_EVERY_S)
            network.cut()
            network.mend()
            if is_done(store, sweeps[-1]):
                sweeps.append(submit(store, identity, runs))
            for name, pid in pids.items():
                seen[name].append((time.monotonic() - started, rss_bytes(pid)))
        agent.until(lambda: is_done(store, sweeps[-1]), "the last sweep")
        assert agent.end() == 0
        for sweep_id in sweeps:
            assert len(results_of(store, sweep_id)) == 1
        network.close()
        store.close()
    figures(reconnects=len(seen["agent"]), rounds=len(sweeps))
    for name, samples in seen.items():
        settled = [each for each in samples if each[0] > SOAK_S / 2]
        line = Slope.through(settled)
        first, last = settled[0][1] / _MIB, settled[-1][1] / _MIB
        said = f"{first:.1f} to {last:.1f} MiB, {line.bytes_per_h / _MIB:+.2f} MiB/h"
        figures(**{name: f"{said}, noise {line.noise_bytes / _MIB:.2f} MiB"})
        # Within the noise, or within what an allocator moves about: a thirtieth of the process.
        most = max(3 * line.noise_bytes, settled[0][1] / 30)
        assert line.grown_bytes < most, (name, line)
