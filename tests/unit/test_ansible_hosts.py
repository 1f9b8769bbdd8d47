"""How the collection sees a host: its board, its Python, its releases, its agent's home."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.collection import load

board = load("ansible/plugins/module_utils/board.py")
pythons = load("ansible/plugins/module_utils/pythons.py")
releases = load("ansible/plugins/module_utils/releases.py")
agent_home = load("ansible/plugins/module_utils/agent_home.py")


@pytest.mark.parametrize(
    ("compatible", "kind"),
    [
        ("raspberrypi,5-model-b\0brcm,bcm2712\0", "raspberrypi"),
        ("nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0", "jetson"),
        ("rockchip,rk3588\0", "generic"),
        ("", "generic"),
    ],
)
def test_a_board_is_known_by_its_device_tree(tmp_path: Path, compatible: str, kind: str) -> None:
    tree = tmp_path / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_text(compatible)
    (tree / "model").write_text("Some Board Rev 1.0\0")
    assert board.kind(tmp_path) == kind
    assert board.model(tmp_path) == "Some Board Rev 1.0"


def test_a_pc_has_its_makers_name(tmp_path: Path) -> None:
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "product_name").write_text("NUC12WSHi5\n")
    assert (board.kind(tmp_path), board.model(tmp_path)) == ("generic", "NUC12WSHi5")


def test_this_python_is_good_for_both_roles() -> None:
    found = pythons.facts(sys.executable)
    assert found["tag"] == f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert found["machine"] == os.uname().machine
    assert [pythons.problem(found, role) for role in ("agent", "controller")] == ["", ""]


@pytest.mark.parametrize(
    ("found", "role", "told"),
    [
        ({"release": [3, 8], "version": "3.8.10", "bits": 64}, "agent", "3.8.10 is too old"),
        ({"release": [3, 10], "version": "3.10.12", "bits": 64}, "controller", "needs 3.11"),
        ({"release": [3, 11], "bits": 32, "machine": "linux_armv7l"}, "agent", "64-bit system"),
        ({"problem": "python3 cannot be run"}, "agent", "cannot be run"),
    ],
)
def test_a_python_that_will_not_do_is_refused_with_the_remedy(
    found: dict[str, Any], role: str, told: str
) -> None:
    assert told in pythons.problem(found, role)


def test_what_is_no_python_is_told(tmp_path: Path) -> None:
    assert "cannot be run" in pythons.facts(str(tmp_path / "python3"))["problem"]
    assert "no usable Python" in pythons.facts("/bin/true")["problem"]


def test_the_oldest_releases_go_and_never_the_current_one(tmp_path: Path) -> None:
    made = releases.Releases(tmp_path)
    for number, release in enumerate(("a", "b", "c", "d")):
        stamp = made.path(release) / "release.json"
        stamp.parent.mkdir(parents=True)
        stamp.write_text("{}")
        os.utime(stamp, ns=(number, number))
    made.activate("a")
    assert made.superseded(1) == ["b", "c"]
    assert made.superseded(5) == []
    for release in made.superseded(1):
        made.remove(release)
    assert made.complete() == ["a", "d"]


def test_an_agents_home_is_told_without_its_secrets(tmp_path: Path) -> None:
    assert (agent_home.identity(tmp_path), agent_home.rounds_held(tmp_path)) == ({}, 0)
    identity = {
        "name": "pi",
        "device_id": "d-1",
        "enrolled_at": "bench:7400",
        "fleet_address": "bench:7401",
        "not_after_unix_s": 5,
        "certificate_pem": "CERTIFICATE",
    }
    (tmp_path / "identity.json").write_text(json.dumps(identity))
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds/r.json").touch()
    (tmp_path / "spool.log").write_bytes(b"12345")
    found = agent_home.identity(tmp_path)
    assert found["name"] == "pi" and "CERTIFICATE" not in str(found)
    assert (agent_home.rounds_held(tmp_path), agent_home.spool_bytes(tmp_path)) == (1, 5)
