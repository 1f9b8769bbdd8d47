"""The canary: the same everywhere and always."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from assay.controller import canary
from assay.controller.canary import PINNED, canary_variant
from assay.controller.inspection import golden, inspect
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import CorruptArtifact
from assay.core.model import MEDIA_NCNN, MEDIA_ONNX, MEDIA_TFLITE
from tests.conftest import need

FOLDER = Path(canary.__file__).parent
MODULES = {MEDIA_ONNX: "onnxruntime", MEDIA_TFLITE: "ai_edge_litert", MEDIA_NCNN: "ncnn"}


def test_its_files_and_golden_outputs_are_held_and_small(tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path)
    record = canary_variant(blobs)
    assert record.name == "canary" and set(record.files) == {MEDIA_ONNX, MEDIA_TFLITE, MEDIA_NCNN}
    for file in record.files.values():
        assert file.golden is not None
        assert blobs.has(file.golden.artifact.digest)
        path = blobs.path(file.artifact.digest)
        assert digest.of_file(path) == file.artifact.digest
        assert file.artifact.size_bytes == path.stat().st_size == file.cost.file_bytes <= 300_000


def test_record_is_the_same_every_time(tmp_path: Path) -> None:
    first = canary_variant(ContentStore(tmp_path / "a"))
    assert canary_variant(ContentStore(tmp_path / "b")) == first
    assert canary_variant(ContentStore(tmp_path / "a")) == first
    assert digest.is_digest(first.variant_id)


@pytest.mark.parametrize("media", sorted(PINNED))
def test_pinned_cost_is_what_the_file_costs(media: str) -> None:
    need(module="onnx")
    need(module="ai_edge_litert")
    pinned = PINNED[media]
    found = inspect.static_cost(FOLDER / pinned.name, media)
    # zstd's output may change with its version; the rest follows from the file.
    assert abs(found.transfer_bytes - pinned.cost.transfer_bytes) < 2_000
    assert (found.parameters, found.macs, found.operators) == (
        pinned.cost.parameters,
        pinned.cost.macs,
        pinned.cost.operators,
    )


@pytest.mark.parametrize("media", sorted(PINNED))
def test_runtime_gives_the_golden_outputs(media: str) -> None:
    need(module=MODULES[media])
    pinned = PINNED[media]
    kept = np.load(FOLDER / f"{pinned.name}.golden.npz")
    found = golden.reference_runner(FOLDER / pinned.name, media)(kept["x"])[0]
    wanted = kept["output_0"]
    assert np.all(np.abs(found - wanted) <= pinned.atol + pinned.rtol * np.abs(wanted))
    assert wanted.std() > 0.1


def test_all_formats_compute_the_same() -> None:
    first, *others = (np.load(FOLDER / f"{p.name}.golden.npz") for p in PINNED.values())
    for other in others:
        np.testing.assert_array_equal(first["x"], other["x"])
        np.testing.assert_allclose(first["output_0"], other["output_0"], rtol=1e-4, atol=1e-5)


def test_old_runtimes_load_it() -> None:
    need(module="onnx")
    import onnx

    model = onnx.load(FOLDER / "canary.onnx")
    assert model.ir_version <= 11
    assert [(o.domain, o.version <= 20) for o in model.opset_import] == [("", True)]


def test_altered_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "canary.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptArtifact, match="reinstall"):
        canary_variant(ContentStore(tmp_path / "blobs"), folder)
