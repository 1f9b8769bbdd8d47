"""What every kind of dataset promises, each on the same 30 samples of three classes."""

from __future__ import annotations

import csv
import struct
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.controller.datasets.add import assemble, choose_kind
from assay.controller.datasets.base import RawDataset, silent
from assay.controller.datasets.kinds import ALL, Found, registered
from assay.controller.datasets.splits import Splitting, publish
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, BadInputs, UsageError
from assay.core.preprocess import Preprocessing

CLASSES = ("ant", "bee", "cow")
LABELS = np.arange(30) % 3
IMAGES = np.random.RandomState(7).randint(0, 256, (30, 6, 5, 3)).astype(np.uint8)
SOUNDS = np.random.RandomState(8).randint(-9000, 9000, (30, 40)).astype(np.int16)
TABLE = np.random.RandomState(9).randn(30, 4).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """How a kind's data is written, whole or in parts, and what must be read back."""

    kind: str
    write: Callable[[Path, dict[str, np.ndarray]], list[str]]
    x: np.ndarray
    damage: Callable[[list[str]], str] = lambda what: _cut(Path(what[0]))
    options: dict[str, str] = field(default_factory=dict)


def _cut(path: Path) -> str:
    """Halves a file and gives its name."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


def _cut_last_row(what: list[str]) -> str:
    path = Path(what[0])
    path.write_text(path.read_text().rpartition(",")[0])
    return f"{path.name}: line 31: 4 values, but 5 columns"


def _cut_one_inside(what: list[str]) -> str:
    return _cut(sorted(path for path in Path(what[0]).rglob("*.*") if path.is_file())[5])


def write_npz(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    arrays = {}
    for part, rows in parts.items():
        suffix = "" if part == ALL else f"_{part}"
        arrays |= {f"x{suffix}": IMAGES[rows], f"y{suffix}": LABELS[rows]}
    np.savez(folder / "data.npz", **arrays)
    return [str(folder / "data.npz")]


def write_idx(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    paths = []
    for part, rows in parts.items():
        if part == "calibration":
            continue
        for name, array in (("x", IMAGES[rows]), ("y", LABELS[rows].astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            paths.append(folder / f"{part}-{name}.idx")
            paths[-1].write_bytes(header + array.tobytes())
    return [str(path) for path in paths]


def write_images(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    def save(path: Path, row: int) -> None:
        Image.fromarray(IMAGES[row]).save(path.with_suffix(".png"))

    return _in_class_folders(folder, parts, save)


def write_sounds(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    def save(path: Path, row: int) -> None:
        with wave.open(str(path.with_suffix(".wav")), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(SOUNDS[row].astype("<i2").tobytes())

    return _in_class_folders(folder, parts, save)


def _in_class_folders(
    folder: Path, parts: dict[str, np.ndarray], save: Callable[[Path, int], None]
) -> list[str]:
    root = folder / "data"
    for part, rows in parts.items():
        for row in rows:
            own = (root if part == ALL else root / part) / CLASSES[LABELS[row]]
            own.mkdir(parents=True, exist_ok=True)
            save(own / f"{row:02}", int(row))
        (own / ".hidden.png").touch()
        (own / "notes.txt").touch()
    return [str(root)]


def write_table(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    paths = []
    for part, rows in parts.items():
        paths.append(folder / f"{part}.csv")
        with paths[-1].open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "label", "c", "d"])
            for row in rows:
                a, b, c, d = (repr(float(value)) for value in TABLE[row])
                writer.writerow([a, b, CLASSES[LABELS[row]], c, d])
    return [str(path) for path in paths]


def write_class(folder: Path, parts: dict[str, np.ndarray]) -> list[str]:
    methods = "\n".join(
        f"    def {'samples' if part == ALL else part}(self):\n"
        f"        for row in {rows.tolist()}:\n"
        "            yield X[row], int(Y[row])\n"
        for part, rows in parts.items()
    )
    (folder / "bugs.py").write_text(
        "import numpy as np\n"
        "X = np.random.RandomState(7).randint(0, 256, (30, 6, 5, 3)).astype(np.uint8)\n"
        f"Y = np.arange(30) % 3\nclass Bugs:\n    classes = {CLASSES}\n{methods}"
    )
    return ["bugs:Bugs"]


def break_class(_what: list[str]) -> str:
    Path("bugs.py").write_text("class Bugs:\n    def samples(self):\n        raise OSError('torn')")
    return "bugs.py"


CASES = [
    Case("npz", write_npz, IMAGES),
    Case("idx", write_idx, IMAGES),
    Case("images", write_images, IMAGES, _cut_one_inside),
    Case("wav", write_sounds, SOUNDS, _cut_one_inside),
    Case("csv", write_table, TABLE, _cut_last_row),
    Case("class", write_class, IMAGES, break_class),
]
cases = pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
WHOLE = {ALL: np.arange(30)}
DIVIDED = {
    "train": np.arange(0, 18),
    "calibration": np.arange(18, 21),
    "test": np.arange(21, 30),
}


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(case: Case, what: list[str], classes: tuple[str, ...] = ()) -> Found:
    return choose_kind(what, case.kind, case.options).read(what, classes, silent)


def raw(case: Case, what: list[str], classes: tuple[str, ...] = ()) -> RawDataset:
    return assemble(read(case, what, classes), "bugs", classes)


def rows_of(x: np.ndarray, case: Case) -> list[int]:
    """Which of the case's samples these are."""
    return [int(np.flatnonzero([np.array_equal(one, own) for own in case.x])[0]) for one in x]


def test_every_kind_is_tested() -> None:
    assert {case.kind for case in CASES} == set(registered())


@cases
def test_it_claims_its_own_data_and_no_other_kind_does(case: Case, tmp_path: Path) -> None:
    what = case.write(tmp_path, WHOLE)
    assert [name for name, kind in registered().items() if kind.claims(what)] == [case.kind]
    assert choose_kind(what, None, {}).kind == case.kind


@cases
def test_samples_keep_their_values_types_and_labels(case: Case, tmp_path: Path) -> None:
    part = read(case, case.write(tmp_path, WHOLE)).parts[ALL]
    assert len(part.x) == len(part.y) == 30 and part.x.dtype == case.x.dtype
    rows = rows_of(part.x, case)
    assert sorted(rows) == list(range(30))
    np.testing.assert_array_equal(part.y, LABELS[rows])
    assert part.y.dtype == np.int64


@cases
def test_same_data_has_the_same_digests(case: Case, tmp_path: Path) -> None:
    what = case.write(tmp_path, WHOLE)
    stores = [ContentStore(tmp_path / name) for name in ("one", "two")]
    one, two = (publish(raw(case, what), store, 1, silent) for store in stores)
    assert one == two and one.counts == {"train": 22, "calibration": 2, "test": 6}


@cases
def test_parts_that_come_divided_stay_so(case: Case, tmp_path: Path) -> None:
    found = raw(case, case.write(tmp_path, DIVIDED))
    assert sorted(rows_of(found.x_train, case)) == DIVIDED["train"].tolist()
    assert sorted(rows_of(found.x_test, case)) == DIVIDED["test"].tolist()
    if case.kind != "idx":  # whose files are two parts
        assert found.x_calibration is not None
        assert sorted(rows_of(found.x_calibration, case)) == DIVIDED["calibration"].tolist()
        record = publish(found, ContentStore(tmp_path / "store"), 1, silent)
        assert record.counts == {"train": 18, "calibration": 3, "test": 9}


@cases
def test_what_is_divided_here_is_divided_by_the_seed(case: Case, tmp_path: Path) -> None:
    found = read(case, case.write(tmp_path, WHOLE))
    halves = [assemble(found, "b", splitting=Splitting(seed, 0.5)) for seed in (1, 1, 2)]
    tests = [rows_of(half.x_test, case) for half in halves]
    assert tests[0] == tests[1] != tests[2] and len(tests[0]) == 15
    assert not set(tests[0]) & set(rows_of(halves[0].x_train, case))
    assert "divided by seed 1" in halves[0].source


@cases
def test_its_preprocessing_suits_its_samples(case: Case, tmp_path: Path) -> None:
    found = raw(case, case.write(tmp_path, WHOLE))
    inputs = Preprocessing.from_json(found.preprocessing_json).apply(found.x_test)
    assert inputs.dtype == np.float32 and len(inputs) == 6
    assert case.x.dtype == np.float32 or np.abs(inputs).max() <= 1


@cases
def test_damaged_data_is_refused_by_name(case: Case, tmp_path: Path) -> None:
    what = case.write(tmp_path, WHOLE)
    name = case.damage(what)
    with pytest.raises(BadInputs, match=name):
        read(case, what)


@cases
def test_missing_data_is_an_error_of_ours(case: Case, tmp_path: Path) -> None:
    suffix = {"npz": ".npz", "csv": ".csv"}.get(case.kind, "")
    nowhere = ["nowhere:It"] if case.kind == "class" else [str(tmp_path / f"nowhere{suffix}")]
    with pytest.raises(AssayError, match="nowhere"):
        read(case, nowhere * (2 if case.kind == "idx" else 1))


@cases
def test_labels_beyond_the_classes_are_refused_with_their_row(case: Case, tmp_path: Path) -> None:
    what = case.write(tmp_path, WHOLE)
    with pytest.raises(BadInputs) as caught:
        raw(case, what, ("ant", "bee"))
    place = {"images": "cow", "wav": "cow", "csv": "line 4", "class": "item 2"}
    assert place.get(case.kind, "row 2") in str(caught.value)
    assert "2 classes" in str(caught.value)


@cases
def test_classes_that_are_given_may_be_empty(case: Case, tmp_path: Path) -> None:
    found = raw(case, case.write(tmp_path, WHOLE), ("cow", "ant", "dog", "bee"))
    assert found.classes == ("cow", "ant", "dog", "bee")
    if case.kind in ("images", "wav", "csv"):
        assert set(np.unique(found.y_train)) == {0, 1, 3}


@pytest.mark.parametrize("kind", [name for name in registered() if name != "class"])
def test_unknown_options_are_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=f"kind {kind} has no option 'colr'"):
        choose_kind(["x"], kind, {"colr": "rgb"})
