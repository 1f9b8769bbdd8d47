"""Reads a board for a recording; changes nothing on it."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.agent.recording.scrub import scrub_content, scrub_path
from assay.agent.recording.sources import COMMANDS, FILES, PRESENCE
from assay.agent.sysroot import recording_name, run_command
from assay.core.errors import SamplerError

MAX_FILE_BYTES = 1 << 20
_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Collected:
    """``files`` by path under the root, scrubbed; ``silent`` tells by path or command why there
    is nothing of it (``EIO``, ``EACCES``: root would have been let in, ...)."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)


def collect(sysroot: Path = Path("/")) -> Collected:
    """Everything of the lists in :mod:`.sources` that answers; raises nothing for what does not."""
    files: dict[str, bytes] = {}
    silent: dict[str, str] = {}
    for path in _matches(sysroot, FILES):
        name = scrub_path(path)
        try:
            files[name] = scrub_content(name, _read(sysroot / path))
        except OSError as error:
            silent[name] = errno.errorcode.get(error.errno or 0, str(error))
    files.update({scrub_path(path): b"" for path in _matches(sysroot, PRESENCE)})
    for argv in COMMANDS:
        name = f"commands/{recording_name(argv)}"
        try:
            files[name] = scrub_content(name, run_command(sysroot, *argv).encode())
        except SamplerError as error:
            silent[name] = str(error)
    return Collected(files, silent)


def _matches(sysroot: Path, patterns: tuple[str, ...]) -> list[str]:
    root = glob.escape(str(sysroot))
    found = {
        os.path.relpath(path, sysroot)
        for pattern in patterns
        for path in glob.glob(f"{root}/{pattern}")
        if not os.path.isdir(path)
    }
    return sorted(found)


def _read(path: Path) -> bytes:
    """The whole file, unbuffered: some sysfs files answer EAGAIN, on which buffered reads die."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        size = 0
        while size < MAX_FILE_BYTES and (part := os.read(descriptor, _READ_BYTES)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)
