"""Every decoder of bytes that come from outside, as one call, with inputs worth trying first.

Each ``read`` takes the bytes and an empty directory; it may raise errors of Assay's own tree and
nothing else.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.agent.plane.spool import Key, Spool
from assay.controller.identity.certificates import check_request
from assay.controller.planning.spec import load_spec
from assay.controller.variants.inputs_file import load_inputs
from assay.controller.variants.recipe import load_recipe
from assay.core import bundle, dsse, statement
from assay.core.convert import from_bytes, to_bytes
from assay.core.encoding import decoded, encode, window_log
from assay.core.mask import Mask, Span
from assay.core.model import Result, Round
from assay.core.npz import npz_bytes
from assay.core.token import JoinToken
from assay.core.trace import read_trace
from tests.plane import queued, result, run

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[2] / "docs" / "examples"
_BASE = bytes(range(256)) * 16
_DATA = _BASE[:2000] + b"something else" + _BASE[2000:]
_MASK = Mask((Span(1, 30), Span(2_500, 8)), bytes(range(5)))

Read = Callable[[bytes, Path], object]
Seeds = Callable[[], Mapping[str, bytes]]


@dataclass(frozen=True, slots=True)
class Decoder:
    """What reads, and what ``record`` writes into its folder of the corpus."""

    read: Read
    seeds: Seeds

    def corpus(self, name: str) -> list[tuple[str, bytes]]:
        """Its kept inputs, by name."""
        return [(path.name, path.read_bytes()) for path in sorted((HERE / name).iterdir())]


def _spool(data: bytes, folder: Path) -> None:
    path = folder / "spool"
    path.write_bytes(data)
    for _ in range(2):  # what it leaves must open again
        spool = Spool(path, 1 << 20, lambda: 1 << 30)
        for entry in spool.entries:
            assert len(spool.read(entry)) == entry.length
        spool.append(Key("one more", 1), b"body")
        spool.close()


def _spool_seeds() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        spool = Spool(path, 1 << 20, lambda: 1 << 30)
        for number in range(3):
            spool.append(Key(f"attempt {number}", number), b"body" * number)
        spool.remove([Key("attempt 1", 1)])
        spool.close()
        return {"three": path.read_bytes(), "empty": b""}


def _zstd(data: bytes, folder: Path) -> None:
    for _ in decoded([data[:7], data[7:]], len(_DATA), window_log(len(_DATA))):
        pass


def _patch(data: bytes, folder: Path) -> None:
    base = folder / "base"
    base.write_bytes(_BASE)
    for _ in decoded([data], len(_DATA), window_log(len(_DATA), len(_BASE)), base):
        pass


def _masked(data: bytes, folder: Path) -> None:
    base = folder / "base"
    base.write_bytes(_BASE)
    window = window_log(len(_DATA), len(_BASE))
    for _ in decoded([data[:9], data[9:]], len(_DATA), window, base, masked=True):
        pass


def _frame(base: bytes | None, mask: Mask | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target, below = (Path(folder) / name for name in ("source", "target", "base"))
        source.write_bytes(_DATA)
        below.write_bytes(base or b"")
        encode(source, target, None if base is None else below, mask)
        return target.read_bytes()


def _bundle(data: bytes, folder: Path) -> None:
    file, target = folder / "bundle", folder / "target"
    file.write_bytes(data)
    target.mkdir()
    if bundle.is_bundle(file):
        bundle.unpack(file, target)
    outside = [path for path in folder.iterdir() if path not in (file, target)]
    assert outside == [], "nothing is written beside the folder"


def _bundle_seeds() -> Mapping[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        model, weights, target = (Path(name) / each for each in ("model", "weights", "bundle"))
        model.write_bytes(b"model")
        weights.write_bytes(b"weights" * 9)
        bundle.pack(target, model, {"part/weights.bin": weights})
        whole = target.read_bytes()
    return {"two": whole, "out": _zip("model.onnx", "../out"), "deep": _zip("model.onnx", "a/b")}


def _zip(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


def _trace(data: bytes, folder: Path) -> None:
    path = folder / "trace.npz"
    path.write_bytes(data)
    read_trace(path)


def _trace_seeds() -> Mapping[str, bytes]:
    import numpy as np

    arrays = {
        "version": np.array(1),
        "latency_ns": np.arange(5, dtype=np.int64),
        "series/power/t_ns": np.arange(3, dtype=np.int64),
        "series/power/value": np.arange(3, dtype=np.float64),
    }
    return {"small": npz_bytes(arrays), "empty": npz_bytes({})}


def _envelope(data: bytes, folder: Path) -> None:
    # The payload too, as if its signature had held.
    statement.decode(dsse.decode(data).payload)


def _envelope_seeds() -> Mapping[str, bytes]:
    named = (statement.NamedArtifact(run().artifact, "fp32"),)
    payload = statement.encode(statement.Statement(named, "2026-01-01T00:00:00Z", "a release"))
    signature = dsse.Signature(bytes(range(64)), "0" * 64)
    return {"one": dsse.encode(dsse.Envelope(statement.PAYLOAD_TYPE, payload, (signature,)))}


def _file(load: Callable[[Path], object], name: str) -> Read:
    def read(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(data)
        load(path)

    return read


def _written(*paths: Path) -> Seeds:
    return lambda: {path.stem: path.read_bytes() for path in paths}


def _recipes() -> Iterable[Path]:
    import assay.controller.demo_model as package

    return sorted((Path(package.__file__).parent / "recipes").glob("*.toml"))[:4]


def _messages() -> Mapping[str, bytes]:
    granted = _granted()
    return {"result": to_bytes(result(granted)), "round": to_bytes(granted)}


def _granted() -> Round:
    runs = tuple(run(name, f"r0.1.{name}") for name in ("fp32", "int8"))
    return Round("r0", "s1", "sweep", queued().index, 1, 10**9, runs)


DECODERS: Mapping[str, Decoder] = {
    "spool": Decoder(_spool, _spool_seeds),
    "zstd": Decoder(_zstd, lambda: {"frame": _frame(None)}),
    "patch": Decoder(_patch, lambda: {"frame": _frame(_BASE)}),
    "masked": Decoder(_masked, lambda: {"frames": _frame(_BASE, _MASK), "mask": _MASK.to_bytes()}),
    "bundle": Decoder(_bundle, _bundle_seeds),
    "trace": Decoder(_trace, _trace_seeds),
    "envelope": Decoder(_envelope, _envelope_seeds),
    "token": Decoder(
        lambda data, _: JoinToken.parse(data.decode(errors="replace")),
        lambda: {"good": f"assay1.{'0' * 8}.{'1' * 32}.{'2' * 64}\n".encode()},
    ),
    "request": Decoder(lambda data, _: check_request(data), lambda: {"csr": _csr()}),
    "result": Decoder(lambda data, _: from_bytes(data, Result), _messages),
    "round": Decoder(lambda data, _: from_bytes(data, Round), _messages),
    "inputs": Decoder(_file(load_inputs, "inputs.toml"), _written(EXAMPLES / "inputs.toml")),
    "sweep": Decoder(_file(load_spec, "sweep.toml"), _written(EXAMPLES / "sweep.toml")),
    "recipe": Decoder(_file(load_recipe, "recipe.toml"), lambda: _written(*_recipes())()),
}


def _csr() -> bytes:
    from tests.plane_client import Key as DeviceKey

    return DeviceKey().request()
