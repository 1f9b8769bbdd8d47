"""Files on a phone, named by what they hold: only what is missing is sent."""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass
from pathlib import Path

from assay.agent.phones.adb import NO_ROOM, Phone
from assay.agent.phones.budget import DailyBudget
from assay.core import digest, log
from assay.core.channel import Backoff
from assay.core.errors import Cancelled, CorruptArtifact, DiskFull, Unreachable

ROOT = "/data/local/tmp/assay"
_LOG = log.get(__name__)
_HASH_S = 120.0
# For what lies in buffers on the way when all is handed over.
_FINISH_S = 30.0
_FRUITLESS, _MOST_WAIT_S = 6, 5.0
_HEX = re.compile(r"^[0-9a-f]{64}\b", re.MULTILINE)
_SIZE = re.compile(r"^(\d+)\s*$", re.MULTILINE)

# The copy is another file to a sender that outlived its link: what the kernel still has of it would
# be written between.
_LOOK = """cd {root} 2>/dev/null || exit 0
[ -f {name} ] && sha256sum < {name} && exit 0
[ -f {name}.part ] || exit 0
cp {name}.part {name}.copy && mv {name}.copy {name}.part || rm -f {name}.part {name}.copy
wc -c < {name}.part"""
# The digest is made of what is held and of what arrives, while it arrives.
_TAKE = """mkdir -p {root} && cd {root} || exit 1
h=$( (cat {name}.part 2>/dev/null; exec tee -a {name}.part) | sha256sum)
[ "${{h%% *}}" = {name} ] && [ "$(wc -c < {name}.part)" -eq {size} ] && mv {name}.part {name}"""


@dataclass(slots=True)
class PhoneFiles:
    """The content store under :data:`ROOT` of one phone; ``sent_bytes`` counts what was handed to
    adb since it was made, ``budget`` what may go in a day (None: no limit, nothing kept)."""

    phone: Phone
    budget: DailyBudget | None = None
    sent_bytes: int = 0

    def put(
        self,
        local: Path,
        known: str = "",
        *,
        executable: bool = False,
        cancel: threading.Event | None = None,
    ) -> str:
        """The path of the file on the phone, sent unless it is there whole; ``known`` is its
        digest where the caller has it.

        A transfer that was cut off goes on where it was, over as many breaks of the link as it
        takes while it gets further; it lies under another name and is never taken for the file.
        :class:`DiskFull` where storage or the day's budget do not suffice, :class:`CorruptArtifact`
        where twice what arrived is not what was sent, :class:`Unreachable` where the phone stays
        away, :class:`Cancelled`.
        """
        name = (known or digest.of_file(local)).removeprefix("sha256:")
        backoff = Backoff(most_s=_MOST_WAIT_S)
        reached = fruitless = wrong = 0
        while True:
            try:
                held = self._held(name)
                if held is None or self._send(local, name, held):
                    break
                wrong += 1
            except Unreachable as error:
                _LOG.warning("transfer was cut off", file=local.name, reason=str(error))
                fruitless += 1
                if fruitless == _FRUITLESS:
                    raise
                self._heal(backoff.next_s(), cancel)
                continue
            if wrong == 2:
                raise CorruptArtifact(f"{self.phone.serial}: {local.name} arrived wrong twice")
            if held > reached:
                reached, fruitless = held, 0
                backoff.succeeded()
        if executable:
            self.phone.run(["chmod", "755", f"{ROOT}/{name}"])
        return f"{ROOT}/{name}"

    def folder(self) -> str:
        """An empty folder for one run; :class:`DiskFull` where there is no room for one."""
        path = f"{ROOT}/run"
        said = self.phone.shell(f"rm -rf {path}; mkdir -p {path}")
        if NO_ROOM.search(said.text):
            raise DiskFull(f"{self.phone.serial}: no room for a folder: free some storage on it")
        return path

    def _held(self, name: str) -> int | None:
        """How many bytes of the file are there; None where it is whole."""
        said = self.phone.shell(_LOOK.format(root=ROOT, name=name), timeout_s=_HASH_S).text
        found = _HEX.search(said)
        if found is not None:
            if found[0] == name:
                return None
            self._forget(name)
            return 0
        size = _SIZE.search(said)
        return int(size[1]) if size is not None else 0

    def _send(self, local: Path, name: str, held: int) -> bool:
        """Sends what is missing; False, and nothing is left there, where the sum is wrong."""
        size = local.stat().st_size
        if held > size:
            self._forget(name)
            held = 0
        sent = 0

        def count(more: int) -> None:
            nonlocal sent
            sent += more

        if self.budget is not None:
            self.budget.charge(size - held)
        try:
            script = _TAKE.format(root=ROOT, name=name, size=size)
            said = self.phone.feed(script, local, held, count, finish_s=_FINISH_S)
        finally:
            self.sent_bytes += sent
            if self.budget is not None:
                self.budget.give_back(size - held - sent)
        if said.status:
            self._forget(name)
        if said.status and NO_ROOM.search(said.text):
            raise DiskFull(
                f"{self.phone.serial}: no room for {local.name}: free some storage on it"
            )
        return said.status == 0

    def _forget(self, name: str) -> None:
        self.phone.shell(f"rm -f {ROOT}/{name} {ROOT}/{name}.part")

    def _heal(self, wait_s: float, cancel: threading.Event | None) -> None:
        if (cancel or threading.Event()).wait(wait_s):
            raise Cancelled("the run was cancelled while its files were on the way")
        with contextlib.suppress(Unreachable):
            self.phone.server.reconnect(self.phone.serial)
