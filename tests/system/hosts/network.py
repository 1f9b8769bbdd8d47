"""A local network out of kernel parts: one namespace with a switch, one for each host.

Each namespace belongs to a sleeping process and has no name of its own: when that process ends,
the namespace, its links and its addresses are gone. Nothing is added to the machine's own network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.system.hosts import processes

PREFIX = "10.99.0"
GATEWAY = f"{PREFIX}.1"


class Namespace:
    """A network namespace; :meth:`close` ends it with whatever runs inside."""

    def __init__(self) -> None:
        self._holder = processes.start(["unshare", "--net", "sleep", "infinity"])
        self._path = Path(f"/proc/{self._holder.pid}/ns/net")
        own = os.readlink("/proc/self/ns/net")
        processes.eventually(lambda: os.readlink(self._path) != own, "a network namespace")
        self._identity = os.readlink(self._path)
        self.ip("link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        return self._holder.pid

    def command(self, command: Sequence[str]) -> list[str]:
        """``command`` as run inside."""
        return ["nsenter", f"--net={self._path}", "--", *command]

    def ip(self, *arguments: str) -> None:
        """Runs iproute2's ``ip`` inside."""
        subprocess.run(self.command(["ip", *arguments]), check=True)

    def close(self) -> None:
        """Ends the processes inside (an ssh that keeps its connection would keep the namespace)."""
        for pid in self._inside():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        processes.kill(self._holder)

    def _inside(self) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            with contextlib.suppress(OSError):
                if os.readlink(path) == self._identity:
                    found.append(int(path.parts[2]))
        return found


class Lan:
    """A switch with the tests on one port; hosts are plugged in and out."""

    def __init__(self) -> None:
        self.outside = Namespace()
        self._hosts: dict[int, Namespace] = {}
        self.outside.ip("link", "add", "lan0", "type", "bridge")
        self.outside.ip("address", "add", f"{GATEWAY}/24", "dev", "lan0")
        self.outside.ip("link", "set", "lan0", "up")

    def host(self, number: int) -> Namespace:
        """A namespace whose ``host0`` has the address ``PREFIX.number``."""
        inside = Namespace()
        self._hosts[number] = inside
        self.outside.ip(
            *("link", "add", f"port{number}", "type", "veth"),
            *("peer", "name", "host0", "netns", str(inside.pid)),
        )
        self.outside.ip("link", "set", f"port{number}", "master", "lan0", "up")
        inside.ip("address", "add", f"{PREFIX}.{number}/24", "dev", "host0")
        inside.ip("link", "set", "host0", "up")
        return inside

    def plug(self, number: int, *, connected: bool) -> None:
        """Plugs a host's cable in or out."""
        self.outside.ip("link", "set", f"port{number}", "up" if connected else "down")

    def close(self) -> None:
        """Ends every namespace."""
        for namespace in (*self._hosts.values(), self.outside):
            namespace.close()
