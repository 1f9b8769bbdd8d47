"""``assay dataset`` and ``assay variant``, as a user types them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from assay.controller import canary
from assay.controller.cli import assay
from assay.core import errors
from tests.conftest import need

CANARY = Path(canary.__file__).parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one dataset, ``noise``, that fits the canary."""
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "home"))
    generator = np.random.RandomState(0)
    x, y = generator.randn(50, 48, 48).astype(np.float32), np.arange(50) % 10
    np.savez(tmp_path / "noise.npz", x=x, y=y)
    run("dataset", "add", str(tmp_path / "noise.npz"), "--name", "noise")
    return tmp_path


def run(*arguments: str) -> str:
    """What the command prints; an :class:`AssayError` comes up as it is."""
    done = CliRunner().invoke(assay, list(arguments), standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def listed(*arguments: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run(*arguments, "--format", "json"))
    return rows


def test_dataset_is_listed_with_its_splits(home: Path) -> None:
    row = listed("dataset", "list")[0]
    assert (row["name"], row["train"], row["calibration"], row["test"]) == ("noise", 36, 4, 10)
    assert row["preprocessing"] == '{"shape": [1, 48, 48]}'
    assert run("dataset", "list", "--format", "csv").splitlines()[0].startswith("name,classes,")


def test_dataset_names_classes_and_preprocessing_are_taken(home: Path) -> None:
    classes = ",".join(f"class {i}" for i in range(10))
    run(
        *("dataset", "add", str(home / "noise.npz"), "--name", "scaled", "--classes", classes),
        *("--preprocessing", '{"scale": 2}'),
    )
    row = next(row for row in listed("dataset", "list") if row["name"] == "scaled")
    assert row["class_names"] == classes.split(",") and row["preprocessing"] == '{"scale": 2.0}'


def test_dataset_options_are_read_from_files_and_reach_the_kind(home: Path) -> None:
    (home / "rows.csv").write_text("a,kind\n" + "".join(f"{i},{i % 3}\n" for i in range(30)))
    (home / "names.txt").write_text("zero\none\ntwo\n\nthree\n")
    (home / "steps.json").write_text('{"scale": 0.5}')
    run(
        *("dataset", "add", str(home / "rows.csv"), "--name", "rows", "--option", "label=kind"),
        *("--classes", f"@{home / 'names.txt'}", "--preprocessing", f"@{home / 'steps.json'}"),
        *("--test-share", "0.5", "--calibration", "1", "--split-seed", "3"),
    )
    row = next(row for row in listed("dataset", "list") if row["name"] == "rows")
    assert (row["train"], row["calibration"], row["test"]) == (14, 1, 15)
    assert row["class_names"] == ["zero", "one", "two", "three"]
    assert row["preprocessing"] == '{"scale": 0.5}' and "divided by seed 3" in str(row["source"])


def test_kinds_of_datasets_are_listed_with_their_options(home: Path) -> None:
    kinds = {row["kind"]: row["options"] for row in listed("dataset", "kinds")}
    assert list(kinds) == ["npz", "idx", "images", "class", "wav", "csv"]
    assert kinds["wav"] == ["seconds", "channel"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("dataset", "add", "x.npz"), errors.UsageError),
        (("dataset", "add", "x.npz", "--name", "n", "--option", "size"), errors.UsageError),
        (("dataset", "add", "x.npz", "--name", "n", "--classes", "a,b,a"), errors.UsageError),
        (("dataset", "add", "x.npz", "--name", "n", "--classes", "@none.txt"), errors.NotFound),
        (("dataset", "add", "x.bin", "--name", "n"), errors.UsageError),
        (("dataset", "add", "x.npz", "--name", "n"), errors.NotFound),
        (("dataset", "add", "fashion-mnist", "--name", "n"), errors.UsageError),
        (("variant", "show", "nothing"), errors.NotFound),
        (("variant", "build", "nothing.toml"), errors.SpecError),
        (("variant", "add", "m.pt", "--name", "m", "--dataset", "noise"), errors.UsageError),
        (("variant", "add", "m.onnx", "--name", "m", "--dataset", "noise"), errors.NotFound),
        (("variant", "add", "m.onnx", "--name", "m", "--dataset", "none"), errors.NotFound),
    ],
)
def test_mistakes_are_errors_of_their_kind(
    home: Path, arguments: tuple[str, ...], error: type[errors.AssayError]
) -> None:
    with pytest.raises(error) as caught:
        run(*arguments)
    assert caught.value.meaning.exit_code == errors.EXIT_USAGE


def test_model_made_elsewhere_is_added_in_both_formats(home: Path) -> None:
    need(module="onnxruntime")
    need(module="onnx")
    need(module="ai_edge_litert")
    files = [str(CANARY / name) for name in ("canary.onnx", "canary.tflite")]
    run("variant", "add", *files, "--name", "mine", "--dataset", "noise")
    row = listed("variant", "list")[0]
    assert (row["name"], row["model"], row["origin"]) == ("mine", "mine", "added")
    assert row["formats"] == ["onnx", "tflite"] and row["macs"] == 38_168_384
    assert listed("variant", "list", "--model", "other") == []
    shown = run("variant", "show", "mine")
    assert "note source: canary.onnx, canary.tflite" in shown and "Conv×5" in shown
    whole = json.loads(run("variant", "show", "mine", "--format", "json"))
    assert whole["files"]["model/onnx"]["golden"]["rtol"] == 1e-3
    run("variant", "add", *files, "--name", "mine", "--dataset", "noise")  # the same again
    with pytest.raises(errors.AlreadyExists):
        run("variant", "add", files[0], "--name", "mine", "--dataset", "noise")


@pytest.mark.parametrize(
    ("name", "module"), [("canary.onnx", "onnxruntime"), ("canary.tflite", "ai_edge_litert")]
)
def test_truncated_model_is_refused_and_nothing_is_registered(
    home: Path, name: str, module: str
) -> None:
    need(module=module)
    path = home / name
    shutil.copy(CANARY / name, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(errors.RuntimeRejected, match="may be cut off"):
        run("variant", "add", str(path), "--name", "cut", "--dataset", "noise")
    assert listed("variant", "list") == []


def test_model_that_does_not_fit_the_data_is_refused(home: Path) -> None:
    need(module="onnxruntime")
    np.savez(home / "small.npz", x=np.zeros((20, 8, 8), np.float32), y=np.arange(20) % 2)
    run("dataset", "add", str(home / "small.npz"), "--name", "small")
    with pytest.raises(errors.BadInputs, match=r"samples of the dataset are 1×8×8"):
        run(
            *("variant", "add", str(CANARY / "canary.onnx")),
            *("--name", "m", "--dataset", "small"),
        )


def test_dry_run_checks_the_demo_recipes_and_builds_nothing(home: Path) -> None:
    run("variant", "build", "demo", "--dry-run")
    assert listed("variant", "list") == []
