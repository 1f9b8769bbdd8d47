"""Which ports a controller takes, and what it tells devices to call."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.controller.home import Home
from assay.controller.server.listening import check_free, is_free
from assay.controller.server.running import (
    ServingController,
    announce,
    last_ports,
    running_controller,
    sole_controller,
    withdraw,
)
from assay.controller.server.serve import ServeOptions, advertised_host
from assay.core.errors import AlreadyExists, PortInUse, UsageError

SERVING = ServingController(os.getpid(), "127.0.0.1", 1, 2, 3, 4, 5, "0.1.0")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_its_option(taken: int) -> None:
    with pytest.raises(PortInUse, match=f"port {taken} on 127.0.0.1.*--blobs-port"):
        check_free("127.0.0.1", taken, option="--blobs-port")
    assert not is_free("127.0.0.1", taken)
    assert is_free("127.0.0.1", 0)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_that_is_not_ours_is_a_usage_error(host: str) -> None:
    with pytest.raises(UsageError, match="address of this machine with --host"):
        check_free(host, 0, option="--fleet-port")


@pytest.mark.parametrize(
    ("host", "given", "told"),
    [
        ("127.0.0.1", "", "127.0.0.1"),
        ("10.0.0.5", "", "10.0.0.5"),
        ("0.0.0.0", "", ""),
        ("::", "", ""),
        ("0.0.0.0", "bench.example", "bench.example"),
    ],
)
def test_devices_are_told_a_host_that_reaches_us(host: str, given: str, told: str) -> None:
    assert advertised_host(ServeOptions(host=host, advertised_host=given)) == told


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1:2"), ("0.0.0.0", "127.0.0.1:2"), ("::", "[::1]:2"), ("b", "b:2")],
)
def test_commands_on_this_machine_reach_it(host: str, address: str) -> None:
    assert ServingController(1, host, 1, 2, 3, 0, 5, "x").fleet_address == address


def test_one_controller_serves_a_home(home: Home) -> None:
    with sole_controller(home):
        announce(home, SERVING)
        with (
            pytest.raises(AlreadyExists, match=f"pid {os.getpid()}"),
            sole_controller(home),
        ):
            pass
        assert running_controller(home) == SERVING
    with sole_controller(home):
        pass


def test_what_a_killed_controller_left_is_not_believed(home: Home) -> None:
    announce(home, SERVING)
    assert running_controller(home) is None
    with sole_controller(home):
        pass
    assert running_controller(home) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '"x"'])
def test_a_damaged_announcement_is_no_controller(home: Home, text: str) -> None:
    with sole_controller(home):
        home.addresses.write_text(text)
        assert running_controller(home) is None


def test_ports_are_remembered_after_the_end(home: Home) -> None:
    assert last_ports(home) == {}
    announce(home, SERVING)
    withdraw(home)
    assert not home.addresses.exists()
    assert last_ports(home) == {
        "enrol_port": 1,
        "fleet_port": 2,
        "blobs_port": 3,
        "metrics_port": 4,
    }


def test_the_announcement_is_plain_json(home: Home) -> None:
    announce(home, SERVING)
    told = json.loads(home.addresses.read_text())
    assert (told["pid"], told["host"], told["fleet_port"]) == (os.getpid(), "127.0.0.1", 2)
