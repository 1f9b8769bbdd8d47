"""Sensors that are one number in one kernel file each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assay.agent.samplers.base import Channel, Reading
from assay.agent.sysroot import read_text
from assay.core.errors import SamplerError


@dataclass(frozen=True, slots=True)
class FileSource:
    """A channel, its file, and what one unit of the file's number is in the channel's unit.

    A value outside ``low`` .. ``high`` is no reading (placeholders, errno values).
    """

    channel: Channel
    path: Path
    scale: float = 1.0
    low: float = float("-inf")
    high: float = float("inf")


def read_file(source: FileSource) -> Reading:
    """One reading; raises SamplerError that names the file and what it said."""
    try:
        text = read_text(source.path)
        value = float(text) * source.scale
    except OSError as error:
        told = error.strerror or str(error)
        raise SamplerError(f"{_short(source.path)}: {told}") from error
    except ValueError:
        raise SamplerError(f"{_short(source.path)}: not a number: {text[:40]!r}") from None
    if not source.low <= value <= source.high:
        raise SamplerError(f"{_short(source.path)}: {text} cannot be")
    return Reading(source.channel, value)


def read_files(sources: Iterable[FileSource]) -> tuple[Reading, ...]:
    """A reading of each file that answers; raises SamplerError when none does."""
    readings: list[Reading] = []
    problem: SamplerError | None = None
    for source in sources:
        try:
            readings.append(read_file(source))
        except SamplerError as error:
            problem = problem or error
    if not readings and problem is not None:
        raise problem
    return tuple(readings)


def answering(sources: Iterable[FileSource]) -> tuple[tuple[FileSource, ...], str]:
    """The sources that answer now, and why the first of the others does not (or empty)."""
    kept: list[FileSource] = []
    why = ""
    for source in sources:
        try:
            read_file(source)
            kept.append(source)
        except SamplerError as error:
            why = why or str(error)
    return tuple(kept), why


def _short(path: Path) -> str:
    return os.sep.join(path.parts[-2:])
