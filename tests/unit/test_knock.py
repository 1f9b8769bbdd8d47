"""Before gRPC dials: whether somebody takes connections there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from assay.agent.plane import knock
from assay.agent.plane.knock import HURRIED_S, Knock, cut_off
from assay.agent.plane.quiet import GRACE_S
from assay.core.channel import join_address
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
    port = listener.getsockname()[1]
    assert Knock()(f"localhost:{port}") == f"127.0.0.1:{port}"
    connection, _ = listener.accept()
    with connection:
        assert connection.recv(1) == b"", "nothing was said"


def test_nobody_there_is_unreachable(listener: socket.socket) -> None:
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    with pytest.raises(Unreachable, match=f"at {address}"):
        Knock()(address)


def test_what_may_go_by_a_proxy_is_left_to_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it was tried"))
    assert Knock()("controller.example:7401") == "controller.example:7401"
    with pytest.raises(pytest.fail.Exception):
        Knock()("127.0.0.1:7401")


@pytest.fixture
def silent() -> Iterator[tuple[str, int]]:
    """Where nobody answers: a listener whose queue is full."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield full.getsockname()


def names(*places: tuple[str, int]) -> list[object]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]


def test_of_several_the_one_that_answers_is_dialled(
    listener: socket.socket, silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = listener.getsockname()
    found = names(silent, silent, there)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert Knock()("controller.example:1") == join_address(*there)


def test_in_a_hurry_no_name_is_asked_for_and_silence_is_soon_an_answer(
    silent: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knock, "HURRIED_S", 0.05)
    asked: list[str] = []

    def ask(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return names(silent)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    hurry = iter([False, True, True, True])
    door = Knock(lambda: next(hurry))
    for _ in range(2):  # one that was patient when the block came, one from the start
        with pytest.raises(Unreachable, match="no answer in time"):
            door("controller.example:1")
    assert asked == ["controller.example"]


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
    assert HURRIED_S < GRACE_S
