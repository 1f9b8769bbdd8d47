"""Bytes on the wire to a device that holds the baseline, by how a variant was made from it.

    python -m bench.wire.bytes FILE.onnx [--format table|json|csv]

FILE.onnx is a float32 model of convolutions or matrices with trained weights. Each variant is made
of it, offered as the controller offers it (``Encodings.offer``), decoded as an agent decodes it and
compared with its digest. Printed: the chosen encoding, its bytes as a part of the raw file, zstd
alone beside it, and the CPU time and the memory of making and undoing the patch, measured in a
process of their own. Exit status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from assay.controller.blobs.encodings import Encodings, Offer
from assay.controller.blobs.zeros import mask_of
from assay.core.cas import ContentStore
from assay.core.encoding import Encoding, decoded, encode, window_log
from assay.core.listing import print_rows
from assay.core.model import MEDIA_ONNX

TARGETS = {"re-export": 0.01, "head changed": 0.30, "unstructured 80 %": 0.06}
_CHUNK_BYTES = 1 << 20
_MEMORY_BYTES = 1 << 30
_SEED = 20


def main() -> int:
    """Prints a row for each variant; returns the exit status."""
    if sys.argv[1:2] == ["--child"]:
        return _child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--format", choices=["table", "json", "csv"], default="table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-wire-") as folder:
        rows = list(measure(options.model, Path(folder)))
    print_rows(rows, list(rows[0]), options.format)
    missed = [row for row in rows if row["target"] is not None and row["part"] > row["target"]]
    longer = [row for row in rows if row["part"] > row["zstd alone"]]
    return 1 if missed or longer else 0


def measure(model: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """One row per variant of ``model``; files go below ``folder``."""
    content = ContentStore(folder / "content")
    encodings = Encodings(folder / "content")
    base = content.add_file(model, MEDIA_ONNX).digest
    for name, make in variants().items():
        print(f"{name} ...", file=sys.stderr)
        made = folder / "variant.onnx"
        make(model, made)
        digest = content.add_file(made, MEDIA_ONNX).digest
        raw_bytes = made.stat().st_size
        offer = encodings.offer(digest, set(Encoding), [base], _MEMORY_BYTES)
        received = b"".join(_received(encodings, digest, offer, content))
        if hashlib.sha256(received).digest() != hashlib.sha256(made.read_bytes()).digest():
            raise SystemExit(f"error: {name}: what arrives is not what was sent")
        alone = encodings.offer(digest, {Encoding.IDENTITY, Encoding.ZSTD}, [], _MEMORY_BYTES)
        patch = folder / "patch"
        making, undoing = (
            _cost(verb, content.path(digest), patch, content.path(base), offer.encoding)
            for verb in ("make", "undo")
        )
        yield {
            "variant": name,
            "raw MB": round(raw_bytes / 1e6, 2),
            "encoding": offer.encoding.value,
            "part": round(offer.wire_bytes / raw_bytes, 4),
            "zstd alone": round(alone.wire_bytes / raw_bytes, 4),
            "target": TARGETS.get(name),
            "patch CPU s": making["cpu_s"],
            "patch MB": making["memory_mb"],
            "unpatch CPU s": undoing["cpu_s"],
            "unpatch MB": undoing["memory_mb"],
        }


def variants() -> dict[str, Callable[[Path, Path], None]]:
    """How each variant is made: from the model's file, into a file."""
    made: dict[str, Callable[[Path, Path], None]] = {
        "re-export": _re_exported,
        "head changed": _changed(_new_head),
    }
    for part in (0.5, 0.7, 0.8, 0.9):
        made[f"unstructured {part:.0%}".replace("%", " %")] = _changed(_sparse(part))
    made["int8 per tensor"] = _int8(per_channel=False)
    made["int8 per channel"] = _int8(per_channel=True)
    made["fp16"] = _half
    made["pruned channels, fine-tuned"] = _changed(_tuned)
    return made


def _received(
    encodings: Encodings, digest: str, offer: Offer, content: ContentStore
) -> Iterator[bytes]:
    size_bytes = content.path(digest).stat().st_size
    if offer.encoding is Encoding.IDENTITY:
        yield content.path(digest).read_bytes()
        return
    sent = encodings.read(digest, offer.encoding, offer.base, 0)
    base = content.path(offer.base) if offer.base else None
    masked = offer.encoding is Encoding.ZSTD_MASKED_PATCH
    yield from decoded(sent, size_bytes, offer.window_log, base, masked=masked)


def _cost(verb: str, target: Path, patch: Path, base: Path, encoding: Encoding) -> dict[str, float]:
    """CPU seconds and MB of memory beyond an idle interpreter's, in a process of its own."""
    command = [sys.executable, "-m", "bench.wire.bytes", "--child", verb]
    done = subprocess.run(
        [*command, str(target), str(patch), str(base), encoding.value],
        check=True,
        capture_output=True,
        text=True,
    )
    return cast("dict[str, float]", json.loads(done.stdout))


def _child(verb: str, target: str, patch: str, base: str, encoding: str) -> int:
    masked = encoding == Encoding.ZSTD_MASKED_PATCH.value
    # ru_maxrss would hold the parent's memory too.
    Path("/proc/self/clear_refs").write_text("5")
    idle_kib = _peak_kib()
    before = time.process_time()
    if verb == "make":
        mask = mask_of(Path(base), Path(target)) if masked else None
        encode(Path(target), Path(patch), Path(base), mask)
    else:
        size_bytes = Path(target).stat().st_size
        window = window_log(size_bytes, Path(base).stat().st_size)
        with Path(patch).open("rb") as file:
            chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
            for _piece in decoded(chunks, size_bytes, window, Path(base), masked=masked):
                pass
    spent = time.process_time() - before
    grown = _peak_kib() - idle_kib
    print(json.dumps({"cpu_s": round(spent, 2), "memory_mb": round(grown * 1024 / 1e6)}))
    return 0


def _peak_kib() -> int:
    """The most memory this process has held since it was last asked to forget."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def _re_exported(source: Path, target: Path) -> None:
    """The same weights under other names, in another order, with another producer."""
    model = onnx.load(str(source))
    graph = model.graph
    names = {tensor.name: f"weights.{index}" for index, tensor in enumerate(graph.initializer)}
    weights = [tensor for tensor in graph.initializer][::-1]
    for tensor in weights:
        tensor.name = names[tensor.name]
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    model.producer_name = "another exporter"
    onnx.save(model, str(target))


def _changed(change: Callable[[list[NDArray[np.float32]]], None]) -> Callable[[Path, Path], None]:
    """``change`` gets the weights of convolutions and matrices, in the order of the file."""

    def make(source: Path, target: Path) -> None:
        model = onnx.load(str(source))
        kept = [
            tensor
            for tensor in model.graph.initializer
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2
        ]
        arrays = [numpy_helper.to_array(tensor).copy() for tensor in kept]
        change(arrays)
        for tensor, array in zip(kept, arrays, strict=True):
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        onnx.save(model, str(target))

    return make


def _new_head(arrays: list[NDArray[np.float32]]) -> None:
    """The last matrix, trained anew: nothing of it is left."""
    head = [array for array in arrays if array.ndim == 2][-1]
    head[...] = np.random.default_rng(_SEED).normal(0, head.std(), head.shape)


def _sparse(part: float) -> Callable[[list[NDArray[np.float32]]], None]:
    def change(arrays: list[NDArray[np.float32]]) -> None:
        for array in arrays:
            array[np.abs(array) < np.quantile(np.abs(array), part)] = 0

    return change


def _tuned(arrays: list[NDArray[np.float32]]) -> None:
    """A third of each layer's outputs is nought, what is left was trained on."""
    random = np.random.default_rng(_SEED)
    for array in arrays:
        array += random.normal(0, 0.01 * array.std(), array.shape).astype(np.float32)
        strength = np.abs(array).sum(axis=tuple(range(1, array.ndim)))
        array[strength < np.quantile(strength, 1 / 3)] = 0


def _int8(*, per_channel: bool) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        quantize_dynamic(
            str(source), str(target), per_channel=per_channel, weight_type=QuantType.QInt8
        )

    return make


def _half(source: Path, target: Path) -> None:
    """Weights in float16, each cast back where it is used."""
    model = onnx.load(str(source))
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims:
            continue
        name = tensor.name
        array = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(array, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=1))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


if __name__ == "__main__":
    sys.exit(main())
