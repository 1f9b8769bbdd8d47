"""Whether a controller runs on a home, and where: a lock that dies with it, and a JSON file."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from assay.controller.home import Home
from assay.core.errors import AlreadyExists

PORTS = ("enrol_port", "fleet_port", "blobs_port", "metrics_port", "live_port")


@dataclass(frozen=True, slots=True)
class ServingController:
    """A controller at work: ``host`` and the ports it listens on (0: no ``/metrics``, no live
    page)."""

    pid: int
    host: str
    enrol_port: int
    fleet_port: int
    blobs_port: int
    metrics_port: int
    started_ns: int
    version: str
    live_port: int = 0
    live_secure: bool = False
    admin_port: int = 0
    admin_socket: str = ""

    @property
    def enrolment_address(self) -> str:
        """What ``assay-agent enrol`` on this machine dials."""
        return self._address(self.enrol_port)

    @property
    def fleet_address(self) -> str:
        """Where devices sync and report."""
        return self._address(self.fleet_port)

    @property
    def blobs_address(self) -> str:
        """Where devices fetch artifacts."""
        return self._address(self.blobs_port)

    @property
    def metrics_address(self) -> str:
        """Where Prometheus scrapes ``/metrics``; empty where there is none."""
        return self._address(self.metrics_port) if self.metrics_port else ""

    @property
    def live_url(self) -> str:
        """Where a browser finds the live page; empty where there is none."""
        scheme = "https" if self.live_secure else "http"
        return f"{scheme}://{self._address(self.live_port)}/" if self.live_port else ""

    @property
    def admin_address(self) -> str:
        """Where operators call; the socket where there is no port, empty where there is neither."""
        if self.admin_port:
            return self._address(self.admin_port)
        return f"unix:{self.admin_socket}" if self.admin_socket else ""

    def _address(self, port: int) -> str:
        # Whoever listens everywhere is reached on loopback from here.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def sole_controller(home: Home) -> Iterator[None]:
    """Holds the home for one controller; :class:`AlreadyExists` where another one does. The lock
    goes with the process, however it ends."""
    with (home.root / "controller.lock").open("a") as file:
        if not _lock(file.fileno(), fcntl.LOCK_EX):
            found = _read(home)
            by = f" (pid {found.pid})" if found is not None else ""
            raise AlreadyExists(
                f"another controller{by} serves {home.root}; stop it, or set ASSAY_HOME to "
                "another directory"
            )
        yield


def announce(home: Home, found: ServingController) -> None:
    """Writes ``home.addresses``, and beside it the ports for the next start."""
    _write(home.addresses, asdict(found))
    _write(_ports_path(home), {name: getattr(found, name) for name in PORTS})


def last_ports(home: Home) -> dict[str, int]:
    """The ports of the last controller on this home, by their name in :data:`PORTS`: devices that
    enrolled with it will call there. Empty before the first start."""
    try:
        values = json.loads(_ports_path(home).read_text())
        return {name: int(values[name]) for name in PORTS if values.get(name)}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def withdraw(home: Home) -> None:
    """Removes ``home.addresses``."""
    home.addresses.unlink(missing_ok=True)


def running_controller(home: Home) -> ServingController | None:
    """The controller that serves ``home`` now; None where none does or it only just starts. What a
    killed one left behind is not believed."""
    try:
        with (home.root / "controller.lock").open("r") as file:
            if _lock(file.fileno(), fcntl.LOCK_SH):
                return None
    except FileNotFoundError:
        return None
    return _read(home)


def _ports_path(home: Home) -> Path:
    return home.root / "ports.json"


def _write(path: Path, values: dict[str, object]) -> None:
    """Whole or not at all."""
    partial = path.with_suffix(".new")
    partial.write_text(json.dumps(values, indent=2) + "\n")
    os.replace(partial, path)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(home: Home) -> ServingController | None:
    try:
        values = json.loads(home.addresses.read_text())
        return ServingController(
            **{field.name: values[field.name] for field in fields(ServingController)}
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
