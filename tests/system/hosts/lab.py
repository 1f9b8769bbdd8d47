"""A lab of hosts for the length of a test session."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.system.hosts import cgroups, trees
from tests.system.hosts.image import base_image, recipe_of_this_machine
from tests.system.hosts.machine import Machine
from tests.system.hosts.network import Lan

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "ssh", "ssh-keygen", "ip", "unshare", "nsenter")
_FIRST_NUMBER = 11


def cache_directory() -> Path:
    """Where images are kept between runs: ``ASSAY_CACHE``, else the user's cache directory."""
    base = os.environ.get("ASSAY_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "assay-hosts"


class Lab:
    """Hosts on one network. Closing it leaves no process, mount, namespace or control group; a
    killed test run leaves control groups and files, which the next one removes."""

    def __init__(self, directory: Path) -> None:
        _remove_stale(directory.parent)
        cgroups.remove_stale()
        self.directory = directory
        self._image = base_image(cache_directory(), recipe_of_this_machine())
        self.machines: dict[str, Machine] = {}
        self.key = directory / "key"
        directory.mkdir(parents=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True
        )
        self.lan = Lan()

    @property
    def python(self) -> str:
        """The version of the hosts' own Python, such as 3.11."""
        (link,) = (self._image / "usr/bin").glob("python3.[0-9]*[0-9]")
        return link.name.removeprefix("python")

    def boot(self, *names: str) -> list[Machine]:
        """New hosts, up when it returns."""
        machines = []
        for name in names:
            number = _FIRST_NUMBER + len(self.machines)
            machine = Machine(name, number, self._image, self.directory / name, self.lan, self.key)
            self.machines[name] = machine
            machine.start()
            machines.append(machine)
        for machine in machines:
            machine.wait()
        return machines

    def close(self) -> None:
        """Everything off and away."""
        with contextlib.ExitStack() as stack:
            stack.callback(trees.remove, self.directory)
            stack.callback(self.lan.close)
            for machine in self.machines.values():
                stack.callback(machine.close)


def lab_directory() -> Path:
    """A place for this process's hosts, on the disk of the cache (an overlay needs a real one)."""
    return cache_directory() / "labs" / str(os.getpid())


def _remove_stale(labs: Path) -> None:
    for path in labs.glob("*"):
        if path.name.isdecimal() and not Path(f"/proc/{path.name}").exists():
            trees.remove(path)
