"""What each runtime here says about loading a file, each in a process of its own.

``python -m assay.controller.inspection.tried FILE`` loads it and prints what came of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from assay.controller.inspection.bounds import answer, ask
from assay.controller.inspection.facts import TIME_BOX_S, media_of
from assay.controller.inspection.reference import RUNTIMES, open_reference
from assay.core.errors import AssayError
from assay.core.model import MEDIA_NCNN


@dataclass(frozen=True, slots=True)
class Word:
    """``says`` is what a person reads; ``loads`` is None where it was not asked."""

    runtime: str
    loads: bool | None
    says: str


def words(file: Path, timeout_s: float = TIME_BOX_S) -> tuple[Word, ...]:
    """A word of every runtime that can be a reference; raises nothing for a bad file."""
    media = media_of(file)
    found: list[Word] = []
    for kind, names in RUNTIMES.items():
        here = next((name for name in names if _version(name)), "")
        if not here:
            found.append(Word(names[0], None, "is not installed here"))
        elif kind != media:
            found.append(Word(f"{here} {_version(here)}", None, "is for other files"))
        else:
            found.append(_word(file, f"{here} {_version(here)}", timeout_s))
    return tuple(found)


def _word(file: Path, runtime: str, timeout_s: float) -> Word:
    try:
        told = ask("assay.controller.inspection.tried", file, timeout_s=timeout_s)
    except AssayError as error:
        return Word(runtime, False, f"{error.code}: {error}")
    return Word(runtime, True, f"loads it in {told['load_ms']:.0f} ms")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _load(file: Path) -> Mapping[str, float]:
    media = media_of(file)
    begin = time.perf_counter()
    if media == MEDIA_NCNN:
        from assay.controller.inspection import ncnn_reference

        ncnn_reference.loaded(ncnn_reference.read(file))
    else:
        open_reference(file, media)
    return {"load_ms": (time.perf_counter() - begin) * 1e3}


if __name__ == "__main__":
    sys.exit(answer(lambda: _load(Path(sys.argv[1]))))
