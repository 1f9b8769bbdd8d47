"""The envelopes a controller holds: one file each, named by what it contains."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assay.core import digest as digests
from assay.core import dsse, log, statement
from assay.core.dsse import Envelope
from assay.core.errors import BadMessage, NotFound
from assay.core.statement import Statement

MOST_BYTES = 3 << 20
"""What one answer carries at most: a message has to hold it."""
_SUFFIX = ".dsse.json"

_log = log.get(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """An envelope with what it says, unverified; ``data`` is the file as it came."""

    envelope_id: str
    envelope: Envelope
    statement: Statement
    data: bytes
    added_ns: int

    @property
    def digests(self) -> frozenset[str]:
        """The artifacts it names."""
        return frozenset(each.ref.digest for each in self.statement.artifacts)


class Envelopes:
    """Those below ``folder``. Safe for several threads and processes: a file never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Held | None] = {}
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Held:
        """Keeps an envelope; :class:`BadMessage` where it is none over a list of artifacts. Again
        is no error."""
        _opened(data)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = digests.hex_of(digests.of_bytes(data)) + _SUFFIX
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self._folder / name)
        held = _load(self._folder / name)
        assert held is not None  # it was opened above
        return held

    def held(self) -> list[Held]:
        """All of them, the newest first; a file that is no envelope is passed over."""
        with self._lock:
            found = {path.name: path for path in self._folder.glob(f"*{_SUFFIX}")}
            kept = {name: held for name, held in self._read.items() if name in found}
            new = {name: _load(path) for name, path in found.items() if name not in kept}
            self._read = kept | new
            every = [held for held in self._read.values() if held is not None]
        return sorted(every, key=lambda held: (-held.added_ns, held.envelope_id))

    def find(self, envelope_id: str) -> Held:
        """One of them by its id, or by the beginning of it that no other has."""
        found = [held for held in self.held() if held.envelope_id.startswith(envelope_id)]
        if len(found) != 1:
            raise NotFound(
                f"{len(found) or 'no'} envelopes begin with {envelope_id!r}; "
                "`assay publish list` names them"
            )
        return found[0]

    def remove(self, envelope_id: str) -> None:
        """Drops one: devices that ask from now on do not get it."""
        held = self.find(envelope_id)
        (self._folder / f"{held.envelope_id}{_SUFFIX}").unlink(missing_ok=True)

    def covering(self, wanted: Iterable[str], after: str = "") -> tuple[list[bytes], bool]:
        """The envelopes that name any of these digests, the newest first, up to
        :data:`MOST_BYTES`, and whether there are more; those behind ``after`` where that is one's
        id, so that all of them can be had piece by piece."""
        asked = frozenset(wanted)
        naming = [held for held in self.held() if held.digests & asked]
        place = next((at for at, held in enumerate(naming, 1) if held.envelope_id == after), 0)
        chosen: list[bytes] = []
        room = MOST_BYTES
        for held in naming[place:]:
            room -= len(held.data)
            if room < 0 and chosen:
                return chosen, True
            chosen.append(held.data)
        return chosen, False


def _opened(data: bytes) -> tuple[Envelope, Statement]:
    envelope = dsse.decode(data)
    if envelope.payload_type != statement.PAYLOAD_TYPE:
        raise BadMessage(
            f"this envelope is around {envelope.payload_type}, not {statement.PAYLOAD_TYPE}"
        )
    return envelope, statement.decode(envelope.payload)


def _load(path: Path) -> Held | None:
    try:
        data = path.read_bytes()
        envelope, stated = _opened(data)
        added_ns = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    except (BadMessage, OSError) as error:
        _log.warning("envelope passed over", path=str(path), reason=str(error))
        return None
    return Held(path.name.removesuffix(_SUFFIX), envelope, stated, data, added_ns)
