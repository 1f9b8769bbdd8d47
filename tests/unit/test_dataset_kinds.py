"""What a kind of dataset says about data it cannot take, and what its options do."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.controller.datasets.add import assemble, choose_kind
from assay.controller.datasets.base import silent
from assay.controller.datasets.kinds import ALL, Found
from assay.core.errors import AssayError, BadInputs, BuildFailed, NotFound, UsageError
from assay.core.preprocess import Preprocessing


def read(what: Path | str, kind: str, *classes: str, **options: str) -> Found:
    return choose_kind([str(what)], kind, options).read([str(what)], classes, silent)


def image(path: Path, height: int, width: int, value: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(path)


def sound(
    path: Path,
    frames: int = 80,
    rate: int = 8000,
    channels: int = 1,
    width: int = 2,
    data: bytes | None = None,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(bytes(frames * channels * width) if data is None else data)


def test_images_of_several_sizes_are_refused_and_brought_to_one_on_request(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png", 8, 8)
    image(tmp_path / "b" / "2.png", 8, 16)
    with pytest.raises(BadInputs, match=r"2.png: 8x16 pixels, but .*1.png has 8x8: give --option"):
        read(tmp_path, "images")
    part = read(tmp_path, "images", size="4x6").parts[ALL]
    assert part.x.shape == (2, 4, 6, 3)
    assert read(tmp_path, "images", size="4x6", colour="grey").parts[ALL].x.shape == (2, 4, 6)


def test_images_turn_as_their_exif_says_and_lose_their_alpha(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    turned = Image.fromarray(np.zeros((4, 8, 3), dtype=np.uint8))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: rotate by a quarter
    turned.save(folder / "1.jpg", exif=exif)
    Image.new("RGBA", (4, 8)).save(folder / "2.png")
    assert read(tmp_path, "images").parts[ALL].x.shape == (2, 8, 4, 3)


def test_a_picture_of_sixteen_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(BadInputs, match=r"deep.png: more than 8 bits"):
        read(tmp_path, "images")


@pytest.mark.parametrize(
    ("files", "classes", "says"),
    [
        ([], (), "holds no folder"),
        (["a/1.png", "b/notes.txt"], (), "the class 'b' is empty"),
        (["a/1.png", "b/1.png"], ("a",), "'b' is none of the 1 classes given"),
        (["train/a/1.png", "test/b/notes.txt"], (), "the class 'b' is empty"),
    ],
)
def test_folders_that_are_not_classes_are_named(
    tmp_path: Path, files: list[str], classes: tuple[str, ...], says: str
) -> None:
    for name in files:
        image(tmp_path / name, 4, 4) if name.endswith(".png") else None
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(BadInputs, match=says):
        read(tmp_path, "images", *classes)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ({"rate": 16000}, r"2.wav: 16000 Hz, but .*1.wav has 8000 Hz"),
        ({"channels": 2}, r"2.wav: 2 channels: say which by --option channel=0"),
        ({"frames": 90}, r"2.wav: 90 frames, but .*give --option seconds=0.01"),
        ({"width": 3}, r"2.wav: int32 samples"),
        ({"frames": 0}, r"2.wav: holds no sound"),
    ],
)
def test_recordings_that_differ_are_named(
    tmp_path: Path, second: dict[str, int], says: str
) -> None:
    sound(tmp_path / "a" / "1.wav")
    sound(tmp_path / "b" / "2.wav", **second)
    with pytest.raises(BadInputs, match=says):
        read(tmp_path, "wav")


def test_recordings_are_cut_and_filled_to_one_length(tmp_path: Path) -> None:
    sound(tmp_path / "a" / "long.wav", data=np.arange(1, 9).astype("<i2").tobytes())
    sound(tmp_path / "a" / "short.wav", data=np.arange(1, 3).astype("<i2").tobytes())
    part = read(tmp_path, "wav", seconds=str(4 / 8000)).parts[ALL]
    np.testing.assert_array_equal(part.x, [[1, 2, 3, 4], [1, 2, 0, 0]])
    assert "8000 Hz" in read(tmp_path, "wav", seconds="1").source


def test_pcm_of_every_width_is_read_at_full_scale(tmp_path: Path) -> None:
    loud = {1: b"\xff\x00", 2: b"\xff\x7f\x00\x80", 3: b"\xff\xff\x7f\x00\x00\x80"}
    loud[4] = b"\xff\xff\xff\x7f\x00\x00\x00\x80"
    for width, data in loud.items():
        root = tmp_path / str(width)
        sound(root / "a" / "1.wav", width=width, data=data)
        found = read(root, "wav")
        inputs = found.preprocessing.apply(found.parts[ALL].x)
        assert inputs[0, 1] == -1 and inputs[0, 0] == pytest.approx(1, abs=0.01)


def test_one_channel_of_several_is_taken_on_request(tmp_path: Path) -> None:
    sound(tmp_path / "a" / "1.wav", channels=2, data=np.arange(6).astype("<i2").tobytes())
    np.testing.assert_array_equal(read(tmp_path, "wav", channel="1").parts[ALL].x, [[1, 3, 5]])
    with pytest.raises(BadInputs, match="2 channels, and 2 counts from 0"):
        read(tmp_path, "wav", channel="2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no column 'label'"),
        ("a,b\n1,2\n", r"line 1 names no column 'label' \(but a, b\)"),
        ("label\nx\n", "no column is left for features"),
        ("a,a,label\n1,2,x\n", "names a column twice"),
        ("a,label\n", "no rows below"),
        ("a,label\n1,x\n2\n", "line 3: 1 values, but 2 columns"),
        ("a,label\n1,x\n,y\n", "line 3: column 'a': '' is not a finite"),
        ("a,label\n1,x\nnan,y\n", "line 3: column 'a': 'nan' is not a finite"),
        ("a,label\n1e60,x\n", "line 2: column 'a': '1e60' is not a finite float32"),
        ("a,label\n1,x\n2,\n", "line 3: no label"),
        ("a,label\n1,\xff\n".encode("latin-1"), "cannot be read as a CSV file"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadInputs, match=rf"rows\.csv: .*{says}"):
        read(path, "csv")


def test_columns_of_a_table_are_chosen_by_options(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text(
        "id\tkind\ta\tuse\n"
        + "".join(
            f"{i}\t{9 + i % 2}\t{i / 4}\t{u}\n"
            for i, u in enumerate(["train", "train", "calibration", "test"])
        )
    )
    found = read(path, "csv", label="kind", split="use", ignore="id")
    assert found.classes == ("9", "10")
    assert {part: len(one.y) for part, one in found.parts.items()} == {
        "train": 2,
        "calibration": 1,
        "test": 1,
    }
    np.testing.assert_array_equal(found.parts["train"].x, np.float32([[0], [0.25]]))
    with pytest.raises(BadInputs, match="line 2: split '0' is not one of train, calibration, test"):
        read(path, "csv", label="kind", split="id")


def test_labels_that_leave_a_gap_are_refused_unless_classes_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "gap.npz", x=np.zeros((4, 2)), y=np.array([0, 2, 0, 2]))
    found = read(tmp_path / "gap.npz", "npz")
    with pytest.raises(BadInputs, match="no sample of class 1"):
        assemble(found, "gap")
    assert assemble(found, "gap", ["a", "b", "c"]).classes == ("a", "b", "c")


def test_parts_of_different_shape_are_refused(tmp_path: Path) -> None:
    arrays = {"x_train": np.zeros((4, 2)), "x_test": np.zeros((4, 3))}
    arrays |= {"y_train": np.arange(4), "y_test": np.arange(4)}
    np.savez(tmp_path / "two.npz", **arrays)
    with pytest.raises(BadInputs, match="samples differ in shape: train"):
        read(tmp_path / "two.npz", "npz")


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("images", {"size": "big"}, "option size: 'big'"),
        ("images", {"colour": "blue"}, "option colour: 'blue' is not one of 'rgb', 'grey'"),
        ("wav", {"seconds": "0"}, "option seconds: '0'"),
        ("pictures", {}, "images: a folder with a folder of images"),
    ],
)
def test_options_are_checked_before_anything_is_read(
    kind: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        choose_kind(["nowhere"], kind, options)


OWN = {
    "quits": ("import sys\nsys.exit(7)", BuildFailed, r"importing own called exit\(7\)"),
    "vanishes": (
        "import os\nos._exit(0)",
        BuildFailed,
        "without its report while 'importing",
    ),
    "torn": ("class C:", BuildFailed, r"importing own raised \w+Error: .*own.py, line 1"),
    "lacks": ("import nosuchthing", BuildFailed, "No module named 'nosuchthing'"),
    "unnamed": ("", NotFound, "own.py has no 'C'"),
    "value": ("C = 3", BuildFailed, "own:C is a int, which cannot be called"),
    "empty": ("class C: pass", BadInputs, r"own:C has none of the methods samples\(\)"),
    "raises": ("class C:\n  def __init__(self): 1/0", BadInputs, r"own:C\(\) raised ZeroDivision"),
    "ragged": (
        "class C:\n  def samples(self):\n    yield [1, 2], 0\n    yield [1, 2, 3], 0",
        BadInputs,
        r"own:C.samples\(\): item 1: int64 of shape \(3,\), but item 0",
    ),
    "words": ("class C:\n  def samples(self): yield 'x', 0", BadInputs, "item 0: a sample of <U1"),
    "single": ("class C:\n  def samples(self): yield 5", BadInputs, "item 0 is no pair"),
    "label": ("class C:\n  def samples(self): yield [1], 'x'", BadInputs, "none of the 0 classes"),
    "half": ("class C:\n  def samples(self): yield [1], .5", BadInputs, "neither a whole number"),
    "options": ("class C:\n  def __init__(self): 0", BadInputs, "unexpected keyword argument 'n'"),
    "nothing": ("class C:\n  def samples(self): return []", BadInputs, "yields no sample"),
    "steps": (
        "class C:\n  preprocessing = {'sacle': 1}\n  def samples(self): yield [1], 0",
        AssayError,
        "sacle: unknown key",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_class_of_ones_own_does_wrong_is_told_plainly(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, error, says = OWN[name]
    (tmp_path / "own.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        read("own:C", "class", **({"n": "3"} if name == "options" else {}))
    assert not (tmp_path / "__pycache__").exists()


def test_a_class_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.controller.datasets.kinds import own_class

    code = "class C:\n  def samples(self):\n    yield [1], 0\n    while True: pass"
    (tmp_path / "own.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(own_class, "SILENCE_S", 3.0)
    with pytest.raises(
        BuildFailed, match=r"3 s without a word while 'own:C.samples\(\): 1 samples"
    ):
        read("own:C", "class")


def test_options_go_to_the_class_and_its_wishes_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\nclass C:\n  classes = ['no', 'yes']\n  preprocessing = {'scale': 2}\n"
        "  def __init__(self, n): self.n = int(n)\n"
        "  def train(self): return [(np.float32(i), 'yes') for i in range(self.n)]\n"
        "  def test(self): return [(np.float32(i), np.int64(0)) for i in range(2)]\n"
    )
    monkeypatch.chdir(tmp_path)
    found = read("own:C", "class", n="3")
    assert found.classes == ("no", "yes") and found.preprocessing == Preprocessing(scale=2)
    assert found.parts["train"].y.tolist() == [1, 1, 1]
    assert found.parts["test"].x.tolist() == [0, 1]
    assert found.parts["test"].where(1) == "own:C.test(): item 1"
