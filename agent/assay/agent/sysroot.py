"""Reads what a board says about itself: kernel files and vendor commands, under a root.

A root is ``/`` on a live board, or a folder laid out like one: ``proc/...`` and ``sys/...`` as
files, and the answer of ``vcgencmd get_throttled`` as ``commands/vcgencmd-get_throttled.txt``.
Every function reads only. Failures are ``OSError`` (files) or :class:`SamplerError` (commands).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from assay.core.errors import SamplerError

COMMAND_TIMEOUT_S = 2.0
_CHUNK_BYTES = 65536
_LIMIT_BYTES = 4 << 20
_NUMBER = re.compile(r"(\d+)")


def read_text(path: Path) -> str:
    """The whole file as text without surrounding blanks and NULs; raises ``OSError``.

    Unbuffered and non-blocking, because some sysfs files answer EAGAIN for ever (Tegra's cv0-2
    thermal zones), on which Python's buffered reader raises TypeError instead of OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        size = 0
        while size < _LIMIT_BYTES and (part := os.read(descriptor, _CHUNK_BYTES)):
            parts.append(part)
            size += len(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace").strip("\0 \t\r\n")


def read_int(path: Path) -> int:
    """The file's integer, decimal or 0x-prefixed; raises ``OSError`` or ``ValueError``."""
    text = read_text(path)
    return int(text, 16) if text.startswith("0x") else int(text)


def maybe_text(path: Path) -> str | None:
    """Like :func:`read_text`, but None where the file is missing, unreadable or empty."""
    try:
        return read_text(path) or None
    except OSError:
        return None


def maybe_int(path: Path) -> int | None:
    """Like :func:`read_int`, but None where there is no number to be had."""
    try:
        return read_int(path)
    except (OSError, ValueError):
        return None


def find(sysroot: Path, pattern: str) -> list[Path]:
    """Paths under ``sysroot`` that match a glob, in natural order (hwmon2 before hwmon10)."""
    try:
        return sorted(sysroot.glob(pattern), key=_natural)
    except OSError:
        return []


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """CPU numbers of a kernel list such as ``0-3,6``, or of ``related_cpus``' ``0 1 2 3``."""
    cpus: list[int] = []
    for part in re.split(r"[,\s]+", text.strip()):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(sorted(set(cpus)))


def run_command(sysroot: Path, *argv: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """What a command prints on stdout; under a recorded root, what it printed then.

    Raises :class:`SamplerError` where there is no such command or recording, where it runs
    longer than ``timeout_s``, or fails. Status 0 is no proof of success: ``vcgencmd`` and
    ``nvpmodel`` print their errors with it, so callers parse strictly.
    """
    if sysroot != Path("/"):
        return _recorded(sysroot, argv)
    shown = " ".join(argv)
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise SamplerError(f"{argv[0]}: no such program on this board") from None
    except OSError as error:
        raise SamplerError(f"{shown}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise SamplerError(f"{shown}: no answer within {timeout_s:g} s") from None
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (text + done.stderr.decode("utf-8", "replace")).strip().splitlines()
        raise SamplerError(f"{shown}: status {done.returncode}: {said[0] if said else 'silent'}")
    return text


def recording_name(argv: tuple[str, ...]) -> str:
    """The file name under ``commands/`` that holds the answer to ``argv``."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(argv)).strip("-") + ".txt"


def _recorded(sysroot: Path, argv: tuple[str, ...]) -> str:
    path = sysroot / "commands" / recording_name(argv)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise SamplerError(f"{' '.join(argv)}: no such program in this recording") from None


def _natural(path: Path) -> list[tuple[int, int, str]]:
    pieces = _NUMBER.split(str(path))
    return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in pieces]
