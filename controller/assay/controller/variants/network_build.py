"""Trains and exports one network; runs in a process of its own."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import torch
from torch import nn

from assay.controller.datasets.npz import read_npz
from assay.controller.inspection.bounds import limit_memory
from assay.controller.own_code.load import told_plainly
from assay.controller.variants import export, ncnn
from assay.controller.variants.models import ModelModule, model_module
from assay.controller.variants.orders import (
    EXPORT_UNITS,
    NetworkOrder,
    NetworkReport,
    StoredNetwork,
    step_from_table,
    step_units,
    write_report,
)
from assay.controller.variants.own_model import OwnModule, require_rebuildable
from assay.controller.variants.progress import Meter
from assay.controller.variants.steps import NetworkStep
from assay.controller.variants.steps.base import NetworkWork
from assay.controller.variants.training import Samples, make_deterministic
from assay.core.npz import npz_bytes
from assay.core.preprocess import Preprocessing

WEIGHTS = "weights.npz"
_WRITERS = {"onnx": export.to_onnx, "tflite": export.to_tflite, "ncnn": ncnn.to_ncnn}


def build_network(order: NetworkOrder, folder: Path, meter: Meter) -> NetworkReport:
    """Follows the order; files are written into ``folder``."""
    if order.own is not None:
        limit_memory()
    make_deterministic(order.seed)
    model = model_module(order.model, order.own)
    arrays = read_npz(Path(order.train))
    train = Samples(arrays["x"], arrays["y"], Preprocessing.from_json(order.preprocessing_json))
    example = train.inputs(slice(0, 1))
    notes: dict[str, str] = {}
    if order.trained is not None:
        net, weights = load_network(model, order.trained), ""
    else:
        net, weights = _trained(order, model, train, meter, notes), WEIGHTS
        if isinstance(model, OwnModule):
            require_rebuildable(model, net, example)
        (folder / WEIGHTS).write_bytes(weight_bytes(net))
        # Should an export fail, the training is not lost.
        write_report(folder, NetworkReport(weights, model.describe(net), {}, notes))
    exports = {}
    for name in order.formats:
        meter.begin(f"exporting .{name}", EXPORT_UNITS[name])
        path = folder / f"float.{name}"
        with _told(order, f"exporting .{name}"):
            notes[name] = _WRITERS[name](net, example, path)
        exports[name] = path.name
    return NetworkReport(weights, model.describe(net), exports, notes)


def load_network(model: ModelModule, stored: StoredNetwork) -> nn.Module:
    """A network from its description and its weights, in evaluation mode."""
    net = model.restore(stored.description)
    arrays = read_npz(Path(stored.weights))
    net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return net.eval()


def weight_bytes(net: nn.Module) -> bytes:
    """The weights as an .npz whose bytes depend on them alone."""
    return npz_bytes({name: tensor.numpy() for name, tensor in net.state_dict().items()})


def _trained(
    order: NetworkOrder, model: ModelModule, train: Samples, meter: Meter, notes: dict[str, str]
) -> nn.Module:
    started = time.process_time()
    shape = tuple(train.inputs(slice(0, 1)).shape[1:])
    net = load_network(model, order.base) if order.base else model.fresh(shape, order.classes)
    teacher = load_network(model, order.base) if order.base else None
    work = NetworkWork(net, teacher, model, train, order.seed, meter.within, notes)
    for table in order.steps:
        step = step_from_table(table)
        assert isinstance(step, NetworkStep)
        meter.begin(step.use, step_units(table))
        with _told(order, step.use):
            step.apply(work)
    notes["training_cpu_s"] = f"{time.process_time() - started:.1f}"
    return work.net


def _told(order: NetworkOrder, doing: str) -> contextlib.AbstractContextManager[None]:
    """What goes wrong with a network of the user's own is told as that network's."""
    if order.own is None:
        return contextlib.nullcontext()
    return told_plainly(f"{doing} ({order.model})")
