"""Fashion-MNIST from Debian's package, installed for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.controller.datasets.fashion_mnist import (
    DEBIAN_DIRECTORY,
    DEBIAN_PACKAGE,
    prepare_fashion_mnist,
)
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.core import digest
from assay.core.cas import ContentStore
from tests.conftest import need

# What every machine must come to, whichever way the data arrived.
SPLITS = {
    "train": "ebc18c9bcc2b",
    "calibration": "67fbebce8e8d",
    "test": "7584e022fbc1",
}


@pytest.mark.system
def test_package_is_installed_and_gives_the_known_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(program="apt-get")
    need(root=True)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "empty"))
    home = Home(tmp_path / "home")
    store, blobs = open_store(home), ContentStore(home.artifacts)
    record = prepare_fashion_mnist(store, blobs)
    assert DEBIAN_PACKAGE in record.source or str(DEBIAN_DIRECTORY) in record.source
    assert record.counts == {"train": 59_744, "calibration": 256, "test": 10_000}
    assert {name: digest.short(ref.digest) for name, ref in record.splits.items()} == SPLITS
    store.close()
