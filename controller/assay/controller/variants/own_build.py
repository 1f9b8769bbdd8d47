"""Runs models that bring their own inputs, for golden outputs; in the build process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from assay.controller.inspection import golden, inspect
from assay.controller.inspection.reference import open_reference, reference_version
from assay.controller.variants.orders import FILE_UNITS, FileReport, FilesOrder
from assay.controller.variants.own_inputs import Declared, make
from assay.controller.variants.progress import Meter
from assay.controller.variants.publish import MEDIA
from assay.controller.variants.shipping import shipped
from assay.core.dims import Sizes
from assay.core.errors import RuntimeRejected
from assay.core.npz import write_npz
from assay.core.tensors import TensorSpec


def build_own(order: FilesOrder, folder: Path, meter: Meter) -> dict[str, FileReport]:
    """Follows the order; inputs and golden outputs of each file are written into ``folder``."""
    declared = Declared.from_json(order.own_inputs_json)
    reports = {}
    for name in order.sources:
        meter.begin(f"running .{name}", FILE_UNITS)
        reports[name] = _report(name, order, declared, folder, meter)
    return reports


def _report(
    name: str, order: FilesOrder, declared: Declared, folder: Path, meter: Meter
) -> FileReport:
    model = Path(order.sources[name])
    media = MEDIA[name]
    sent, cost = shipped(model, media, folder)
    reference = open_reference(model, media, order.operators)
    own = make(reference.inputs, reference.outputs, declared)
    inputs, kept = folder / f"inputs-{name}.npz", folder / f"golden-{name}.npz"
    write_npz(inputs, own.arrays)
    arithmetic = inspect.precision(model, media)
    try:
        arrays = golden.golden_arrays(
            reference,
            own.arrays,
            arithmetic,
            declared.state,
            lambda done: meter.within(done, golden.SAMPLES),
        )
    except RuntimeRejected as error:
        raise _told_with(own.sizes, error) from error
    write_npz(kept, arrays)
    rtol, atol = arrays["tolerances"].max(axis=0)
    notes = {
        "arithmetic": arithmetic,
        "reference": reference_version(media),
        "inputs": _listed(reference.inputs),
        "outputs": _listed(reference.outputs),
        "dims": str(own.sizes),
        "state": ", ".join(f"{into} = {out}" for into, out in declared.state.items()),
        "golden": f"{len(arrays['output_0'])} samples",
    }
    return FileReport(
        path=str(sent),
        golden=str(kept),
        rtol=float(rtol),
        atol=float(atol),
        parameters=cost.parameters,
        macs=inspect.macs_at(model, media, own.sizes.whole),
        transfer_bytes=cost.transfer_bytes,
        operators=dict(cost.operators),
        notes={key: text for key, text in notes.items() if text},
        inputs=str(inputs),
        dataset=own.dataset,
        made_json=own.made_json,
    )


def _told_with(sizes: Sizes, error: RuntimeRejected) -> RuntimeRejected:
    """The error, with the sizes nobody chose: most such models run at others."""
    if not sizes.proposed:
        return error
    return RuntimeRejected(
        f"the model does not run with {sizes}: set other sizes under [dims] of inputs.toml "
        f"(--inputs). {error}"
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(str(spec) for spec in specs)
