"""A sweep file is checked whole: every mistake is named with its path into the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.controller.planning.spec import load_spec
from assay.core.errors import SpecError

GOOD = """
name = "lab"
dataset = "fashion-mnist"
variants = ["fp32", "int8-*"]
baseline = "fp32"

[devices]
classes = ["rpi5"]

[[runtimes]]
name = "onnxruntime"
threads = [1, 4]

[[scenarios]]
kind = "offline"
batch = [1, 8]
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, GOOD))
    assert spec.runtimes[0].threads == [1, 4]
    assert [s.samples_per_query for s in spec.scenarios[0].scenarios()] == [1, 8]
    assert spec.measuring.name == "standard"


def test_all_mistakes_are_reported_at_once_with_their_paths(tmp_path: Path) -> None:
    text = GOOD.replace("threads = [1, 4]", "threads = [1, 0]\ncores = 2").replace(
        'kind = "offline"', 'kind = "offlin"'
    )
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, 'profile = "fast"\n' + text))
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "sweep.toml: profile: 'fast' is not one of demo, quick, standard, mlperf" in text
    assert "runtimes[0].threads[1]: 0: input should be greater than or equal to 1" in text
    assert "runtimes[0].cores: no such key" in text
    assert "scenarios[0].kind: 'offlin': input should be" in text


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('baseline = "fp32"', ""), "baseline: is missing"),
        (('name = "lab"', 'name = "../x"'), "name: '../x'"),
        (('variants = ["fp32", "int8-*"]', ""), "name at least one of variants, models, recipes"),
        (('kind = "offline"', 'kind = "server"'), "target_qps is required"),
        (('kind = "offline"', "target_qps = 5"), "target_qps only goes with"),
        (('name = "onnxruntime"', 'name = "tensorrt"'), "runtimes[0].name: 'tensorrt'"),
        (("[devices]", "[[exclude]]\n[devices]"), "would leave everything out"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, GOOD.replace(*change)))
    assert problem in str(caught.value)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"sweep\.toml: is not TOML: Invalid value"):
        load_spec(write(tmp_path, "name = "))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.toml: cannot be read: No such file"):
        load_spec(tmp_path / "absent.toml")
