"""Before gRPC dials: whether somebody takes connections there."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from assay.agent.plane.knock import PATIENCE_S, cut_off, knock
from assay.agent.plane.quiet import GRACE_S
from assay.core.errors import Unreachable


@pytest.fixture(autouse=True)
def no_proxy_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(1)
        yield made


def test_who_listens_is_left_again(listener: socket.socket) -> None:
    knock(f"127.0.0.1:{listener.getsockname()[1]}")
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(1) == b"", "nothing was said"


def test_nobody_there_is_unreachable(listener: socket.socket) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(Unreachable, match=f"at {address}"):
        knock(address)


def test_what_may_go_by_a_proxy_is_left_to_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it was tried"))
    knock("192.0.2.1:7401")
    with pytest.raises(pytest.fail.Exception):
        knock("127.0.0.1:7401")


def test_a_connection_that_is_cut_off_is_reset_and_no_other(listener: socket.socket) -> None:
    address = listener.getsockname()
    with socket.socket() as another:
        another.bind(("127.0.0.1", 0))
        another.listen(1)
        ours, kept = (socket.create_connection(s.getsockname()) for s in (listener, another))
        theirs, stays = listener.accept()[0], another.accept()[0]
        cut_off(f"127.0.0.1:{address[1]}")
        ours.close()
        kept.close()
        with theirs, stays:
            with pytest.raises(ConnectionResetError):
                theirs.recv(1)
            assert stays.recv(1) == b"", "an orderly end"


def test_a_run_does_not_wait_longer_for_it_than_for_a_transfer() -> None:
    assert PATIENCE_S < GRACE_S
