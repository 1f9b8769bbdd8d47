"""Variants from recipes, end to end: real training, export, quantisation, in real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from assay.controller.datasets.base import RawDataset, silent
from assay.controller.datasets.splits import publish
from assay.controller.home import Home
from assay.controller.inspection import golden
from assay.controller.records import DatasetRecord, VariantRecord
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.variants import build as building
from assay.controller.variants import build_variants
from assay.controller.variants.index import BuildIndex
from assay.controller.variants.orders import (
    FilesOrder,
    NetworkOrder,
    NetworkReport,
    write_report,
)
from assay.controller.variants.process import BuildProcesses, OnLine
from assay.controller.variants.recipe import load_recipe
from assay.core.cas import ContentStore
from assay.core.errors import BadInputs, BuildFailed, SpecError
from assay.core.model import MEDIA_ONNX, MEDIA_TFLITE
from tests.conftest import need

FP32 = """
name = "tiny-fp32"
model = "resnet8-fashion"
formats = ["onnx", "tflite"]
[[steps]]
use = "train"
samples = 640
batch = 32
"""
CHILD = """
name = "tiny-{name}"
model = "resnet8-fashion"
base = "fp32.toml"
formats = {formats}
[[steps]]
{step}
"""
RECIPES = {
    "fp32": FP32,
    "int8": CHILD.format(
        name="int8", formats=["onnx", "tflite"], step='use = "int8_static"\nsamples = 16'
    ),
    "half": CHILD.format(name="half", formats=["onnx"], step='use = "fp16"'),
    "impossible": CHILD.format(
        name="impossible", formats=["onnx"], step='use = "prune"\nmacs_ratio = 0.01'
    ),
    "dynamic": CHILD.format(name="dynamic", formats=["onnx"], step='use = "int8_dynamic"'),
}


def small_dataset() -> RawDataset:
    """Two kinds of images that are easy to tell apart."""
    generator = np.random.RandomState(0)
    y = np.arange(400) % 2
    x = generator.randint(0, 80, (400, 8, 8)).astype(np.uint8)
    x[y == 1, :, 4:] += 120
    labels = y.astype(np.int64)
    json_text = '{"shape": [1, 8, 8], "scale": 0.0039, "mean": 0.25, "std": 0.2}'
    return RawDataset(
        "tiny", "made", ("a", "b"), json_text, x[:300], labels[:300], x[300:], labels[300:]
    )


@dataclass
class Bench:
    """A home with the small dataset, recipes in a folder, and what progress said."""

    home: Home
    recipes: Path
    store: Store
    blobs: ContentStore
    dataset: DatasetRecord
    said: list[tuple[str, int, int, str]] = field(default_factory=list)

    def build(self, *names: str) -> list[VariantRecord]:
        self.said.clear()
        return build_variants(
            [self.recipes / f"{name}.toml" for name in names],
            self.dataset,
            self.store,
            self.blobs,
            lambda *event: self.said.append(event),
            jobs=1,
        )

    def notes(self) -> set[str]:
        return {note for _, _, _, note in self.said}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("variants")
    recipes = folder / "recipes"
    recipes.mkdir()
    for name, text in RECIPES.items():
        (recipes / f"{name}.toml").write_text(text)
    home = Home(folder / "home")
    store, blobs = open_store(home), ContentStore(home.artifacts)
    dataset = publish(small_dataset(), blobs, 1, silent)
    store.add_dataset(dataset)
    yield Bench(home, recipes, store, blobs, dataset)
    store.close()


@pytest.fixture(scope="module")
def built(bench: Bench) -> list[VariantRecord]:
    """The float and the int8 variant, trained and exported here, once for all tests."""
    for module in ("torch", "onnxslim", "onnxscript", "onnxruntime"):
        need(module=module)
    need(module="litert_torch")
    need(module="ai_edge_quantizer")
    records = bench.build("fp32", "int8")
    assert {"train", "exporting .onnx", "exporting .tflite", "finishing .onnx"} <= bench.notes()
    assert_totals_grow(bench)
    return records


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if "assay.controller.variants.child" in child.cmdline()
    ]


@pytest.mark.slow
def test_every_variant_has_both_files_with_their_golden_outputs(
    bench: Bench, built: list[VariantRecord]
) -> None:
    assert [record.name for record in built] == ["tiny-fp32", "tiny-int8"]
    for record in built:
        assert bench.store.variant(record.variant_id) == record
        assert set(record.files) == {MEDIA_ONNX, MEDIA_TFLITE}
        for media in record.files:
            assert_golden_holds(bench, record, media)
            assert_accurate(record, media)
    fp32, int8 = (record.files[MEDIA_ONNX].cost for record in built)
    assert fp32.macs == int8.macs == built[0].files[MEDIA_TFLITE].cost.macs
    assert int8.file_bytes < 0.5 * fp32.file_bytes


@pytest.mark.slow
def test_onnx_files_can_be_read_by_devices_and_say_nothing_of_this_machine(
    bench: Bench, built: list[VariantRecord]
) -> None:
    import onnx

    for record in built:
        path = bench.blobs.path(record.files[MEDIA_ONNX].artifact.digest)
        model = onnx.load(path)
        assert model.ir_version <= 11
        assert all(o.version <= 20 for o in model.opset_import if o.domain == "")
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


@pytest.mark.slow
def test_what_is_built_is_not_built_again(bench: Bench, built: list[VariantRecord]) -> None:
    assert bench.build("fp32", "int8") == built
    assert bench.notes() == {"is there"}


@pytest.mark.system  # for its time: processes of their own that import torch
@pytest.mark.slow
def test_a_lost_file_is_made_again_without_training(
    bench: Bench, built: list[VariantRecord]
) -> None:
    bench.blobs.remove(built[0].files[MEDIA_ONNX].artifact.digest)
    rebuilt = bench.build("fp32")[0]
    assert "train" not in bench.notes() and "exporting .onnx" in bench.notes()
    assert rebuilt.files == built[0].files


@pytest.mark.system
@pytest.mark.slow
def test_a_build_that_fails_stops_no_other_and_is_named(
    bench: Bench, built: list[VariantRecord]
) -> None:
    with pytest.raises(BuildFailed) as caught:
        bench.build("impossible", "half")
    text = str(caught.value)
    assert "tiny-impossible: prune: " in text and "is the least" in text and "half" not in text
    names = {v.name for v in bench.store.variants()}
    assert "tiny-half" in names and "tiny-impossible" not in names
    assert children() == []
    half = bench.store.variant("tiny-half")
    assert_golden_holds(bench, half, MEDIA_ONNX)
    assert half.files[MEDIA_ONNX].cost.macs == built[0].files[MEDIA_ONNX].cost.macs


@pytest.mark.slow
def test_interruption_ends_the_process_and_leaves_nothing_half(
    bench: Bench, built: list[VariantRecord]
) -> None:
    held, names = set(bench.blobs.held()), {v.name for v in bench.store.variants()}

    def interrupt(_name: str, _done: int, _total: int, note: str) -> None:
        if note == "finishing .onnx":
            raise KeyboardInterrupt

    path = bench.recipes / "dynamic.toml"
    with pytest.raises(KeyboardInterrupt):
        build_variants([path], bench.dataset, bench.store, bench.blobs, interrupt)
    assert children() == []
    assert {v.name for v in bench.store.variants()} == names
    assert set(bench.blobs.held()) == held


@pytest.mark.slow
def test_a_changed_recipe_takes_over_the_name(bench: Bench, built: list[VariantRecord]) -> None:
    (bench.recipes / "half.toml").write_text(RECIPES["half"].replace('"fp16"', '"int8_dynamic"'))
    former = bench.build("half")[0]
    (bench.recipes / "half.toml").write_text(RECIPES["half"])
    record = bench.build("half")[0]
    assert record.name == "tiny-half" and record.variant_id != former.variant_id
    assert bench.store.variant(former.variant_id).name.startswith("tiny-half@")


def assert_totals_grow(bench: Bench) -> None:
    for name in ("tiny-fp32", "tiny-int8"):
        done = [d for n, d, t, _ in bench.said if n == name and t > 1]
        totals = {t for n, _, t, _ in bench.said if n == name and t > 1}
        assert done == sorted(done) and len(totals) == 1 and done[-1] == totals.pop()


def assert_golden_holds(bench: Bench, record: VariantRecord, media: str) -> None:
    spec = record.files[media].golden
    assert spec is not None
    kept = np.load(bench.blobs.path(spec.artifact.digest))
    assert kept["x"].shape == (16, 1, 8, 8) and kept["x"].dtype == np.float32
    path = bench.blobs.path(record.files[media].artifact.digest)
    found = golden.reference_runner(path, media)(kept["x"])[0]
    wanted = kept["output_0"]
    assert np.all(np.abs(found - wanted) <= spec.atol + spec.rtol * np.abs(wanted))
    assert wanted.std() > 0


def assert_accurate(record: VariantRecord, media: str) -> None:
    top1, _, of = record.notes[f"{media.partition('/')[2]}.controller_top1"].partition(" of ")
    assert float(top1) > 0.9 and of == "100"


def test_mistakes_in_recipes_are_told_before_anything_is_built(bench: Bench) -> None:
    (bench.recipes / "bad.toml").write_text(FP32.replace("640", "0"))
    with pytest.raises(SpecError, match=r"bad.toml: steps\[0\].samples"):
        bench.build("half", "bad")
    assert bench.said == []


def test_two_recipes_of_one_name_are_refused(bench: Bench) -> None:
    (bench.recipes / "twin.toml").write_text(FP32)
    with pytest.raises(BadInputs, match="tiny-fp32"):
        bench.build("fp32", "twin")


def test_dataset_without_training_samples_is_refused(bench: Bench) -> None:
    only_test = replace(bench.dataset, splits={"test": bench.dataset.splits["test"]})
    with pytest.raises(BadInputs, match="no training samples"):
        build_variants([bench.recipes / "fp32.toml"], only_test, bench.store, bench.blobs)


def test_without_the_converter_the_onnx_file_is_wanted_and_the_reason_kept(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "can_make_tflite", lambda: "litert_torch is not installed")
    blobs = ContentStore(tmp_path)
    builder = building.Builder(
        bench.dataset, bench.store, blobs, BuildIndex(blobs), BuildProcesses()
    )
    plan = builder.plan(load_recipe(bench.recipes / "fp32.toml"))
    assert plan.formats == ("onnx",)
    assert plan.unmade == {"tflite": "not made: litert_torch is not installed"}


class _ExportBreaks(BuildProcesses):
    """A process that has reported its weights when its export takes it down."""

    def run(self, order: NetworkOrder | FilesOrder, folder: Path, on_line: OnLine) -> None:
        (folder / "weights.npz").write_bytes(b"weights")
        write_report(folder, NetworkReport("weights.npz", {"stem": 16}, {}, {"loss": "0.3"}))
        raise BuildFailed("the export crashed")


def test_weights_are_kept_where_an_export_fails(bench: Bench, tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path)
    for ref in bench.dataset.splits.values():
        blobs.add_file(bench.blobs.path(ref.digest), ref.media_type)
    index = BuildIndex(blobs)
    builder = building.Builder(bench.dataset, bench.store, blobs, index, _ExportBreaks())
    recipe = load_recipe(bench.recipes / "fp32.toml")
    task = builder.tasks([builder.plan(recipe)])[0]
    with pytest.raises(BuildFailed, match="the export crashed"):
        task.run(lambda _done, _note: None)
    kept = index.get(task.key)
    assert kept is not None and kept.exports == {} and kept.description == {"stem": 16}
    again = builder.tasks([builder.plan(recipe)])[0]
    assert again.formats == ("onnx", "tflite") and again.units < task.units


def test_heavy_packages_wait_for_the_build_process() -> None:
    heavy = "('torch', 'onnx', 'onnxruntime', 'ai_edge_litert', 'numpy')"
    code = f"import sys, assay.controller.variants; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
