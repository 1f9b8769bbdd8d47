"""A model of several files travels as one, and nothing else comes out of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from assay.core import bundle
from assay.core.errors import BadMessage


def packed(folder: Path) -> Path:
    (folder / "m.onnx").write_bytes(b"\x08\x08model")
    for name in ("w", "v"):
        (folder / name).write_bytes(name.encode() * 100)
    target = folder / "bundle"
    bundle.pack(target, folder / "m.onnx", {"deep/weights.bin": folder / "w", "a": folder / "v"})
    return target


def zipped(path: Path, members: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_what_is_packed_comes_out_and_equal_files_are_equal_bytes(tmp_path: Path) -> None:
    path = packed(tmp_path)
    content = path.read_bytes()
    assert bundle.is_bundle(path) and not bundle.is_bundle(tmp_path / "m.onnx")
    out = tmp_path / "out"
    out.mkdir()
    model = bundle.unpack(path, out)
    assert model == out / "model.onnx" and model.read_bytes() == b"\x08\x08model"
    assert (out / "deep/weights.bin").read_bytes() == b"w" * 100
    assert packed(tmp_path).read_bytes() == content


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../up", "a/../../up", "a\\b", "c:evil", "", ".", "a//b", "x\n", "n" * 300],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    assert bundle.why_unsafe(name)
    if name in ("", ".", "a\\b"):
        return  # a zip cannot hold them as they are
    path = zipped(tmp_path / "b", {"model.onnx": b"m", name: b"x"})
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BadMessage, match="the name"):
        bundle.unpack(path, out)
    assert not list(out.iterdir()) and not (tmp_path / "up").exists()


@pytest.mark.parametrize(
    ("members", "kind", "why"),
    [
        ({"model.onnx": b"m", "w": bytes(1 << 20)}, zipfile.ZIP_DEFLATED, "compressed"),
        ({"w": b"x", "model.onnx": b"m"}, zipfile.ZIP_STORED, "first member"),
        ({}, zipfile.ZIP_STORED, "first member"),
    ],
)
def test_bombs_and_strangers_are_refused(
    tmp_path: Path, members: dict[str, bytes], kind: int, why: str
) -> None:
    with pytest.raises(BadMessage, match=why):
        bundle.unpack(zipped(tmp_path / "b", members, kind), tmp_path)


def test_a_bomb_that_lies_about_its_sizes_is_refused(tmp_path: Path) -> None:
    """Two central entries over the same bytes, each within the file, together beyond it."""
    path = zipped(tmp_path / "b", {"model.onnx": b"m" * 4000, "w": b"w" * 4000})
    content = path.read_bytes()
    size = (4000).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (9_000_000).to_bytes(4, "little")))
    with pytest.raises(BadMessage, match="would take 18000000 bytes"):
        bundle.unpack(path, tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 60, 400])
def test_cut_bundles_are_refused(tmp_path: Path, keep: int) -> None:
    path = packed(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadMessage):
        bundle.unpack(path, tmp_path)
