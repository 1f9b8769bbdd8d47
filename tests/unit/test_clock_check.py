"""A clock that is wrong is named, not taken for a dead network: real TLS, certificates of another
time."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc
import pytest
import structlog.testing

from assay.agent.home import AgentHome
from assay.agent.plane import session
from assay.agent.plane.enrol import enrol
from assay.agent.plane.knock import Knock
from assay.agent.plane.link import Link
from assay.controller.identity.pki import Authority
from assay.core.channel import dial_enrolment
from assay.core.clock_check import clock_trouble
from assay.core.errors import ClockWrong
from assay.core.token import JoinToken
from tests.fake_controller import FakeController
from tests.unit.test_session import Bench as Agent

NOW = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
# Certificates of then look to this machine as those of now do to one whose clock is off.
AHEAD, BEHIND = NOW - dt.timedelta(days=900), NOW + dt.timedelta(days=6 * 365)


@dataclass
class Server:
    authority: Authority
    address: str

    @property
    def ca_pem(self) -> str:
        return self.authority.certificate_pem.decode()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[dt.datetime], Server]]:
    """A gRPC server with the certificates of a controller that began at some time."""
    running: list[grpc.Server] = []

    def serve(when: dt.datetime) -> Server:
        authority = Authority(tmp_path / "pki", when)
        identity = authority.server_identity((), when)
        server = grpc.server(ThreadPoolExecutor(2))
        credentials = grpc.ssl_server_credentials([(identity.key_pem, identity.chain_pem)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        running.append(server)
        return Server(authority, f"127.0.0.1:{port}")

    yield serve
    for server in running:
        server.stop(0).wait()


@pytest.mark.parametrize(
    ("when", "told"), [(AHEAD, "has ended"), (BEHIND, "does not hold yet")], ids=["fast", "slow"]
)
def test_a_certificate_that_this_clock_refuses_is_told(
    served: Callable[[dt.datetime], Server], when: dt.datetime, told: str
) -> None:
    server = served(when)
    trouble = clock_trouble(server.address, server.ca_pem)
    assert trouble is not None and f"{told} by this device's clock" in str(trouble)
    assert f"{NOW:%Y-%m-%d}" in str(trouble) and "timedatectl" in str(trouble)
    assert trouble.meaning.retry and trouble.code == "clock_wrong"


def test_nothing_else_is_blamed_on_the_clock(
    served: Callable[[dt.datetime], Server], tmp_path: Path
) -> None:
    server = served(NOW)
    stranger = Authority(tmp_path / "other", NOW).certificate_pem.decode()
    assert clock_trouble(server.address, server.ca_pem) is None
    assert clock_trouble(server.address, stranger) is None
    assert clock_trouble(server.address, "") is None
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        assert clock_trouble(address, server.ca_pem) is None


def test_enrolling_by_a_clock_that_is_ahead_says_so(
    served: Callable[[dt.datetime], Server], tmp_path: Path
) -> None:
    server = served(AHEAD)
    token = str(JoinToken.generate(server.authority.sha256))
    with pytest.raises(ClockWrong, match="set the clock"):
        enrol(AgentHome(tmp_path / "home"), server.address, token, "pi")


def test_an_agent_whose_clock_ran_ahead_says_so_and_tries_on(
    served: Callable[[dt.datetime], Server], tmp_path: Path
) -> None:
    server = served(AHEAD)
    agent = Agent(FakeController(), tmp_path)
    line = partial(dial_enrolment, server.address, server.ca_pem.encode())
    loop = agent.session
    loop.link = Link(line, line, agent.quiet)
    loop.identity = replace(
        loop.identity, fleet_address=server.address, ca_bundle_pem=server.ca_pem
    )
    with structlog.testing.capture_logs() as logs:
        for _ in range(4):
            assert loop.step() > 0
    assert [entry["code"] for entry in logs] == ["unreachable"] * 2 + ["clock_wrong"] * 2
    assert "set the clock" in logs[3]["note"]
    with pytest.raises(ClockWrong):
        loop.step(hurry=True)
    loop.link.close()
    agent.spool.close()


def test_where_nobody_takes_a_connection_no_clock_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*_: object) -> None:
        pytest.fail("packets for nothing, for as long as they last, while a run may begin")

    monkeypatch.setattr(session, "clock_trouble", looked)
    agent = Agent(FakeController(), tmp_path)
    knock = Knock()

    def line() -> grpc.Channel:
        return grpc.insecure_channel(knock("127.0.0.1:1"))

    agent.session.link = Link(line, line, agent.quiet)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert agent.session.step() > 0
    assert "certificate may be refused" in logs[2]["note"]
    agent.spool.close()
