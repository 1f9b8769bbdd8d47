"""The canary: one fixed small artifact that runs in every round.

Its movement over the rounds is the device's drift, not a variant's. A few convolutions and two
dense layers with random weights, 38 M MACs, a little under a millisecond on one x86 core with AVX2;
float only and opset 18, IR 10, so that every runtime of a fleet loads it. Made by
:mod:`assay.controller.canary.make`, kept as package data and pinned by digest. Its golden outputs
carry its inputs (``x``), which need no preprocessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.controller.records import StaticCost, VariantFile, VariantRecord
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import CorruptArtifact
from assay.core.model import (
    MEDIA_NCNN,
    MEDIA_NPZ,
    MEDIA_ONNX,
    MEDIA_TFLITE,
    ArtifactRef,
    GoldenSpec,
)

NAME = "canary"
_FOLDER = Path(__file__).parent
# The day it was made, so that its record is the same everywhere.
_CREATED_NS = 1_795_478_400_000_000_000


@dataclass(frozen=True, slots=True)
class _Pinned:
    """A file of the canary, its golden outputs and its cost, as they must be."""

    name: str
    digest: str
    golden_digest: str
    rtol: float
    atol: float
    cost: StaticCost


PINNED: Mapping[str, _Pinned] = {
    MEDIA_ONNX: _Pinned(
        "canary.onnx",
        "sha256:c70b9425d8ca56101ac0da8d362fcd5d13327b32af6fb930e11ef32e2551e52d",
        "sha256:32e393abd5b99221f9c7ace3b55f23283ad21bf6a22b38383651638a69c43463",
        1e-3,
        2.354e-4,
        StaticCost(
            parameters=67_424,
            macs=38_168_384,
            file_bytes=272_728,
            transfer_bytes=251_397,
            operators={"AveragePool": 1, "Conv": 5, "Gemm": 2, "Relu": 6, "Reshape": 1},
        ),
    ),
    MEDIA_TFLITE: _Pinned(
        "canary.tflite",
        "sha256:b43287d655e5a2365b103f4bffe052a291b873f1a62436893676d802a8b867db",
        "sha256:52f6cb4c4fe787c604b51d4ff0eaf5a309130ff2ca7c2232987128ac6dff5952",
        1e-3,
        2.354e-4,
        StaticCost(
            parameters=67_504,
            macs=38_168_384,
            file_bytes=276_144,
            transfer_bytes=251_723,
            operators={
                "AVERAGE_POOL_2D": 1,
                "CONV_2D": 4,
                "DEPTHWISE_CONV_2D": 1,
                "FULLY_CONNECTED": 2,
                "PAD": 2,
                "RESHAPE": 2,
                "TRANSPOSE": 1,
            },
        ),
    ),
    MEDIA_NCNN: _Pinned(
        "canary.ncnn",
        "sha256:d9912e28c3bccfa7b75aac13dae9cd844db68adf88247133618997648e423f4e",
        "sha256:47f094045f6849868a06edb6bfc303092ddbe079472b77ae4859f5374daa742c",
        1e-3,
        2.354e-4,
        StaticCost(
            parameters=67_424,
            macs=None,
            file_bytes=271_197,
            transfer_bytes=250_201,
            operators={"Convolution": 5, "InnerProduct": 2, "Pooling": 1, "Reshape": 1},
        ),
    ),
}


def canary_variant(blobs: ContentStore, folder: Path = _FOLDER) -> VariantRecord:
    """The canary's record, its files held in ``blobs``; needs no runtime.

    :class:`CorruptArtifact` where an installed file is not the pinned one.
    """
    identity = {"canary": {media: pinned.digest for media, pinned in sorted(PINNED.items())}}
    return VariantRecord(
        variant_id=digest.of_json(identity),
        name=NAME,
        model=NAME,
        dataset=NAME,
        origin="package",
        identity=identity,
        files={media: _file(blobs, folder, media, pinned) for media, pinned in PINNED.items()},
        notes={"summary": "The same everywhere and always: it moves only with the device"},
        created_ns=_CREATED_NS,
    )


def _file(blobs: ContentStore, folder: Path, media: str, pinned: _Pinned) -> VariantFile:
    artifact = _hold(blobs, folder / pinned.name, pinned.digest, media)
    golden = _hold(blobs, folder / f"{pinned.name}.golden.npz", pinned.golden_digest, MEDIA_NPZ)
    return VariantFile(artifact, pinned.cost, GoldenSpec(golden, pinned.rtol, pinned.atol))


def _hold(blobs: ContentStore, path: Path, wanted: str, media: str) -> ArtifactRef:
    if blobs.has(wanted):
        return ArtifactRef(wanted, blobs.path(wanted).stat().st_size, media)
    if not path.is_file() or digest.of_file(path) != wanted:
        raise CorruptArtifact(f"{path} is not the canary of this version: reinstall assay-fleet")
    return blobs.add_file(path, media)
