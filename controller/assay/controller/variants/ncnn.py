"""From ONNX or TorchScript to an ncnn file, through pnnx, believed only after a comparison.

pnnx ends with status 0 on operators it does not know, and ncnn may then refuse the net, or compute
something else. So the result is loaded and compared with onnxruntime on the same inputs, in a
process of its own; where that fails, TorchScript is tried; where that fails too, the build fails
and says what was seen. Its binary needs no torch and is run directly.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BuildFailed
from assay.core.ncnn_file import NcnnFile, NcnnTensor, pack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

_PNNX_S = 300.0
_CHECK_S = 120.0
# Of the largest output; see assay.controller.inspection.golden.tolerance for float32.
_MAX_SHARE = 1e-3
_SEED = 11


@dataclass(frozen=True, slots=True)
class _Signature:
    """A model's inputs and outputs as (name, shape), an open batch taken as 1, and what it gives
    for one seeded sample."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    feed: dict[str, NDArray[np.float32]]
    wanted: list[NDArray[Any]]


def to_ncnn(net: nn.Module, example: Tensor, path: Path) -> str:
    """Writes ``net`` for one sample at a time as one file and returns what was written."""
    from assay.controller.variants import export

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        export.to_onnx(net, example, source)
        return convert(source, path, lambda to: _trace(net, example, to))


def convert(source: Path, path: Path, torchscript: Callable[[Path], None] | None = None) -> str:
    """Converts an ONNX file to ``path`` and returns how, for people.

    ``torchscript`` writes the same model as TorchScript, for where the ONNX form is not understood.
    :class:`BuildFailed` where neither way gives what onnxruntime gives, with the reason of each.
    """
    signature = _signature(source)
    reasons = []
    for way in ("onnx", "torchscript"):
        if way == "torchscript" and torchscript is None:
            continue
        try:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder, "model.onnx" if way == "onnx" else "model.pt")
                if torchscript is not None and way == "torchscript":
                    torchscript(copy)
                else:
                    copy.write_bytes(source.read_bytes())
                _pnnx(copy, signature)
                share = _choose(copy, signature, path)
        except BuildFailed as error:
            reasons.append(f"from {way}: {error}")
            continue
        return f"batch 1, pnnx {metadata.version('pnnx')} from {way}, off by {share:.1g}"
    raise BuildFailed(f"no ncnn file of {source.name}: {'; '.join(reasons)}")


def can_make_ncnn() -> str:
    """Why ncnn files cannot be made here; "" where they can."""
    for module in ("pnnx", "ncnn"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed (pip install 'assay-fleet[variants-ncnn]')"
    return ""


def _signature(source: Path) -> _Signature:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    for entry in session.get_inputs():
        open_ = [size for size in entry.shape[1:] if not isinstance(size, int)]
        if entry.type != "tensor(float)" or open_ or not entry.shape:
            raise BuildFailed(
                f"no ncnn file of {source.name}: ncnn takes float32 of fixed shape; its input "
                f"{entry.name} is {entry.type} {entry.shape}"
            )
    inputs = tuple(
        (e.name, tuple(size if isinstance(size, int) else 1 for size in e.shape))
        for e in session.get_inputs()
    )
    rng = np.random.default_rng(_SEED)
    feed = {name: rng.normal(size=shape).astype(np.float32) for name, shape in inputs}
    wanted = session.run(None, feed)
    names = [entry.name for entry in session.get_outputs()]
    outputs = tuple((name, array.shape) for name, array in zip(names, wanted, strict=True))
    return _Signature(inputs, outputs, feed, wanted)


def _pnnx(model: Path, signature: _Signature) -> None:
    """Leaves ``model.ncnn.param`` and ``model.ncnn.bin`` beside ``model``."""
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise BuildFailed(can_make_ncnn())
    shapes = ",".join(f"[{','.join(map(str, shape))}]f32" for _, shape in signature.inputs)
    argv = [str(Path(spec.origin).with_name("pnnx")), model.name, f"inputshape={shapes}", "fp16=0"]
    try:
        done = subprocess.run(
            argv, cwd=model.parent, capture_output=True, timeout=_PNNX_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"pnnx did not end within {_PNNX_S:g} s") from None
    if done.returncode != 0 or not model.with_suffix(".ncnn.param").is_file():
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BuildFailed(f"pnnx ended with {done.returncode}: {said[-1] if said else 'silent'}")


def _choose(model: Path, signature: _Signature, path: Path) -> float:
    """Writes the file that computes what was wanted, and how far it is off at most.

    pnnx tells nowhere whether it took the first axis for a batch, so both are tried.
    """
    reason = "pnnx found no batch and no shape that fits"
    for batched in product(*[_readings(signature.inputs), _readings(signature.outputs)]):
        file = _file(model, signature, *batched)
        path.write_bytes(pack(file))
        try:
            return _compare(path, signature)
        except BuildFailed as error:
            reason = str(error)
    path.unlink(missing_ok=True)
    raise BuildFailed(reason)


def _readings(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[bool, ...]:
    can_batch = all(len(shape) > 1 and shape[0] == 1 for _, shape in tensors)
    return (True, False) if can_batch else (False,)


def _file(model: Path, signature: _Signature, inputs: bool, outputs: bool) -> NcnnFile:
    return NcnnFile(
        model.with_suffix(".ncnn.param").read_bytes(),
        model.with_suffix(".ncnn.bin").read_bytes(),
        tuple(
            NcnnTensor(name, f"in{i}", shape, inputs)
            for i, (name, shape) in enumerate(signature.inputs)
        ),
        tuple(
            NcnnTensor(name, f"out{i}", shape, outputs)
            for i, (name, shape) in enumerate(signature.outputs)
        ),
        tool=f"pnnx {metadata.version('pnnx')}",
    )


def _compare(path: Path, signature: _Signature) -> float:
    """The largest difference from what was wanted, as a share of the largest output."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        feed, found = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(feed, **signature.feed)  # type: ignore[arg-type]
        _infer(path, feed, found)
        with np.load(found) as outputs:
            arrays = [outputs[name] for name in outputs.files]
    pairs = list(zip(arrays, signature.wanted, strict=True))
    share = max(float(np.abs(a - b).max() / (np.abs(b).max() or 1.0)) for a, b in pairs)
    if not share <= _MAX_SHARE:
        raise BuildFailed(f"ncnn's outputs are off by {share:.3g} of the largest")
    return share


def _infer(path: Path, feed: Path, found: Path) -> None:
    """One sample, in a process that may die of the net."""
    argv = [
        sys.executable,
        "-m",
        "assay.controller.inspection.ncnn_reference",
        *map(str, (path, feed, found)),
    ]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_CHECK_S, check=False)
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"ncnn did not answer within {_CHECK_S:g} s") from None
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        died = f"ncnn died by signal {-done.returncode} of it"
        raise BuildFailed(
            died if done.returncode < 0 else (said[-1] if said else "ncnn refused it")
        )


def _trace(net: nn.Module, example: Tensor, path: Path) -> None:
    import torch

    from assay.controller.variants import export

    with export.quiet(), torch.no_grad():
        torch.jit.trace(net.eval(), example).save(str(path))  # type: ignore[no-untyped-call]
