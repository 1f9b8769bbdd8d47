"""A lab's hosts as one fleet, and whoever deploys to them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.system.ansible import traces
from tests.system.ansible.plays import Operator, Play
from tests.system.ansible.wheels import make_wheelhouse
from tests.system.hosts import processes
from tests.system.hosts.image import USER
from tests.system.hosts.lab import Lab, lab_directory
from tests.system.hosts.machine import Machine

AGENT = "assay-agent.service"
DEVICES = ("pi", "jet", "nuc")
ARTIFACTS = REPOSITORY / "tests/artifacts"


class Fleet:
    """The hosts, and whoever deploys to them."""

    def __init__(self, lab: Lab, wheelhouse: Path, devices: Sequence[str]) -> None:
        self.lab = lab
        self.wheelhouse = wheelhouse
        self.bench, *booted = lab.boot("bench", *devices)
        self.devices = {device.name: device for device in booted}
        ARTIFACTS.mkdir(exist_ok=True)
        self.operator = Operator(lab, self._inventory(), ARTIFACTS / "plays.log")
        self.deployed: Play | None = None
        self.fresh = {machine.name: traces.held(machine) for machine in self.machines}

    @property
    def machines(self) -> list[Machine]:
        """All of them."""
        return [self.bench, *self.devices.values()]

    def play(self, playbook: str, *arguments: str, **extra: object) -> Play:
        """Runs a playbook over all hosts, or those of ``--limit``."""
        return self.operator.play(playbook, *arguments, **extra)  # type: ignore[arg-type]

    def assay(self, command: str) -> str:
        """What `assay COMMAND` says on the bench."""
        return self.bench.run(f"assay {command}")

    def rows(self, command: str) -> list[dict[str, object]]:
        """The rows that `assay COMMAND` lists."""
        found: list[dict[str, object]] = json.loads(self.assay(f"{command} --format json"))
        return found

    def status(self, name: str) -> str:
        """What systemd shows of an agent."""
        return self.devices[name].unit(AGENT, "StatusText")["StatusText"]

    def synced(self, name: str) -> None:
        """Waits until an agent is in sync."""
        processes.eventually(
            lambda: self.status(name).startswith("in sync with"), f"{name} in sync"
        )

    def device_id(self, name: str) -> object:
        """By which id the controller knows the device of this name."""
        (found,) = (row["device_id"] for row in self.rows("device list") if row["name"] == name)
        return found

    def note(self, name: str, text: str) -> None:
        """Keeps a figure among the artifacts of the tests."""
        (ARTIFACTS / name).write_text(f"{text}\n")

    def close(self) -> None:
        """Keeps the consoles where somebody may want to look, and ends everything."""
        for machine in self.machines:
            (ARTIFACTS / f"host-{machine.name}.log").write_bytes(machine.console.read_bytes())
        self.operator.close()

    def _inventory(self) -> dict[str, object]:
        def hosts(*names: str) -> dict[str, object]:
            return {"hosts": {n: {"ansible_host": self.lab.machines[n].address} for n in names}}

        with_page = next(iter(self.devices))
        return {
            "all": {
                "vars": {
                    "ansible_user": USER,
                    "ansible_python_interpreter": "/usr/bin/python3",
                    "agent_wheelhouse": str(self.wheelhouse),
                    "controller_wheelhouse": str(self.wheelhouse),
                    # Short, so that a test can wait for it.
                    "agent_watchdog_s": 15,
                },
                "children": {
                    "assay_controller": hosts("bench"),
                    "assay_monitoring": {
                        **hosts("bench"),
                        "vars": {
                            "monitoring_discover_agents": True,
                            "monitoring_grafana_provisioning": "/etc/grafana-provisioning",
                        },
                    },
                    "assay_agents": hosts(*self.devices),
                    "with_a_page": {
                        **hosts(with_page),
                        "vars": {
                            "agent_metrics_port": 9101,
                            "agent_metrics_host": self.devices[with_page].address,
                        },
                    },
                },
            }
        }


@contextmanager
def fresh_fleet(devices: Sequence[str] = DEVICES) -> Iterator[Fleet]:
    """A bench and devices with nothing but Debian on them; needs root."""
    lab = Lab(lab_directory())
    try:
        fleet = Fleet(lab, make_wheelhouse(lab.python, platform.machine()), devices)
        try:
            yield fleet
        finally:
            fleet.close()
    finally:
        lab.close()
