"""An ncnn file in plain ncnn, one thread, float32: its golden outputs, and the converter's check.

``python -m assay.controller.inspection.ncnn_reference FILE INPUTS.npz OUTPUTS.npz`` runs one sample
in a process of its own, because a net that was converted wrongly may end its process by a signal.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import AssayError, BadInputs, BadMessage, RuntimeAbsent, RuntimeRejected
from assay.core.ncnn_file import NcnnFile, unpack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


def reference_runner(path: Path) -> Callable[[NDArray[np.float32]], list[NDArray[Any]]]:
    """Model inputs (N, ...) → one array (N, ...) per output, for a file with one input.

    :class:`RuntimeAbsent` where ncnn is not installed, :class:`RuntimeRejected` where it refuses
    the file; the runner raises :class:`BadInputs` where samples do not fit.
    """
    import numpy as np

    file = read(path)
    if len(file.inputs) != 1 or not file.inputs[0].batched:
        listed = ", ".join(f"{one.name} {one.shape}" for one in file.inputs)
        raise BadInputs(f"{path.name}: one input with a batch is needed; it has {listed}")
    (wanted,) = file.inputs
    infer = loaded(file)

    def run(x: NDArray[np.float32]) -> list[NDArray[Any]]:
        if x.shape[1:] != wanted.inner_shape:
            raise BadInputs(
                f"{path.name}: its input is {wanted.inner_shape}, but samples of the dataset are "
                f"{x.shape[1:]} after preprocessing"
            )
        rows = [infer({wanted.name: x[i : i + 1]}) for i in range(len(x))]
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

    return run


def read(path: Path) -> NcnnFile:
    """The file; :class:`RuntimeRejected` where it is none."""
    try:
        return unpack(path.read_bytes())
    except BadMessage as error:
        raise RuntimeRejected(f"{path.name}: {error}") from error


def loaded(file: NcnnFile) -> Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]:
    """The net, ready to compute; inputs by name and of the model's shapes, outputs in order."""
    import numpy as np

    try:
        import ncnn
    except ImportError as error:
        raise RuntimeAbsent(
            f"ncnn is not usable here ({error}): pip install 'assay-fleet[variants-ncnn]'"
        ) from error
    net = ncnn.Net()
    net.opt.num_threads = 1
    for name in _HALF:
        setattr(net.opt, name, False)
    with tempfile.TemporaryDirectory() as folder:
        param, weights = Path(folder, "model.param"), Path(folder, "model.bin")
        param.write_bytes(file.param)
        weights.write_bytes(file.bin)
        if net.load_param(str(param)) or net.load_model(str(weights)):
            raise RuntimeRejected("ncnn does not load the net: it holds a layer unknown to it")

    def infer(feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        extractor = net.create_extractor()
        for one in file.inputs:
            array = np.ascontiguousarray(feed[one.name].reshape(one.inner_shape), dtype=np.float32)
            # Cloned: a Mat made of an array does not keep it alive.
            if extractor.input(one.blob, ncnn.Mat(array).clone()):
                raise RuntimeRejected(f"ncnn has no input {one.blob}")
        outputs = []
        for one in file.outputs:
            status, mat = extractor.extract(one.blob)
            if status:
                raise RuntimeRejected(f"ncnn cannot compute {one.blob} (status {status})")
            array = np.array(mat, dtype=np.float32)
            if array.size != np.prod(one.shape):
                raise RuntimeRejected(f"ncnn gives {one.name} as {array.shape}, not {one.shape}")
            outputs.append(array.reshape(one.shape))
        return outputs

    return infer


def main(file: str, inputs: str, outputs: str) -> int:
    """The child: status 2 with the reason on stderr where the net is refused."""
    import numpy as np

    try:
        with np.load(inputs) as feed:
            found = loaded(read(Path(file)))(dict(feed))
    except AssayError as error:
        print(error, file=sys.stderr)
        return 2
    np.savez(outputs, *found)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
