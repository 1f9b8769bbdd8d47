"""An ncnn model as one file: its param and bin, and what neither of them says.

ncnn knows no batch, no input names of people and no types: a zip, stored and with fixed times, so
that the same model is the same bytes, holds ``model.json`` beside ``model.param`` and
``model.bin``. Reference: docs/runtimes.md.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from typing import Any

from assay.core.errors import BadMessage

VERSION = 1
_MEMBERS = ("model.json", "model.param", "model.bin")
_TIME = (1980, 1, 1, 0, 0, 0)
_MAX_BYTES = 1 << 31


@dataclass(frozen=True, slots=True)
class NcnnTensor:
    """An input or output: ``name`` is the model's, ``blob`` ncnn's; ``shape`` is the model's, with
    a batch of 1 that ncnn does not see where ``batched``. Always float32."""

    name: str
    blob: str
    shape: tuple[int, ...]
    batched: bool

    @property
    def inner_shape(self) -> tuple[int, ...]:
        """The shape ncnn sees."""
        return self.shape[1:] if self.batched else self.shape


@dataclass(frozen=True, slots=True)
class NcnnFile:
    """``weights`` is the type they are stored in (float32 or float16), ``tool`` what converted."""

    param: bytes
    bin: bytes
    inputs: tuple[NcnnTensor, ...]
    outputs: tuple[NcnnTensor, ...]
    weights: str = "float32"
    tool: str = ""


def pack(model: NcnnFile) -> bytes:
    """The file; equal models give equal bytes."""
    told = {
        "version": VERSION,
        "inputs": [asdict(one) for one in model.inputs],
        "outputs": [asdict(one) for one in model.outputs],
        "weights": model.weights,
        "tool": model.tool,
    }
    described = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in zip(_MEMBERS, (described, model.param, model.bin), strict=True):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, content)
    return out.getvalue()


def unpack(content: bytes) -> NcnnFile:
    """The model in a file of :func:`pack`; :class:`BadMessage` for anything else, checksums
    included."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            described, param, weights = (_member(archive, name) for name in _MEMBERS)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, OSError) as error:
        raise BadMessage(f"not an ncnn model of Assay: {error}") from error
    try:
        told = json.loads(described)
        if told["version"] != VERSION:
            raise BadMessage(f"an ncnn model of version {told['version']}; {VERSION} is known")
        return NcnnFile(
            param,
            weights,
            tuple(_tensor(one) for one in told["inputs"]),
            tuple(_tensor(one) for one in told["outputs"]),
            str(told["weights"]),
            str(told["tool"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadMessage(f"not an ncnn model of Assay: model.json: {error}") from error


def layers(param: bytes) -> tuple[str, ...]:
    """The types of a param file's layers, inputs left out; :class:`BadMessage` for no such file."""
    lines = param.decode("utf-8", "replace").split("\n")
    if len(lines) < 2 or lines[0].strip() != "7767517":
        raise BadMessage("not an ncnn param file: its first line is not 7767517")
    kinds = [line.split()[0] for line in lines[2:] if line.strip()]
    return tuple(kind for kind in kinds if kind != "Input")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MAX_BYTES:
        raise BadMessage(f"not an ncnn model of Assay: {name} is compressed or too large")
    return archive.read(info)


def _tensor(raw: dict[str, Any]) -> NcnnTensor:
    shape = tuple(int(size) for size in raw["shape"])
    if not 1 <= len(shape) <= 5 or min(shape) < 1 or (raw["batched"] and shape[0] != 1):
        raise ValueError(f"{raw['name']} has the shape {shape}")
    return NcnnTensor(str(raw["name"]), str(raw["blob"]), shape, bool(raw["batched"]))
