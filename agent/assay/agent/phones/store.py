"""Files on a phone, named by what they hold: only what is missing is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from assay.agent.phones.adb import Phone, Said
from assay.core import digest
from assay.core.errors import CorruptArtifact, DiskFull, Unreachable

ROOT = "/data/local/tmp/assay"
_HASH_S = 120.0
_HEX = re.compile(r"[0-9a-f]{64}\b")


@dataclass(slots=True)
class PhoneFiles:
    """The content store under :data:`ROOT` of one phone; ``sent_bytes`` counts what was pushed
    since it was made, ``budget_bytes`` is what may be (None: no limit)."""

    phone: Phone
    budget_bytes: int | None = None
    sent_bytes: int = 0

    def put(self, local: Path, known: str = "", *, executable: bool = False) -> str:
        """The path of the file on the phone, sent unless it is there whole; ``known`` is its
        digest where the caller has it.

        A push that was cut off lies under another name and is never taken for the file.
        :class:`DiskFull` where storage or budget do not suffice, :class:`CorruptArtifact` where
        what arrived is not what was sent.
        """
        name = (known or digest.of_file(local)).removeprefix("sha256:")
        remote = f"{ROOT}/{name}"
        if self._hash(remote) != name:
            self._send(local, remote, name)
        if executable:
            self.phone.run(["chmod", "755", remote])
        return remote

    def folder(self) -> str:
        """An empty folder for one run."""
        path = f"{ROOT}/run"
        self.phone.shell(f"rm -rf {path}; mkdir -p {path}")
        return path

    def _send(self, local: Path, remote: str, name: str) -> None:
        size = local.stat().st_size
        if self.budget_bytes is not None and self.sent_bytes + size > self.budget_bytes:
            raise DiskFull(
                f"{self.phone.serial}: {size} bytes would exceed the budget of "
                f"{self.budget_bytes} bytes ({self.sent_bytes} sent)"
            )
        partial = f"{remote}.part"
        self.phone.shell(f"mkdir -p {ROOT}; rm -f {partial}")
        try:
            self.phone.push(local, partial)
        except (DiskFull, Unreachable):
            self._forget(partial)
            raise
        self.sent_bytes += size
        check = f'h=$(sha256sum {partial}); [ "${{h%% *}}" = {name} ] && mv {partial} {remote}; '
        found = self._found(self.phone.shell(check + 'echo "$h"', timeout_s=_HASH_S))
        if found != name:
            self._forget(partial)
            raise CorruptArtifact(
                f"{self.phone.serial}: {local.name} arrived as {found or 'nothing'}"
            )

    def _forget(self, remote: str) -> None:
        try:
            self.phone.run(["rm", "-f", remote])
        except Unreachable:
            return

    def _hash(self, remote: str) -> str:
        return self._found(self.phone.run(["sha256sum", remote], timeout_s=_HASH_S))

    @staticmethod
    def _found(said: Said) -> str:
        # The name of a file that is not there holds its digest too: the hash stands first.
        found = _HEX.match(said.text.strip())
        return found[0] if said.status == 0 and found else ""
