"""Boards for tests: the trees composed for this repository, and copies of them to break."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import REPOSITORY

COMPOSED = REPOSITORY / "tests" / "fixtures" / "boards"
# Reading it at offset 0 is the one way to a real EIO that needs no root and no hardware.
EIO = Path("/proc/self/mem")


def composed(name: str) -> Path:
    """The root of a board composed by hand; see its README."""
    return COMPOSED / name


def names() -> list[str]:
    """All composed boards."""
    return sorted(folder.name for folder in COMPOSED.iterdir() if folder.is_dir())


def copy_of(name: str, to: Path) -> Path:
    """A board under ``to`` that a test may break."""
    return Path(shutil.copytree(composed(name), to / name))


def break_with_eio(path: Path) -> None:
    """From now on reading ``path`` fails with EIO."""
    path.unlink()
    path.symlink_to(EIO)


def write(root: Path, files: dict[str, object]) -> Path:
    """Writes ``files`` under ``root``, each with the newline the kernel ends it with."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(f"{content}\n")
    return root
