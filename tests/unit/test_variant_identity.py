"""What makes two builds the same, and where trained networks are found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assay.controller.demo_model import demo_recipes
from assay.controller.own_code.reference import parse_reference
from assay.controller.records import DatasetRecord
from assay.controller.variants import identity, models
from assay.controller.variants.identity import network_id, variant_identity
from assay.controller.variants.index import BuildIndex, TrainedNetwork
from assay.controller.variants.recipe import Recipe, load_recipe
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, ArtifactRef

RECIPES = {path.stem: load_recipe(path) for path in demo_recipes()}


def ref(name: str) -> ArtifactRef:
    return ArtifactRef(digest.of_bytes(name.encode()), len(name), MEDIA_NPZ)


DATASET = DatasetRecord(
    "digits",
    "somewhere",
    ("a", "b"),
    {name: ref(name) for name in ("train", "calibration", "test")},
    {},
    "{}",
    1,
)


def variant_id(recipe: Recipe, dataset: DatasetRecord = DATASET) -> str:
    return digest.of_json(variant_identity(recipe, dataset))


def with_first_step(recipe: Recipe, **changes: object) -> Recipe:
    first = recipe.network_steps[0].model_copy(update=changes)
    return replace(recipe, network_steps=(first, *recipe.network_steps[1:]))


def test_same_recipe_has_the_same_id() -> None:
    again = {path.stem: load_recipe(path) for path in demo_recipes()}
    assert {n: variant_id(r) for n, r in RECIPES.items()} == {
        n: variant_id(r) for n, r in again.items()
    }


def test_every_recipe_of_the_demo_has_an_id_of_its_own() -> None:
    assert len({variant_id(r) for r in RECIPES.values()}) == len(RECIPES)


def test_quantised_variants_share_the_trained_network() -> None:
    fp32 = network_id(RECIPES["fp32"], DATASET)
    for name in ("fp16", "int8-dynamic", "int8-static", "int8-static-reduced"):
        assert network_id(RECIPES[name], DATASET) == fp32
    for name in ("control", "pruned", "tucker2", "student", "depthwise"):
        assert network_id(RECIPES[name], DATASET) != fp32


def test_a_changed_step_of_the_base_changes_what_starts_from_it() -> None:
    pruned = RECIPES["pruned"]
    assert pruned.base is not None
    other = replace(pruned, base=with_first_step(pruned.base, samples=7))
    assert network_id(other, DATASET) != network_id(pruned, DATASET)
    assert variant_id(other) != variant_id(pruned)


@pytest.mark.parametrize(
    "changed",
    [
        replace(DATASET, splits={**DATASET.splits, "train": ref("more")}),
        replace(DATASET, classes=("a", "b", "c")),
        replace(DATASET, preprocessing_json='{"scale": 2}'),
    ],
)
def test_other_training_data_is_another_network(changed: DatasetRecord) -> None:
    assert network_id(RECIPES["fp32"], changed) != network_id(RECIPES["fp32"], DATASET)


def test_other_calibration_data_is_another_variant_of_the_same_network() -> None:
    changed = replace(DATASET, splits={**DATASET.splits, "calibration": ref("other")})
    recipe = RECIPES["int8-static"]
    assert network_id(recipe, changed) == network_id(recipe, DATASET)
    assert variant_id(recipe, changed) != variant_id(recipe)


def test_test_data_formats_and_summary_do_not_count() -> None:
    recipe = RECIPES["fp32"]
    changed = replace(DATASET, splits={**DATASET.splits, "test": ref("other")}, source="elsewhere")
    assert variant_id(recipe, changed) == variant_id(recipe)
    assert variant_id(replace(recipe, formats=("onnx",), summary="?")) == variant_id(recipe)


def test_seed_counts() -> None:
    recipe = RECIPES["fp32"]
    assert variant_id(replace(recipe, seed=1)) != variant_id(recipe)


def test_tool_and_step_versions_count(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["pruned"]
    before, fp16 = network_id(recipe, DATASET), network_id(RECIPES["fp16"], DATASET)
    versions = {"torch-pruning": "9.9"}
    real = identity.metadata.version
    monkeypatch.setattr(identity.metadata, "version", lambda n: versions.get(n) or real(n))
    after = network_id(recipe, DATASET)
    assert after != before and network_id(RECIPES["fp16"], DATASET) == fp16
    monkeypatch.setattr(type(recipe.network_steps[0]), "version", 2)
    assert network_id(recipe, DATASET) not in (before, after)


def test_build_tag_of_a_wheel_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.metadata, "version", lambda _name: "2.13.0+cpu")
    assert identity.tool_versions(["torch"]) == {"torch": "2.13.0"}


def test_absent_tool_has_an_empty_version() -> None:
    assert identity.tool_versions(["no-such-distribution"]) == {"no-such-distribution": ""}


def test_model_source_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = network_id(RECIPES["fp32"], DATASET)
    monkeypatch.setattr(identity, "source_digest", lambda _name: digest.of_bytes(b"edited"))
    assert network_id(RECIPES["fp32"], DATASET) != before
    assert digest.is_digest(models.source_digest("resnet8-fashion"))


def own(**changes: object) -> Recipe:
    """A recipe of a model of one's own, as it is after its trial."""
    found = {"sources": {"net": "sha256:1"}, "state": "sha256:2", **changes}
    model = models.OwnModel(parse_reference("net:build", []), None)
    return replace(
        RECIPES["fp32"],
        model="net:build",
        own=model,
        tried={"net:build": models.Tried(**found)},  # type: ignore[arg-type]
    )


def test_source_and_weights_of_ones_own_model_count() -> None:
    ids = {
        variant_id(recipe)
        for recipe in (
            own(),
            own(sources={"net": "sha256:9"}),
            own(sources={"net": "sha256:1", "layers": "sha256:1"}),
            own(state="sha256:9"),
            RECIPES["fp32"],
        )
    }
    assert len(ids) == 5


def test_where_weights_lie_does_not_count() -> None:
    moved = models.OwnModel(parse_reference("net:build", [Path("/elsewhere")]), Path("/w.pt"))
    assert variant_id(replace(own(), own=moved)) == variant_id(own())


def test_one_without_training_samples_is_named_by_its_test_samples() -> None:
    bare = replace(DATASET, splits={"test": ref("test")})
    assert network_id(own(), bare) != network_id(own(), DATASET)


def test_trained_network_is_found_again(tmp_path: Path) -> None:
    blobs = ContentStore(tmp_path)
    weights, onnx = (blobs.add_bytes(data, MEDIA_NPZ) for data in (b"weights", b"onnx"))
    network = TrainedNetwork(weights, {"stem": 16}, {"onnx": onnx}, {"final_loss": "0.3"})
    key = digest.of_bytes(b"key")
    index = BuildIndex(blobs)
    assert index.get(key) is None
    index.put(key, network)
    assert BuildIndex(blobs).get(key) == network
    assert [p.name for p in (tmp_path / "networks").iterdir()] == [f"{digest.hex_of(key)}.json"]


def test_export_that_is_gone_is_made_again_and_lost_weights_are_trained_again(
    tmp_path: Path,
) -> None:
    blobs = ContentStore(tmp_path)
    weights, onnx = (blobs.add_bytes(data, MEDIA_NPZ) for data in (b"weights", b"onnx"))
    index, key = BuildIndex(blobs), digest.of_bytes(b"key")
    index.put(key, TrainedNetwork(weights, {}, {"onnx": onnx}))
    blobs.remove(onnx.digest)
    found = index.get(key)
    assert found is not None and found.exports == {}
    blobs.remove(weights.digest)
    assert index.get(key) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"weights": {"a": 1}}', "\0"])
def test_unreadable_entry_counts_as_absent(tmp_path: Path, text: str) -> None:
    index, key = BuildIndex(ContentStore(tmp_path)), digest.of_bytes(b"key")
    (tmp_path / "networks" / f"{digest.hex_of(key)}.json").write_text(text)
    assert index.get(key) is None
