"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 × 28, ten kinds of clothing.

H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms", 2017; MIT licence. The four IDX files are looked for in a local cache, in
Debian's package, and at their public home, in this order; whatever is found must have the known
content (sha256 of the unzipped files: Debian zips them anew).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from assay.controller.datasets import debian, download
from assay.controller.datasets.base import OnProgress, RawDataset, silent
from assay.controller.datasets.cache import cache_directory
from assay.controller.datasets.idx import parse_idx, raw_bytes
from assay.controller.datasets.splits import publish
from assay.controller.records import DatasetRecord
from assay.controller.store.base import Store
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.errors import AssayError, NotFound, Unreachable
from assay.core.preprocess import Preprocessing

NAME = "fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Each file by the sha256 of its unzipped content."""
HOMES = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_DIRECTORY = Path("/usr/share/datasets/fashion-mnist")
# Mean and standard deviation of the training pixels, as a share of 255.
PREPROCESSING = Preprocessing(shape=(1, 28, 28), scale=1 / 255, mean=(0.2860,), std=(0.3530,))


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere the files may be: ``directory()`` makes sure they are there, or raises."""

    name: str
    directory: Callable[[OnProgress], Path]


def prepare_fashion_mnist(
    store: Store, blobs: ContentStore, progress: OnProgress = silent
) -> DatasetRecord:
    """The dataset in the store, its splits held; found, checked and added where it is not yet."""
    known = [d for d in store.datasets() if d.name == NAME]
    if known and all(blobs.has(split.digest) for split in known[0].splits.values()):
        return known[0]
    record = publish(load(places(), progress), blobs, time.time_ns(), progress)
    store.add_dataset(record)
    return record


def places(cache: Path | None = None, homes: Sequence[str] = HOMES) -> tuple[Place, ...]:
    """Where to look, in order."""
    directory = (cache or cache_directory()) / "datasets" / NAME

    def cached(_progress: OnProgress) -> Path:
        return directory

    def installed(_progress: OnProgress) -> Path:
        return DEBIAN_DIRECTORY

    def installable(progress: OnProgress) -> Path:
        progress(NAME, 0, 0, f"installing the package {DEBIAN_PACKAGE}")
        debian.install(DEBIAN_PACKAGE)
        return DEBIAN_DIRECTORY

    def downloaded(progress: OnProgress) -> Path:
        for name, sha256 in FILES.items():
            said = partial(_say_download, progress, name)
            addresses = [f"{home}/{name}.gz" for home in homes]
            download.fetch_unzipped(addresses, directory / name, sha256, said)
        return directory

    return (
        Place(f"cache {directory}", cached),
        Place(f"{DEBIAN_DIRECTORY}", installed),
        Place(f"Debian package {DEBIAN_PACKAGE}", installable),
        Place("download", downloaded),
    )


def load(where: Sequence[Place], progress: OnProgress = silent) -> RawDataset:
    """Reads the first place that has all four files with the known content."""
    reasons = []
    for place in where:
        try:
            directory = place.directory(progress)
            contents = {name: _checked(directory, name) for name in FILES}
        except AssayError as error:
            reasons.append(f"  {place.name}: {error}")
            continue
        arrays = {name: parse_idx(data, name) for name, data in contents.items()}
        return RawDataset(
            NAME,
            f"Fashion-MNIST (Zalando Research, MIT), from {place.name}",
            CLASSES,
            PREPROCESSING.to_json(),
            arrays["train-images-idx3-ubyte"],
            arrays["train-labels-idx1-ubyte"].astype("int64"),
            arrays["t10k-images-idx3-ubyte"],
            arrays["t10k-labels-idx1-ubyte"].astype("int64"),
        )
    raise Unreachable(
        "Fashion-MNIST could not be had:\n"
        + "\n".join(reasons)
        + f"\nPut {', '.join(FILES)} (or .gz) into {cache_directory() / 'datasets' / NAME}, "
        "or name another cache in ASSAY_CACHE."
    )


def _checked(directory: Path, name: str) -> bytes:
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            data = raw_bytes(path)
            found = digest.hex_of(digest.of_bytes(data))
            if found != FILES[name]:
                raise NotFound(f"{path} has other content (sha256 {found}): remove it")
            return data
    raise NotFound(f"{name} is not there")


def _say_download(progress: OnProgress, name: str, done: int, total: int) -> None:
    progress(NAME, done, total, f"downloading {name}")
