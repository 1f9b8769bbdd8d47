"""Fashion-MNIST: where it is looked for, and that only the known content is believed."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from assay.controller.datasets import debian, download, fashion_mnist
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core.cas import ContentStore
from assay.core.errors import NotFound, Unreachable

COUNTS = {"train": 600, "t10k": 100}


def small_files() -> dict[str, bytes]:
    """Files of the right names and shapes, far fewer samples."""
    made = {}
    for part, count in COUNTS.items():
        images = np.random.RandomState(count).randint(0, 256, (count, 28, 28)).astype(np.uint8)
        made[f"{part}-images-idx3-ubyte"] = (
            b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + images.tobytes()
        )
        labels = bytes(i % 10 for i in range(count))
        made[f"{part}-labels-idx1-ubyte"] = b"\0\0\x08\x01" + struct.pack(">I", count) + labels
    return made


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """The small files, known by their sha256; nothing is installed and nobody is root."""
    files = small_files()
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(fashion_mnist, "FILES", hashes)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIRECTORY", tmp_path / "not-installed")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return files


def put(folder: Path, files: dict[str, bytes], *, zipped: bool) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback and the folder it serves."""
    folder = tmp_path / "web"
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("zipped", [False, True])
def test_cache_is_enough(known: dict[str, bytes], tmp_path: Path, zipped: bool) -> None:
    put(tmp_path / "cache/datasets/fashion-mnist", known, zipped=zipped)
    raw = fashion_mnist.load(fashion_mnist.places(homes=[]))
    assert raw.x_train.shape == (600, 28, 28) and raw.x_test.shape == (100, 28, 28)
    assert raw.y_test[:3].tolist() == [0, 1, 2] and raw.y_test.dtype == np.int64
    assert "cache" in raw.source


def test_installed_package_comes_after_the_cache(known: dict[str, bytes], tmp_path: Path) -> None:
    put(fashion_mnist.DEBIAN_DIRECTORY, known, zipped=True)
    raw = fashion_mnist.load(fashion_mnist.places(homes=[]))
    assert str(fashion_mnist.DEBIAN_DIRECTORY) in raw.source


def test_download_comes_last_and_fills_the_cache(
    known: dict[str, bytes], tmp_path: Path, web: tuple[str, Path]
) -> None:
    address, folder = web
    put(folder, known, zipped=True)
    said: list[str] = []
    places = fashion_mnist.places(homes=["http://127.0.0.1:9/none", address])
    raw = fashion_mnist.load(places, lambda _n, _d, _t, note: said.append(note))
    assert "download" in raw.source
    assert "downloading train-images-idx3-ubyte" in said
    cached = tmp_path / "cache/datasets/fashion-mnist"
    assert {p.name for p in cached.iterdir()} == set(known)
    assert "cache" in fashion_mnist.load(fashion_mnist.places(homes=[])).source


def test_other_content_is_not_believed_and_not_kept(
    known: dict[str, bytes], tmp_path: Path, web: tuple[str, Path]
) -> None:
    address, folder = web
    altered = {name: data[:-1] + b"?" for name, data in known.items()}
    put(folder, altered, zipped=True)
    put(tmp_path / "cache/datasets/fashion-mnist", altered, zipped=False)
    with pytest.raises(Unreachable) as caught:
        fashion_mnist.load(fashion_mnist.places(homes=[address]))
    text = str(caught.value)
    assert "has other content" in text and "remove it" in text
    assert "arrived with sha256" in text
    kept = (tmp_path / "cache/datasets/fashion-mnist/train-images-idx3-ubyte").read_bytes()
    assert kept == altered["train-images-idx3-ubyte"]


def test_without_any_place_every_reason_and_the_cure_are_named(
    known: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(Unreachable) as caught:
        fashion_mnist.load(fashion_mnist.places(homes=["http://127.0.0.1:9"]))
    text = str(caught.value)
    for part in ("cache ", "not-installed", "Debian package", "download", "Put train-images"):
        assert part in text


@pytest.mark.parametrize("cut", [0, 10, 1000])
def test_download_cut_short_leaves_nothing(
    known: dict[str, bytes], tmp_path: Path, web: tuple[str, Path], cut: int
) -> None:
    address, folder = web
    folder.mkdir()
    name = "train-images-idx3-ubyte"
    (folder / f"{name}.gz").write_bytes(gzip.compress(known[name])[:cut])
    to = tmp_path / "kept" / name
    with pytest.raises(Unreachable, match=r"early|not a gzip"):
        download.fetch_unzipped(
            [f"{address}/{name}.gz"], to, fashion_mnist.FILES[name], lambda _d, _t: None
        )
    assert list(to.parent.iterdir()) == []


def test_installing_needs_root(known: dict[str, bytes]) -> None:
    with pytest.raises(NotFound, match=r"root|apt-get"):
        debian.install("dataset-fashion-mnist")


def test_apt_waits_for_its_lock_and_updates_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "calls"
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *update*) touch {tmp_path}/lists;; esac\n'
        f"test -e {tmp_path}/lists || {{ echo 'E: Unable to locate package' >&2; exit 100; }}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    debian.install("some-package")
    calls = log.read_text().splitlines()
    assert [c.split("DPkg::Lock::Timeout=120 ")[1].split()[0] for c in calls] == [
        "install",
        "update",
        "install",
    ]


def test_apt_failure_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/apt-get"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(Unreachable, match="E: no such package"):
        debian.install("some-package")


def test_prepared_once_and_again_where_files_went_missing(
    known: dict[str, bytes], tmp_path: Path
) -> None:
    cache = put(tmp_path / "cache/datasets/fashion-mnist", known, zipped=False)
    home = Home(tmp_path / "home")
    store, blobs = open_store(home), ContentStore(home.artifacts)
    record = fashion_mnist.prepare_fashion_mnist(store, blobs)
    assert record.counts == {"train": 540, "calibration": 60, "test": 100}
    away = cache.rename(cache.with_name("away"))
    assert fashion_mnist.prepare_fashion_mnist(store, blobs) == record
    away.rename(cache)
    blobs.remove(record.splits["test"].digest)
    assert fashion_mnist.prepare_fashion_mnist(store, blobs).splits == record.splits
    assert blobs.has(record.splits["test"].digest)
    store.close()
