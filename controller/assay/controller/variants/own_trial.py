"""Tries the user's module before anything is built from it; runs in a process of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from assay.controller.datasets.npz import read_npz
from assay.controller.inspection.bounds import limit_memory
from assay.controller.own_code.load import source_digests, told_plainly
from assay.controller.variants.network_build import weight_bytes
from assay.controller.variants.orders import ModelOrder, ModelReport
from assay.controller.variants.own_model import make
from assay.controller.variants.own_weights import load_weights
from assay.controller.variants.progress import Meter
from assay.controller.variants.training import make_deterministic
from assay.core import digest
from assay.core.errors import BuildFailed
from assay.core.preprocess import Preprocessing

_SAMPLES = 2


def try_model(order: ModelOrder, folder: Path, meter: Meter) -> ModelReport:
    """Imports and calls the factory, loads the weights, and runs two samples."""
    limit_memory()
    make_deterministic(0)
    meter.begin(f"calling {order.reference}", 1)
    net = make(order.reference)
    if order.weights is not None:
        meter.begin(f"loading {Path(order.weights).name}", 1)
        load_weights(net, Path(order.weights))
    meter.begin("running two samples", 1)
    samples = read_npz(Path(order.samples))["x"][:_SAMPLES]
    inputs = Preprocessing.from_json(order.preprocessing_json).apply(samples)
    outputs = _outputs(order, net, torch.from_numpy(inputs))
    _require_classes(order, outputs)
    with told_plainly(f"{order.reference}: reading its weights"):
        state = digest.of_bytes(weight_bytes(net))
    return ModelReport(source_digests(order.reference, _made_of(net)), state)


def _outputs(order: ModelOrder, net: nn.Module, inputs: Tensor) -> Tensor:
    given = "×".join(str(size) for size in inputs.shape)
    doing = f"{order.reference}: forward, given {given} (samples of the dataset, preprocessed),"
    with told_plainly(doing), torch.no_grad():
        outputs = net(inputs)
    if not isinstance(outputs, Tensor):
        raise BuildFailed(
            f"{doing} gave a {type(outputs).__name__}: one tensor is needed; a network of several "
            "outputs can be exported by you and taken by `assay variant add`"
        )
    if outputs.ndim < 1 or len(outputs) != len(inputs):
        raise BuildFailed(
            f"{doing} gave a tensor of shape {tuple(outputs.shape)}: a row per sample is needed"
        )
    return outputs


def _made_of(net: nn.Module) -> set[str]:
    """The modules whose classes the network is made of; torch counts by its version."""
    found = {type(layer).__module__ for layer in net.modules()}
    return {name for name in found if name.partition(".")[0] != "torch"}


def _require_classes(order: ModelOrder, outputs: Tensor) -> None:
    if outputs.ndim == 2 and outputs.shape[1] != order.classes:
        raise BuildFailed(
            f"{order.reference} gives {outputs.shape[1]} values for a sample, but the dataset has "
            f"{order.classes} classes"
        )
