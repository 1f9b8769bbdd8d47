"""What the builder asks of a build process, and what it answers: JSON files in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assay.controller.variants.steps import Step, registered

ORDER = "order.json"
REPORT = "report.json"

# What a piece of work costs in training samples' worth of time, for progress alone.
STEP_UNITS = 2_000
EXPORT_UNITS = {"onnx": 4_000, "tflite": 9_000, "ncnn": 6_000}
FILE_UNITS = 2_000


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A trained network on disk."""

    weights: str
    description: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NetworkOrder:
    """Train a network (or take ``trained``) and export it to ``formats``.

    ``steps`` start from ``base`` where there is one, else from the model's fresh network.
    """

    model: str
    train: str
    preprocessing_json: str
    classes: int
    seed: int
    steps: Sequence[Mapping[str, Any]]
    formats: Sequence[str]
    base: StoredNetwork | None = None
    trained: StoredNetwork | None = None

    @property
    def units(self) -> int:
        """Its share of a progress bar."""
        steps = [] if self.trained else self.steps
        return sum(step_units(s) for s in steps) + sum(EXPORT_UNITS[f] for f in self.formats)


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """File names are relative to the folder; ``weights`` is "" where none were trained."""

    weights: str
    description: Mapping[str, Any]
    exports: Mapping[str, str]
    notes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FilesOrder:
    """Apply file steps to float files and say what each result gives and costs.

    ``sources`` maps a format to a file, ``arithmetic`` a format to its kind of tolerance. Without
    ``steps`` the files are taken as they are, which is how a user's own model is checked; a format
    without an ``arithmetic`` gets the one its file seems to compute in.
    """

    sources: Mapping[str, str]
    steps: Sequence[Mapping[str, Any]]
    arithmetic: Mapping[str, str]
    test: str
    calibration: str | None
    preprocessing_json: str

    @property
    def units(self) -> int:
        """Its share of a progress bar."""
        return FILE_UNITS * len(self.sources)


@dataclass(frozen=True, slots=True)
class FileReport:
    """One finished file and its golden outputs, as absolute paths."""

    path: str
    golden: str
    rtol: float
    atol: float
    parameters: int
    macs: int | None
    transfer_bytes: int
    operators: Mapping[str, int]
    notes: Mapping[str, str] = field(default_factory=dict)


def step_table(step: Step) -> dict[str, Any]:
    """A step as it stands in a recipe, defaults written out."""
    return {"use": step.use, **step.model_dump(mode="json")}


def step_from_table(table: Mapping[str, Any]) -> Step:
    """The step of :func:`step_table`."""
    rest = {key: value for key, value in table.items() if key != "use"}
    return registered()[table["use"]].model_validate(rest)


def step_units(table: Mapping[str, Any]) -> int:
    """Training costs its samples, everything else a fixed sum."""
    return int(table.get("samples", STEP_UNITS))


def write_order(folder: Path, order: NetworkOrder | FilesOrder) -> None:
    """Leaves the order for the process."""
    kind = "network" if isinstance(order, NetworkOrder) else "files"
    (folder / ORDER).write_text(json.dumps({"kind": kind, **asdict(order)}))


def read_order(folder: Path) -> NetworkOrder | FilesOrder:
    """The order of this process."""
    raw = json.loads((folder / ORDER).read_text())
    if raw.pop("kind") == "files":
        return FilesOrder(**raw)
    for key in ("base", "trained"):
        raw[key] = StoredNetwork(**raw[key]) if raw[key] else None
    return NetworkOrder(**raw)


def write_report(folder: Path, report: NetworkReport | Mapping[str, FileReport]) -> None:
    """Leaves the answer, whole or not at all: it is the last thing the process does, but for
    weights, which it reports before it exports them."""
    if isinstance(report, NetworkReport):
        raw: Any = asdict(report)
    else:
        raw = {name: asdict(file) for name, file in report.items()}
    new = folder / f"{REPORT}.new"
    new.write_text(json.dumps(raw))
    new.replace(folder / REPORT)


def read_network_report(folder: Path) -> NetworkReport:
    """The answer to a :class:`NetworkOrder`."""
    return NetworkReport(**json.loads((folder / REPORT).read_text()))


def read_file_reports(folder: Path) -> dict[str, FileReport]:
    """The answers to a :class:`FilesOrder`, by format."""
    raw = json.loads((folder / REPORT).read_text())
    return {name: FileReport(**file) for name, file in raw.items()}
