"""Folders with one folder of files per class, as image and sound collections come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assay.controller.datasets.kinds.base import ALL, PARTS
from assay.core.errors import BadInputs, NotFound

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of one part with their classes, in an order that is the same everywhere."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]

    def y(self) -> NDArray[np.int64]:
        """The labels as an array."""
        import numpy as np

        return np.array(self.labels, dtype=np.int64)


def list_folders(
    root: Path, suffixes: Sequence[str], given: Sequence[str]
) -> tuple[dict[str, Listing], tuple[str, ...]]:
    """The files by part, and the names of the classes.

    ``root`` holds a folder per class, or ``train``, ``test`` and perhaps ``calibration`` with a
    folder per class each. Classes are the folders' names, sorted, or ``given``, of which some may
    have no folder. Files of other suffixes and hidden ones are passed over.
    """
    folders = _folders(root)
    names = {folder.name for folder in folders}
    divided = "test" in names and names <= set(PARTS)
    parts = {f.name: _folders(f) for f in folders} if divided else {ALL: folders}
    found = sorted({folder.name for one in parts.values() for folder in one})
    if not found:
        raise BadInputs(f"{root}: holds no folder; a folder for each class is needed")
    classes = tuple(given or found)
    strangers = [name for name in found if name not in classes]
    if strangers:
        raise BadInputs(
            f"{root}: the folder {strangers[0]!r} is none of the {len(classes)} classes given"
        )
    listings = {}
    for part, of_classes in parts.items():
        files = [(path, folder) for folder in of_classes for path in _files(folder, suffixes)]
        labels = tuple(classes.index(folder.name) for _, folder in files)
        listings[part] = Listing(tuple(path for path, _ in files), labels)
    return listings, classes


def has_class_files(what: Sequence[str], suffixes: Sequence[str]) -> bool:
    """Whether ``what`` is one folder with such a file somewhere in its folders."""
    if len(what) != 1 or not Path(what[0]).is_dir():
        return False
    return any(_matches(path, suffixes) for path in Path(what[0]).rglob("*"))


def _folders(root: Path) -> list[Path]:
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise NotFound(f"{root}: cannot be read: {error.strerror}") from error
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if _matches(path, suffixes))
    if not files:
        raise BadInputs(
            f"{folder}: the class {folder.name!r} is empty: no file ends in {', '.join(suffixes)}"
        )
    return files


def _matches(path: Path, suffixes: Sequence[str]) -> bool:
    named = path.suffix.lower() in suffixes and not path.name.startswith(".")
    return named and path.is_file()
