"""Recipe files: what they say, and how their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from assay.controller.demo_model import demo_recipes
from assay.controller.own_code.reference import parse_reference
from assay.controller.variants.models import OwnModel
from assay.controller.variants.recipe import Recipe, load_recipe
from assay.controller.variants.steps import base, registered
from assay.core.errors import SpecError

DISTIL = '[[steps]]\nuse = "distil"\nsamples = 9\n'
OWN = 'name = "a"\nmodel = "net:build"\nweights = "w.pt"\n'
FP32 = """
name = "fp32"
model = "resnet8-fashion"
[[steps]]
use = "train"
samples = 100
"""


def written(folder: Path, text: str, name: str = "recipe.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_recipe(written(folder, text))
    assert str(caught.value).startswith("recipe.toml: ")
    return caught.value.problems


def demo(name: str) -> Recipe:
    return next(r for r in map(load_recipe, demo_recipes()) if r.name == name)


def test_demo_has_every_kind_of_compression_and_starts_with_the_baseline() -> None:
    recipes = [load_recipe(path) for path in demo_recipes()]
    assert [r.name for r in recipes] == [
        "fp32",
        *["control", "depthwise", "fp16", "int8-dynamic", "int8-static", "int8-static-reduced"],
        *["pruned", "student", "tucker2"],
    ]
    used = {step.use for recipe in recipes for step in recipe.steps}
    assert used == set(registered()) - {"student"}, "which goes with a model of the user's own"
    assert sum("tflite" in r.formats for r in recipes) >= 3
    assert all(r.path.stem == r.name for r in recipes)


def test_trained_variants_of_the_demo_have_the_same_budget() -> None:
    recipes = [load_recipe(path) for path in demo_recipes()]
    budgets = {
        recipe.name: sum(s.samples for s in recipe.network_steps if hasattr(s, "samples"))
        for recipe in recipes
        if recipe.network_steps and recipe.name != "fp32"
    }
    assert len(budgets) == 5 and len(set(budgets.values())) == 1


def test_steps_know_their_parameters_and_defaults() -> None:
    prune = demo("pruned").network_steps[0]
    assert prune.use == "prune"
    assert prune.model_dump() == {"criterion": "l1", "macs_ratio": 0.5, "round_to": 8}
    assert demo("pruned").base is not None and demo("pruned").base.name == "fp32"


@pytest.mark.parametrize(
    ("name", "file_format", "kind"),
    [
        ("fp32", "onnx", "fp32"),
        ("pruned", "tflite", "fp32"),
        ("fp16", "onnx", "fp16"),
        ("int8-dynamic", "onnx", "int8-safe"),
        ("int8-static", "onnx", "int8"),
        ("int8-static", "tflite", "int8-safe"),
        ("int8-static-reduced", "onnx", "int8-safe"),
    ],
)
def test_kind_of_arithmetic_follows_from_the_last_step(
    name: str, file_format: str, kind: str
) -> None:
    assert demo(name).arithmetic(file_format) == kind


def test_all_mistakes_are_told_at_once_with_their_path(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        """
name = "Bad Name"
model = "resnet8-fashion"
formats = ["onnx", "trt"]
extra = 1
[[steps]]
use = "prune"
criterion = "l3"
[[steps]]
use = "zap"
[[steps]]
samples = 1
""",
    )
    assert found[0] == "name: 'Bad Name' is not made of a-z, 0-9, dots and dashes"
    assert found[1] == "formats[1]: 'trt' is not one of 'onnx', 'tflite', 'ncnn'"
    assert found[2].startswith("extra: no such key")
    assert found[3] == "steps[0].criterion: 'l3' is not one of 'l1', 'l2', 'taylor', 'bn_scale'"
    assert found[4] == "steps[0].macs_ratio: is missing"
    assert found[5].startswith("steps[1].use: 'zap' is no step; known ones are distil, fp16")
    assert found[6].startswith("steps[2].use: is missing")
    assert len(found) == 7


def test_places_stay_right_when_a_step_before_is_broken(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        FP32.replace("100", "0") + '[[steps]]\nuse = "distil"\nsamples = 5\n',
    )
    assert found == [
        "steps[0].samples: 0: input should be greater than 0",
        "steps[1].use: 'distil' needs a base to learn from",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\nmodel = "resnet8-fashion"\n', "something must train"),
        (
            'name = "a"\nmodel = "resnet8-fashion"\n[[steps]]\nuse = "fp16"\n',
            "something must train",
        ),
        (FP32.replace("resnet8-fashion", "vgg"), "'vgg' is not one of resnet8-fashion"),
        (
            FP32.replace('"fp32"', '"a"\nformats = ["tflite"]') + '[[steps]]\nuse = "fp16"\n',
            "steps[1]: fp16 has no .tflite form; leave tflite out of formats",
        ),
        (
            'name = "a"\nmodel = "resnet8-fashion"\n[[steps]]\nuse = "fp16"\n'
            '[[steps]]\nuse = "train"\nsamples = 5\n',
            "steps[1].use: 'train' must come before file steps",
        ),
        ("name = ", "is not TOML"),
        ('name = "a"\n', "model: is missing"),
        (OWN.replace("net:build", "net"), "'net' is not one of resnet8-fashion, nor package.mod"),
        (FP32.replace("[[", 'weights = "w.pt"\n[['), "weights: go with a model of your own"),
        (FP32 + '[[steps]]\nuse = "student"\nfactory = "net:small"\n', "a model of your own"),
        (OWN + '[[steps]]\nuse = "narrow"\nwidth = 0.5\n', "name another factory in a step 'stu"),
        (OWN + DISTIL, "steps[0].use: 'distil' needs a base to learn from"),
        ("steps = 3\n" + FP32.partition("[[")[0], "steps: "),
    ],
)
def test_contradictions_are_told(tmp_path: Path, text: str, says: str) -> None:
    assert any(says in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    "key", ["reduce_range = true", "per_channel = false", 'calibration = "entropy"']
)
def test_static_int8_options_without_tflite_form_are_told(tmp_path: Path, key: str) -> None:
    text = FP32.replace('"fp32"', '"a"\nformats = ["tflite"]')
    found = problems(tmp_path, f'{text}[[steps]]\nuse = "int8_static"\n{key}\n')
    assert found[0].startswith("steps[1]: ") and "tflite" in found[0]


def test_a_model_of_ones_own_and_its_weights_are_looked_for_beside_the_recipe(
    tmp_path: Path,
) -> None:
    own = load_recipe(written(tmp_path, OWN)).own
    assert own is not None and str(own.reference) == "net:build"
    assert own.reference.folders == (str(tmp_path), str(Path.cwd()))
    assert own.weights == tmp_path / "w.pt"


def test_a_recipe_takes_its_model_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    written(tmp_path / "below", OWN, "fp32.toml")
    student = '[[steps]]\nuse = "student"\nfactory = "net:small"\n'
    recipe = load_recipe(
        written(tmp_path, 'name = "b"\nbase = "below/fp32.toml"\n' + student + DISTIL)
    )
    assert recipe.base is not None and recipe.own == recipe.base.own
    assert recipe.model == "net:build"
    assert [str(found) for found in recipe.students] == ["net:small"]
    assert recipe.students[0].folders[0] == str(tmp_path / "below")


def test_a_model_that_is_given_stands_in_for_those_of_recipe_and_base(tmp_path: Path) -> None:
    written(tmp_path, FP32, "fp32.toml")
    given = OwnModel(parse_reference("other:net", [tmp_path]), None)
    recipe = load_recipe(written(tmp_path, 'name = "b"\nbase = "fp32.toml"\n'), given)
    assert recipe.own == given and recipe.model == "other:net"
    assert recipe.base is not None and recipe.base.own == given


def test_base_is_a_path_from_the_recipe(tmp_path: Path) -> None:
    written(tmp_path, FP32, "fp32.toml")
    path = written(
        tmp_path,
        'name = "half"\nmodel = "resnet8-fashion"\nbase = "fp32.toml"\n[[steps]]\nuse = "fp16"\n',
    )
    recipe = load_recipe(path)
    assert recipe.base is not None and recipe.base.name == "fp32"
    assert [s.use for s in recipe.file_steps] == ["fp16"] and recipe.network_steps == ()


def test_base_that_ends_in_a_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, FP32 + '[[steps]]\nuse = "fp16"\n', "half.toml")
    text = 'name = "a"\nmodel = "resnet8-fashion"\nbase = "half.toml"\n'
    assert "ends in file steps" in problems(tmp_path, text)[0]


def test_a_base_of_another_model_or_with_other_weights_is_refused(tmp_path: Path) -> None:
    written(tmp_path, OWN, "own.toml")
    text = 'name = "b"\nbase = "own.toml"\n'
    assert problems(tmp_path, text + 'model = "net:other"\n') == [
        "base: a is made from net:build, not from net:other"
    ]
    assert problems(tmp_path, text + 'weights = "v.pt"\n') == [
        "weights: belong into own.toml, whose network is the start"
    ]


def test_mistake_in_a_base_names_the_base(tmp_path: Path) -> None:
    written(tmp_path, FP32.replace("100", "-1"), "fp32.toml")
    with pytest.raises(SpecError, match=r"fp32.toml: steps\[0\].samples"):
        load_recipe(
            written(tmp_path, 'name = "a"\nmodel = "resnet8-fashion"\nbase = "fp32.toml"\n')
        )


def test_recipes_that_go_in_a_circle_are_refused(tmp_path: Path) -> None:
    text = 'name = "{}"\nmodel = "resnet8-fashion"\nbase = "{}.toml"\n'
    path = written(tmp_path, text.format("a", "b"), "a.toml")
    written(tmp_path, text.format("b", "a"), "b.toml")
    with pytest.raises(SpecError, match="circle"):
        load_recipe(path)


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none.toml: cannot be read: No such file"):
        load_recipe(tmp_path / "none.toml")


def test_a_step_name_is_registered_once() -> None:
    class Again(base.NetworkStep):
        use: ClassVar[str]

    with pytest.raises(ValueError, match="'train' is registered twice"):
        base.step("train", version=1)(Again)


def test_the_page_on_recipes_names_every_step_and_parameter() -> None:
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    for use, cls in registered().items():
        assert f"**`{use}`**" in page
        for parameter in cls.model_fields:
            assert f"`{parameter}`" in page, f"{use}.{parameter}"
