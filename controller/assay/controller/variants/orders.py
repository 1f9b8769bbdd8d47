"""What the builder asks of a build process, and what it answers: JSON files in one folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from assay.controller.own_code.reference import Reference
from assay.controller.variants.models import OwnModel
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

    ``steps`` start from ``base`` where there is one, else from the model's fresh network. ``train``
    is any split where no step needs samples.
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
    own: OwnModel | None = None

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
    without an ``arithmetic`` gets the one its file seems to compute in. Without a dataset (``test``
    is empty) models are fed what ``own_inputs_json`` declares. ``operators`` is the path of a
    library that they need, ``signature`` the one of the .tflite file that is meant, or empty.
    """

    sources: Mapping[str, str]
    steps: Sequence[Mapping[str, Any]]
    arithmetic: Mapping[str, str]
    test: str
    calibration: str | None
    preprocessing_json: str
    own_inputs_json: str = ""
    operators: str = ""
    signature: str = ""

    @property
    def units(self) -> int:
        """Its share of a progress bar."""
        return FILE_UNITS * len(self.sources)


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """Try a factory on two of the ``samples``; ``weights`` is None where they are the factory's."""

    reference: Reference
    weights: str | None
    samples: str
    preprocessing_json: str
    classes: int


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What came of it: digests of sources by module, and of the weights it starts with."""

    sources: Mapping[str, str]
    state: str


@dataclass(frozen=True, slots=True)
class DataOrder:
    """Run the class that ``reference`` names and keep the samples it yields; ``classes`` are the
    names the user gave."""

    reference: Reference
    options: Mapping[str, str]
    classes: Sequence[str]


@dataclass(frozen=True, slots=True)
class DataReport:
    """``arrays`` is an .npz in the folder, ``x_`` and ``y_`` of each part; ``methods`` say by part
    which method yielded it, ``sources`` hold the digests of what was imported."""

    arrays: str
    methods: Mapping[str, str]
    classes: Sequence[str]
    preprocessing_json: str
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FileReport:
    """One finished file and its golden outputs, as absolute paths. A model with inputs of its own
    has them in ``inputs``, with what :class:`assay.core.model.InputSpec` says of them."""

    path: str
    golden: str
    rtol: float
    atol: float
    parameters: int
    macs: int | None
    transfer_bytes: int
    operators: Mapping[str, int]
    notes: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""
    dataset: str = ""
    made_json: str = ""


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


Order = NetworkOrder | FilesOrder | ModelOrder | DataOrder
Report = NetworkReport | ModelReport | DataReport


def write_order(folder: Path, order: Order) -> None:
    """Leaves the order for the process."""
    raw = {"kind": type(order).__name__, **asdict(order)}
    (folder / ORDER).write_text(json.dumps(raw, default=str))


def read_order(folder: Path) -> Order:
    """The order of this process."""
    raw = json.loads((folder / ORDER).read_text())
    kind = raw.pop("kind")
    if kind == FilesOrder.__name__:
        return FilesOrder(**raw)
    if kind == DataOrder.__name__:
        return DataOrder(**{**raw, "reference": _reference(raw["reference"])})
    if kind == ModelOrder.__name__:
        return ModelOrder(**{**raw, "reference": _reference(raw["reference"])})
    for key in ("base", "trained"):
        raw[key] = StoredNetwork(**raw[key]) if raw[key] else None
    if raw["own"]:
        weights = raw["own"]["weights"]
        own = OwnModel(_reference(raw["own"]["reference"]), Path(weights) if weights else None)
        raw["own"] = own
    return NetworkOrder(**raw)


def write_report(folder: Path, report: Report | Mapping[str, FileReport]) -> None:
    """Leaves the answer, whole or not at all: it is the last thing the process does, but for
    weights, which it reports before it exports them."""
    if isinstance(report, NetworkReport | ModelReport | DataReport):
        raw: Any = asdict(report)
    else:
        raw = {name: asdict(file) for name, file in report.items()}
    new = folder / f"{REPORT}.new"
    new.write_text(json.dumps(raw))
    new.replace(folder / REPORT)


def read_network_report(folder: Path) -> NetworkReport:
    """The answer to a :class:`NetworkOrder`."""
    return NetworkReport(**json.loads((folder / REPORT).read_text()))


def read_model_report(folder: Path) -> ModelReport:
    """The answer to a :class:`ModelOrder`."""
    return ModelReport(**json.loads((folder / REPORT).read_text()))


def read_data_report(folder: Path) -> DataReport:
    """The answer to a :class:`DataOrder`."""
    return DataReport(**json.loads((folder / REPORT).read_text()))


def read_file_reports(folder: Path) -> dict[str, FileReport]:
    """The answers to a :class:`FilesOrder`, by format."""
    raw = json.loads((folder / REPORT).read_text())
    return {name: FileReport(**file) for name, file in raw.items()}


def _reference(raw: Mapping[str, Any]) -> Reference:
    return Reference(raw["module"], raw["name"], tuple(raw["folders"]))
