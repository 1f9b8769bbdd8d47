"""Presents one phone to the controller: an agent whose board is the phone.

Each phone has a home of its own below its host's (key, certificate, spool, rounds): to the
controller it is a device like any other, and it can be revoked, named and drained by itself.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from assay.agent.config import AgentConfig
from assay.agent.devices.detect import detect
from assay.agent.measuring.affinity import CpuChooser
from assay.agent.measuring.measure import Measured
from assay.agent.measuring.observe import RunPaths
from assay.agent.phones.adb import AdbServer, Phone
from assay.agent.phones.budget import DailyBudget
from assay.agent.phones.facts import Handset, read_handset
from assay.agent.phones.listing import Attached
from assay.agent.phones.measure import Bench, measure_on_phone
from assay.agent.phones.store import PhoneFiles
from assay.agent.plane.identity import Identity
from assay.agent.plane.serve import Agent
from assay.core import digest, log
from assay.core.errors import CheckFailed, Unreachable
from assay.core.model import DeviceFacts, RunSpec, RuntimeFacts
from assay.core.systemd import Notifier

_LOG = log.get(__name__)


class PhoneFacts:
    """Facts of a phone for a session; as last seen where it does not answer."""

    def __init__(
        self, phone: Phone, mirror: Path, runtimes: tuple[RuntimeFacts, ...], seen: Handset
    ) -> None:
        self._phone = phone
        self._mirror = mirror
        self._runtimes = runtimes
        self._seen = seen

    def current(self) -> DeviceFacts:
        """As last looked at."""
        return self._seen.facts

    def refresh(self) -> DeviceFacts:
        """Looks again, healing the connection where it must. :class:`CheckFailed` where another
        phone answers by now, whose results would be taken for this one's."""
        try:
            found = read_handset(self._phone, self._mirror, self._runtimes)
        except Unreachable as error:
            _LOG.warning("phone does not answer", serial=self._phone.serial, reason=str(error))
            self._heal()
            return self._seen.facts
        if _who(found) != _who(self._seen):
            shutil.rmtree(self._mirror, ignore_errors=True)
            raise CheckFailed(
                f"{self._phone.serial} was {self._seen.facts.board} and is {found.facts.board} now"
            )
        self._seen = found
        return found.facts

    def _heal(self) -> None:
        try:
            self._phone.server.reconnect(self._phone.serial)
        except Unreachable as error:
            _LOG.warning("phone is away", serial=self._phone.serial, reason=str(error))


class PhoneAgent(Agent):
    """An agent that measures on a phone and not on its host."""

    def __init__(
        self, config: AgentConfig, identity: Identity, source: PhoneFacts, bench: Bench
    ) -> None:
        self._bench = bench
        super().__init__(config, identity, CpuChooser(config), source, Notifier.from_environment())  # type: ignore[arg-type]

    def _measure(
        self,
        run: RunSpec,
        files: RunPaths,
        device: DeviceFacts,
        directory: Path,
        on_state: Callable[[str], None],
        cancel: threading.Event,
    ) -> Measured:
        name = self._identity.name
        return measure_on_phone(self._bench, run, files, device, name, directory, on_state, cancel)


def _who(handset: Handset) -> tuple[str, str]:
    return handset.serial_number, handset.facts.board


def binaries_as_runtimes(binaries: Mapping[str, Path]) -> tuple[RuntimeFacts, ...]:
    """Each native binary as a runtime of the phone; its version is what it contains."""
    return tuple(
        RuntimeFacts(name, f"binary-{digest.of_file(path)[7:19]}", ("CPU",))
        for name, path in sorted(binaries.items())
    )


def phone_config(host: AgentConfig, handset: Handset) -> AgentConfig:
    """The configuration of one phone: a home and a name of its own, by its model and serial number,
    so that it stays the same device under another address or port. Some makers give all phones of a
    model one serial, so two of different models may share one."""
    slug = _slug(handset)
    model = re.sub(r"[^a-z0-9]+", "-", handset.facts.board.partition(" (")[0].lower()).strip("-")
    name = f"{model[:40]}-{slug}".strip("-")
    home = host.home / "phones" / name
    return replace(host, home=home, name=name, sysroot=home / "mirror", metrics_port=None)


def keep_older_home(config: AgentConfig, handset: Handset) -> None:
    """Homes were once named by the serial number alone: takes over the one this phone has had, with
    its key and what waits to be sent, and leaves another model's where it is."""
    older = config.home.parent / _slug(handset)
    if config.home.exists() or not older.is_dir():
        return
    if detect(older / "mirror", (), ()).board == handset.facts.board:
        older.rename(config.home)


def _slug(handset: Handset) -> str:
    return re.sub(r"[^a-z0-9]+", "-", handset.serial_number.lower()).strip("-")[-20:] or "unknown"


def serve_phone(
    host: AgentConfig,
    server: AdbServer,
    row: Attached,
    binaries: Mapping[str, Path],
    daily_bytes: int | None = None,
    *,
    once: bool,
) -> int:
    """Enrols the phone where it is new, and serves it until a signal; returns the exit code.
    ``daily_bytes`` is what may be sent to it in a day."""
    from assay.agent.plane.enrol import enrol

    phone = Phone(server, row.target)
    runtimes = binaries_as_runtimes(binaries)
    scratch = host.home / "phones" / ".seen" / digest.of_bytes(row.target.encode())[7:19]
    handset = read_handset(phone, scratch, runtimes)
    config = phone_config(host, handset)
    keep_older_home(config, handset)
    with config.paths.lock():
        if not config.paths.identity.exists() and config.controller and config.token:
            enrol(config.paths, config.controller, config.token, config.device_name)
        identity = Identity.load(config.paths)
        files = PhoneFiles(phone, DailyBudget(config.home / "sent.json", daily_bytes))
        bench = Bench(phone, files, binaries, row.on_usb)
        source = PhoneFacts(phone, config.sysroot, runtimes, handset)
        source.refresh()
        with PhoneAgent(config, identity, source, bench) as agent:
            return agent.run(once=once)
