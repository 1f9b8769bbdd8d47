"""Quantises exported files, runs each for its golden outputs, and reads its cost; runs in a process
of its own, because a damaged model can take its runtime down with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.controller.datasets.npz import read_npz
from assay.controller.inspection import golden, inspect, reference, tflite_signature
from assay.controller.inspection.bounds import limit_memory
from assay.controller.variants import export, own_build
from assay.controller.variants.identity import TFLITE_EXPORTERS, tool_versions
from assay.controller.variants.orders import FILE_UNITS, FileReport, FilesOrder, step_from_table
from assay.controller.variants.progress import Meter
from assay.controller.variants.publish import MEDIA
from assay.controller.variants.shipping import shipped
from assay.controller.variants.steps import FileStep
from assay.controller.variants.steps.base import FileWork
from assay.core.npz import write_npz
from assay.core.preprocess import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACCURACY_SAMPLES = 2_000
_BEAT = 50


def build_files(order: FilesOrder, folder: Path, meter: Meter) -> dict[str, FileReport]:
    """Follows the order; files are written into ``folder``."""
    if not order.steps and not order.arithmetic:
        limit_memory()
    order = _with_signature(order, folder)
    if order.own_inputs_json:
        return own_build.build_own(order, folder, meter)
    preprocessing = Preprocessing.from_json(order.preprocessing_json)
    test = read_npz(Path(order.test))
    samples = _Samples(preprocessing, test["x"], test.get("y"))
    calibration = None
    if order.calibration is not None and order.steps:
        calibration = preprocessing.apply(read_npz(Path(order.calibration))["x"])
    reports = {}
    for name, source in order.sources.items():
        meter.begin(f"finishing .{name}", FILE_UNITS)
        work = FileWork(Path(source), folder, calibration)
        _apply_steps(order, name, work)
        meter.within(1, 2)
        report = _report(name, work, order, samples, meter)
        reports[name] = report
    return reports


def _with_signature(order: FilesOrder, folder: Path) -> FilesOrder:
    """The order over a .tflite file whose main graph is the signature asked for."""
    if not order.signature:
        return order
    source = Path(order.sources["tflite"])
    chosen = folder / source.name
    tflite_signature.choose(source, chosen, order.signature)
    return replace(order, sources={**order.sources, "tflite": str(chosen)})


@dataclass(frozen=True, slots=True)
class _Samples:
    """The test split, made into inputs as needed; ``y`` is None without labels."""

    preprocessing: Preprocessing
    x: NDArray[Any]
    y: NDArray[Any] | None

    def inputs(self, count: int) -> NDArray[Any]:
        """Model inputs of the first ``count`` samples."""
        return self.preprocessing.apply(self.x[:count])


def _apply_steps(order: FilesOrder, name: str, work: FileWork) -> None:
    for table in order.steps:
        step = step_from_table(table)
        assert isinstance(step, FileStep)
        step.to_onnx(work) if name == "onnx" else step.to_tflite(work)
    if order.steps and name == "onnx":
        export.finish_onnx(work.path)
    if name == "tflite" and order.arithmetic:
        versions = tool_versions(TFLITE_EXPORTERS)
        work.notes["tools"] = ", ".join(f"{tool} {version}" for tool, version in versions.items())


def _report(
    name: str, work: FileWork, order: FilesOrder, samples: _Samples, meter: Meter
) -> FileReport:
    media = MEDIA[name]
    x = samples.inputs(golden.SAMPLES)
    runner = golden.reference_runner(work.path, media, order.operators)
    outputs = runner(x)
    arithmetic = order.arithmetic.get(name) or inspect.precision(work.path, media)
    rtol, atol = golden.tolerance(arithmetic, outputs)
    arrays = {"x": x, **{f"output_{i}": output for i, output in enumerate(outputs)}}
    kept = work.folder / f"golden-{name}.npz"
    write_npz(kept, arrays)
    sent, cost = shipped(work.path, media, work.folder)
    notes = {
        **work.notes,
        "arithmetic": arithmetic,
        "reference": reference.reference_version(media),
    }
    top1 = _top1(runner, samples, outputs[0].ndim, meter)
    if top1:
        notes["controller_top1"] = top1
    return FileReport(
        path=str(sent),
        golden=str(kept),
        rtol=rtol,
        atol=atol,
        parameters=cost.parameters,
        macs=cost.macs,
        transfer_bytes=cost.transfer_bytes,
        operators=dict(cost.operators),
        notes=notes,
    )


def _top1(runner: golden.Runner, samples: _Samples, output_axes: int, meter: Meter) -> str:
    """A first look at accuracy, in the reference runtime; devices measure their own on all."""
    if samples.y is None or output_axes != 2:
        return ""
    y = samples.y[:ACCURACY_SAMPLES]
    right = 0
    x = samples.inputs(len(y))
    for start in range(0, len(y), _BEAT):
        rows = slice(start, start + _BEAT)
        right += int((runner(x[rows])[0].argmax(1) == y[rows]).sum())
        # Whoever waits takes silence for a hang.
        meter.within(len(y) + start, 2 * len(y))
    return f"{right / len(y):.4f} of {len(y)}"
