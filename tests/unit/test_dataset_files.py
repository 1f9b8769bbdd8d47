"""Datasets from files: IDX, .npz, splits, digests."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from assay.controller.datasets.add import add_dataset, assemble, choose_kind
from assay.controller.datasets.base import RawDataset, silent
from assay.controller.datasets.idx import read_idx
from assay.controller.datasets.kinds.arrays import default_preprocessing
from assay.controller.datasets.npz import read_npz
from assay.controller.datasets.splits import calibration_indices, publish
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import AlreadyExists, BadInputs, NotFound, SpecError, UsageError
from assay.core.npz import npz_bytes
from assay.core.preprocess import Preprocessing

IMAGES = np.random.RandomState(1).randint(0, 256, (50, 4, 4)).astype(np.uint8)
LABELS = (np.arange(50) % 3).astype(np.uint8)


def idx_bytes(array: np.ndarray, code: int, dtype: str) -> bytes:
    """An IDX file as the format's page describes it, written independently of the reader."""
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(dtype).tobytes()


def from_files(
    paths: list[Path],
    name: str,
    classes: tuple[str, ...] | list[str] = (),
    preprocessing_json: str | None = None,
) -> RawDataset:
    what = [str(path) for path in paths]
    found = choose_kind(what, None, {}).read(what, classes, silent)
    return assemble(found, name, classes, preprocessing_json)


def write_pair(folder: Path) -> list[Path]:
    """Images and labels as IDX files, one of them gzipped."""
    images, labels = folder / "images-idx3-ubyte.gz", folder / "labels-idx1-ubyte"
    images.write_bytes(gzip.compress(idx_bytes(IMAGES, 0x08, ">u1")))
    labels.write_bytes(idx_bytes(LABELS, 0x08, ">u1"))
    return [images, labels]


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
def test_idx_of_every_type_is_read(tmp_path: Path, code: int, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4)
    path = tmp_path / "a.idx"
    path.write_bytes(idx_bytes(array, code, dtype))
    found = read_idx(path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing"),
        (b"hello world", "68 65 6c 6c"),
        (b"\0\0\x08\x03\0\0", "inside its header"),
        (idx_bytes(IMAGES, 0x08, ">u1")[:-1], "needs"),
        (gzip.compress(idx_bytes(IMAGES, 0x08, ">u1"))[:-20], "damaged gzip"),
    ],
)
def test_damaged_idx_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(data)
    with pytest.raises(BadInputs, match=says):
        read_idx(path)


def test_missing_idx_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        read_idx(tmp_path / "nowhere")


def test_npz_bytes_are_pinned_and_numpy_reads_them(tmp_path: Path) -> None:
    data = npz_bytes({"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "y": np.arange(2)})
    assert digest.of_bytes(data) == (
        "sha256:0c55472ff53eeb89eeaecc5e6452395768bd6d8e40b18f934a45e58340621b71"
    )
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    assert list(np.load(path)) == ["x", "y"]
    np.testing.assert_array_equal(read_npz(path)["x"], [[0, 1, 2], [3, 4, 5]])


def test_npz_that_is_none_is_refused(tmp_path: Path) -> None:
    text, bare = tmp_path / "text.npz", tmp_path / "bare.npy"
    text.write_text("hello")
    np.save(bare, IMAGES)
    objects = tmp_path / "objects.npz"
    np.savez(objects, x=np.array([{}], dtype=object))
    for path in (text, bare, objects):
        with pytest.raises(BadInputs, match=path.name):
            read_npz(path)
    with pytest.raises(NotFound):
        read_npz(tmp_path / "none.npz")


def test_calibration_is_apart_from_training_and_pinned_by_seed() -> None:
    chosen, rest = calibration_indices(60_000, seed=20)
    assert len(chosen) == 256 and len(rest) == 59_744
    assert not set(chosen.tolist()) & set(rest.tolist())
    # numpy has frozen this stream: another number means another calibration split.
    assert chosen[:4].tolist() == [412, 468, 783, 809]
    assert calibration_indices(60_000, seed=21)[0].tolist() != chosen.tolist()


def test_small_data_gives_a_tenth_to_calibration() -> None:
    chosen, rest = calibration_indices(50, seed=20)
    assert (len(chosen), len(rest)) == (5, 45)


def test_idx_pair_becomes_splits_with_stable_digests(tmp_path: Path) -> None:
    raw = from_files(write_pair(tmp_path), "digits")
    assert (len(raw.x_train), len(raw.x_test)) == (40, 10)
    one = publish(raw, ContentStore(tmp_path / "a"), 1, silent)
    two = publish(raw, ContentStore(tmp_path / "b"), 2, silent)
    assert one.splits == two.splits
    assert one.counts == {"train": 36, "calibration": 4, "test": 10}
    assert one.classes == ("0", "1", "2")


def test_split_files_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "given.npz"
    np.savez(path, x_train=IMAGES[:30], y_train=LABELS[:30], x_test=IMAGES[30:], y_test=LABELS[30:])
    raw = from_files([path], "digits", classes=["a", "b", "c"])
    np.testing.assert_array_equal(raw.x_test, IMAGES[30:])
    assert raw.y_test.dtype == np.int64 and raw.classes == ("a", "b", "c")


def test_bytes_are_scaled_and_grey_images_get_a_channel() -> None:
    assert default_preprocessing(IMAGES) == Preprocessing(shape=(1, 4, 4), scale=1 / 255)
    assert default_preprocessing(np.zeros((2, 3, 4, 4), np.float32)) == Preprocessing()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": IMAGES}, "needed are x and y"),
        ({"x": IMAGES, "y": LABELS[:-1]}, "do not go with"),
        ({"x": IMAGES, "y": LABELS.astype(np.float32)}, "whole numbers"),
    ],
)
def test_unfit_npz_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    path = tmp_path / "given.npz"
    np.savez(path, **arrays)
    with pytest.raises(BadInputs, match=says):
        from_files([path], "digits")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputs, match="there are 2 classes"):
        from_files(write_pair(tmp_path), "digits", classes=["a", "b"])


def test_preprocessing_is_tried_before_anything_is_stored(tmp_path: Path) -> None:
    with pytest.raises(BadInputs):
        from_files(write_pair(tmp_path), "digits", preprocessing_json='{"shape": [7]}')
    with pytest.raises(SpecError):
        from_files(write_pair(tmp_path), "digits", preprocessing_json='{"shpae": [16]}')


def test_three_files_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kind of dataset takes that"):
        from_files([*write_pair(tmp_path), tmp_path / "c"], "digits")


def test_added_files_are_in_the_store_and_a_name_holds_one_content(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    store, blobs = open_store(home), ContentStore(home.artifacts)
    what = [str(path) for path in write_pair(tmp_path)]
    kind = choose_kind(what, None, {})
    record = add_dataset(kind, what, "digits", [], None, store, blobs)
    assert store.dataset("digits") == record
    assert all(blobs.has(ref.digest) for ref in record.splits.values())
    assert add_dataset(kind, what, "digits", [], None, store, blobs) == record
    with pytest.raises(AlreadyExists):
        add_dataset(kind, what, "digits", ["x", "y", "z"], None, store, blobs)
    store.close()
