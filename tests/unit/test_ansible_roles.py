"""The roles' own words agree: settings, their description, and what is written on which board."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.collection import COLLECTION, load
from tests.conftest import need

ROLES = ("agent", "controller", "monitoring")
INVENTORIES = sorted((COLLECTION / "inventories").glob("*.yml"))
board = load("ansible/plugins/module_utils/board.py")


def _yaml(path: Path) -> Any:
    need(module="yaml")
    import yaml

    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_is_described_with_its_default(role: str) -> None:
    defaults = _yaml(COLLECTION / f"roles/{role}/defaults/main.yml")
    spec = _yaml(COLLECTION / f"roles/{role}/meta/argument_specs.yml")
    options = spec["argument_specs"]["main"]["options"]
    assert list(options) == list(defaults)
    for name, option in options.items():
        assert option["description"], name
        computed = isinstance(defaults[name], str) and "{{" in defaults[name]
        assert computed or option["default"] == defaults[name], name


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_names_only_settings_that_exist(role: str) -> None:
    defaults = _yaml(COLLECTION / f"roles/{role}/defaults/main.yml")
    told = (COLLECTION / f"roles/{role}/README.md").read_text()
    named = set(re.findall(rf"`({role}_\w+)`", told))
    assert named and named <= set(defaults)


@pytest.mark.parametrize("path", INVENTORIES, ids=lambda path: path.stem)
def test_an_example_inventory_sets_only_what_the_roles_know(path: Path) -> None:
    known = {"ansible_host", "ansible_user"}
    for role in ROLES:
        known |= set(_yaml(COLLECTION / f"roles/{role}/defaults/main.yml"))
    shown = _settings_and_groups(_yaml(path))
    assert {name for kind, name in shown if kind == "setting"} <= known
    assert ("group", "assay_agents") in shown


def _settings_and_groups(groups: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for name, group in groups.items():
        found.append(("group", name))
        hosts = group.get("hosts") or {}
        for settings in (group.get("vars") or {}, *(each or {} for each in hosts.values())):
            found += [("setting", each) for each in settings]
        found += _settings_and_groups(group.get("children") or {})
    return found


def _unit(kind: str, **changed: Any) -> str:
    need(module="jinja2")
    import jinja2

    class Environment(jinja2.Environment):
        """Ansible's plain variables, and its habit of keeping the last newline."""

    environment = Environment(trim_blocks=True, keep_trailing_newline=True)
    source = (COLLECTION / "roles/agent/templates/assay-agent.service.j2").read_text()
    host = {
        "systemd": 252,
        "may_raise_limits": True,
        "board": SimpleNamespace(kind=kind, devices=board.DEVICES[kind], groups=["video", "i2c"]),
    }
    settings = {
        "ansible_managed": "Ansible managed",
        "agent_user": "root",
        "agent_home": "/var/lib/assay-agent",
        "agent_program": "/bin/true",
        "agent_governor": "",
        "agent_watchdog_s": 600,
        "agent_phone_host": False,
        "agent_filters_syscalls": True,
        **changed,
    }
    environment.filters["bool"] = bool
    template = environment.from_string(source)
    return template.render(agent_host=SimpleNamespace(**{**host, **changed}), **settings)


@pytest.mark.parametrize("kind", sorted(board.DEVICES))
def test_each_board_opens_the_devices_of_its_sensors_and_no_other(kind: str) -> None:
    lines = _unit(kind).splitlines()
    assert "DevicePolicy=closed" in lines
    allowed = [line.partition("=")[2] for line in lines if line.startswith("DeviceAllow=")]
    assert allowed == list(board.DEVICES[kind])
    assert "CapabilityBoundingSet=" in lines and "LimitRTPRIO=10" in lines


def test_a_phone_host_may_use_usb_and_an_old_kernel_filters_no_calls() -> None:
    unit = _unit("generic", agent_phone_host=True, agent_filters_syscalls=False)
    assert "DeviceAllow=char-usb_device rw" in unit
    # Each of these installs a seccomp filter.
    assert not [
        word
        for word in ("SystemCallFilter", "RestrictAddressFamilies", "ProtectClock", "Namespaces")
        if word in unit
    ]
    assert "ProtectSystem=strict" in unit


def test_where_limits_cannot_be_raised_one_capability_stands_in() -> None:
    unit = _unit("generic", may_raise_limits=False)
    assert "AmbientCapabilities=CAP_SYS_NICE\n" in unit and "LimitRTPRIO" not in unit


@pytest.mark.system
@pytest.mark.parametrize("kind", sorted(board.DEVICES))
def test_each_boards_unit_is_sound(kind: str, tmp_path: Path) -> None:
    need(program="systemd-analyze")
    path = tmp_path / "assay-agent.service"
    path.write_text(_unit(kind, agent_phone_host=True))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if str(path.name) in line]
    assert (done.returncode, complaints) == (0, [])


def test_a_governor_is_held_and_given_back(tmp_path: Path) -> None:
    policies = []
    for number, now in enumerate(("schedutil", "ondemand")):
        policy = tmp_path / f"devices/system/cpu/cpufreq/policy{number}"
        policy.mkdir(parents=True)
        (policy / "scaling_governor").write_text(f"{now}\n")
        (policy / "scaling_available_governors").write_text("performance schedutil ondemand\n")
        policies.append(policy / "scaling_governor")
    script = COLLECTION / "roles/agent/templates/governor.sh.j2"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SYSFS": str(tmp_path)}
        return subprocess.run(
            ["sh", script, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    before = str(tmp_path / "before")
    assert run("hold", "performance", before).returncode == 0
    assert [path.read_text() for path in policies] == ["performance\n"] * 2
    assert run("restore", before).returncode == 0
    assert [path.read_text() for path in policies] == ["schedutil\n", "ondemand\n"]
    refused = run("hold", "warp", before)
    assert refused.returncode == 1 and "warp is not a governor" in refused.stderr


@pytest.mark.system
def test_the_collection_passes_the_strictest_profile_of_its_linter() -> None:
    need(module="ansiblelint")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "ansiblelint", "--offline", "--profile", "production", "--nocolor"],
        cwd=COLLECTION,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
def test_the_collection_can_be_built_and_holds_its_roles(tmp_path: Path) -> None:
    need(module="ansible")
    command = [sys.executable, "-m", "ansible", "galaxy", "collection", "build"]
    subprocess.run(
        [*command, "--output-path", str(tmp_path)],
        cwd=COLLECTION,
        env={**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")},
        check=True,
        capture_output=True,
    )
    import tarfile

    (built,) = tmp_path.glob("assay-fleet-*.tar.gz")
    with tarfile.open(built) as tar:
        names = tar.getnames()
    assert {f"roles/{role}/tasks/main.yml" for role in ROLES} <= set(names)
    assert not [name for name in names if name.startswith((".collections", ".ansible"))]
