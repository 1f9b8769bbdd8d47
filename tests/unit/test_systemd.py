"""Speaking to the service manager: what arrives on a real socket, and what children inherit."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.core.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(str(tmp_path / "notify"))
        yield listening


def _environment(manager: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "/bin", **more}


def test_readiness_and_signs_of_life_arrive_with_a_status(manager: socket.socket) -> None:
    notifier = Notifier.from_environment(_environment(manager))
    notifier.ready("started")
    notifier.alive("in sync")
    notifier.status("no answer")
    notifier.stopping()
    received = [manager.recv(1000) for _ in range(4)]
    assert received == [
        b"READY=1\nSTATUS=started",
        b"WATCHDOG=1\nSTATUS=in sync",
        b"STATUS=no answer",
        b"STOPPING=1",
    ]


def test_a_status_cannot_smuggle_another_message(manager: socket.socket) -> None:
    Notifier.from_environment(_environment(manager)).alive("bad\nREADY=1\nMAINPID=1")
    assert manager.recv(1000) == b"WATCHDOG=1\nSTATUS=bad READY=1 MAINPID=1"


def test_an_abstract_socket_is_reached() -> None:
    name = f"assay-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(5)
        listening.bind(f"\0{name}")
        Notifier(f"@{name}").ready("up")
        assert listening.recv(1000) == b"READY=1\nSTATUS=up"


def test_children_inherit_no_way_to_speak_for_this_process(manager: socket.socket) -> None:
    environment = _environment(manager, WATCHDOG_USEC="5000000", WATCHDOG_PID=str(os.getpid()))
    assert Notifier.from_environment(environment).watchdog_s == 5.0
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "rubbish"},
        {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_where_none_is_meant_for_this_process(
    manager: socket.socket, variables: dict[str, str]
) -> None:
    assert Notifier.from_environment(_environment(manager, **variables)).watchdog_s is None


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("started")
    notifier.alive("in sync")
    assert notifier.watchdog_s is None


def test_a_manager_that_is_gone_does_not_bring_the_process_down(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.alive("in sync")
    notifier.alive("in sync")
