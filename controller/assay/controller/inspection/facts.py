"""What a model file says of itself, without running it.

``python -m assay.controller.inspection.facts FILE`` prints it as JSON: files nobody has checked are
read in a process of their own (:func:`facts_of`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.controller.inspection.bounds import answer, ask
from assay.core.errors import NotFound, UsageError
from assay.core.jsonable import jsonable
from assay.core.model import MEDIA_ONNX, MEDIA_TFLITE
from assay.core.model.formats import FORMATS

MEDIA: Mapping[str, str] = {known.suffix: known.media_type for known in FORMATS if known.swept}
TIME_BOX_S = 120.0
_MOST_SHOWN, _BEGINNING = 200, 60


@dataclass(frozen=True, slots=True)
class Facts:
    """``versions`` are of the format and its operator sets; ``stored`` says by type what the
    weights are; ``dims`` are the open dimensions with a size to begin with, which ``macs`` are
    for."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    versions: Mapping[str, str]
    operators: Mapping[str, int]
    custom_operators: tuple[str, ...]
    parameters: int
    macs: int | None
    precision: str
    stored: Mapping[str, str]
    dims: Mapping[str, int] = field(default_factory=dict)
    external_data: Mapping[str, int] = field(default_factory=dict)
    signatures: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def media_of(file: Path) -> str:
    """The media type by the file's name; :class:`UsageError` for others, :class:`NotFound` where
    there is no file."""
    media = MEDIA.get(file.suffix.lower())
    if media is None:
        raise UsageError(f"{file}: none of {', '.join(MEDIA)}")
    if not file.is_file():
        raise NotFound(f"{file}: no such file")
    return media


def facts_of(file: Path, timeout_s: float = TIME_BOX_S) -> Facts:
    """Read in a process of its own; see :func:`assay.controller.inspection.bounds.ask`."""
    media_of(file)
    told = ask("assay.controller.inspection.facts", file, timeout_s=timeout_s)
    tuples = ("inputs", "outputs", "custom_operators", "signatures")
    return Facts(**{**told, **{name: tuple(told[name]) for name in tuples}})


def shown(text: str) -> str:
    """Embedded text on one line; only its length where it is longer than anyone reads."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_BEGINNING]}... ({len(text)} characters)"


def elements_by_type(tensors: list[tuple[str, int]]) -> dict[str, str]:
    """(type, elements) of every stored tensor, summed up for people."""
    found: dict[str, tuple[int, int]] = {}
    for kind, elements in tensors:
        count, total = found.get(kind, (0, 0))
        found[kind] = (count + 1, total + elements)
    return {
        kind: f"{total} values in {count} tensors"
        for kind, (count, total) in sorted(found.items(), key=lambda one: -one[1][1])
    }


def _read(file: Path) -> Any:
    media = media_of(file)
    if media == MEDIA_ONNX:
        from assay.controller.inspection import onnx_facts

        return jsonable(onnx_facts.read(file))
    if media == MEDIA_TFLITE:
        from assay.controller.inspection import tflite_facts

        return jsonable(tflite_facts.read(file))
    from assay.controller.inspection import ncnn_facts

    return jsonable(ncnn_facts.read(file))


if __name__ == "__main__":
    sys.exit(answer(lambda: _read(Path(sys.argv[1]))))
