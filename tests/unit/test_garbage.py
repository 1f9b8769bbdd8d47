"""What nothing names goes, and nothing else; also while others write."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.controller.admin import garbage
from assay.controller.admin.garbage import ARTIFACT, ENCODED, PARTIAL, Piece, collect, unneeded
from assay.controller.blobs.directory import DirectoryBlobs
from assay.controller.canary import canary_variant
from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.controller.store.keeping import keeping
from assay.core import digest
from assay.core.cas import ContentStore
from assay.core.model import MEDIA_NPZ, ArtifactRef
from tests.plane import dataset

HOUR_NS = 3_600 * 10**9
NOW_NS = 10**18
A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def piece(kind: str, name: str, age_h: float = 48) -> Piece:
    return Piece(kind, Path(name), 1, NOW_NS - int(age_h * HOUR_NS))


def test_the_decision() -> None:
    stays = [
        piece(ARTIFACT, A),
        piece(ARTIFACT, B, age_h=1),
        piece(ENCODED, f"{A}.zst"),
        piece(ENCODED, f"{A}.{B}.patch"),
        piece(ENCODED, "0123.new", age_h=1),
        piece(PARTIAL, A, age_h=1),
    ]
    goes = [
        piece(ARTIFACT, C),
        piece(ENCODED, f"{C}.zst"),
        piece(ENCODED, f"{A}.{C}.patch"),
        piece(ENCODED, "0123.new"),
        piece(PARTIAL, C),
        piece(PARTIAL, f"{C}.corrupt"),
    ]
    assert unneeded([*stays, *goes], frozenset({f"sha256:{A}"}), NOW_NS - 24 * HOUR_NS) == goes


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    open_store(made).close()
    return made


@pytest.fixture
def store(home: Home) -> Store:
    return open_store(home)


def old(home: Home, content: bytes) -> ArtifactRef:
    """An artifact that lies there since the epoch."""
    blobs = ContentStore(home.artifacts)
    ref = blobs.add_bytes(content, MEDIA_NPZ)
    os.utime(blobs.path(ref.digest), (0, 0))
    return ref


def test_what_is_named_anywhere_stays(home: Home, store: Store) -> None:
    blobs = ContentStore(home.artifacts)
    canary_variant(blobs)
    store.add_dataset(dataset(content="samples"))
    samples, weights, unknown = (old(home, each) for each in (b"samples", b"weights", b"old way"))
    (home.artifacts / "networks").mkdir()
    (home.artifacts / "networks" / "n.json").write_text(json.dumps({"weights": weights.digest}))
    (home.artifacts / "networks" / "m.json").write_text(f"another version: {unknown.digest}")
    for name, _ in blobs.held():
        os.utime(blobs.path(name), (0, 0))
    before = set(blobs.held())
    garbage_ref = old(home, b"nobody's")
    told = collect(home, store, now_ns=NOW_NS, grace_ns=HOUR_NS, dry_run=True)
    assert [one.path.name for one in told] == [digest.hex_of(garbage_ref.digest)]
    assert blobs.has(garbage_ref.digest)
    gone = collect(home, store, now_ns=NOW_NS, grace_ns=HOUR_NS)
    assert [(one.kind, one.size_bytes) for one in gone] == [(ARTIFACT, 8)]
    assert set(blobs.held()) == before and blobs.has(samples.digest)
    assert list((home.artifacts / "partial").iterdir()) == []


@pytest.mark.parametrize("found", ["added again", "asked for", "sent again"])
def test_a_file_found_again_counts_as_new(
    home: Home, store: Store, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the decision and the removal, the worst moment there is."""
    ref = old(home, b"again")
    decide = garbage.unneeded

    def found_meanwhile(*args: object) -> list[Piece]:
        decided = decide(*args)  # type: ignore[arg-type]
        if found == "added again":
            ContentStore(home.artifacts).add_bytes(b"again", MEDIA_NPZ)
        elif found == "asked for":
            assert DirectoryBlobs(home.artifacts).has(ref.digest)
        else:
            assert not DirectoryBlobs(home.artifacts).write(ref, [])
        return decided

    monkeypatch.setattr(garbage, "unneeded", found_meanwhile)
    assert collect(home, store, now_ns=NOW_NS, grace_ns=HOUR_NS) == []
    assert ContentStore(home.artifacts).path(ref.digest).read_bytes() == b"again"


def test_writers_and_the_collector_side_by_side(home: Home, store: Store) -> None:
    """Who adds a file has it then, however often the old one is collected in between."""
    stop = threading.Event()
    lost: list[str] = []

    def write() -> None:
        blobs = ContentStore(home.artifacts)
        for number in range(50):
            ref = old(home, b"%d" % (number % 5))
            blobs.add_bytes(b"%d" % (number % 5), MEDIA_NPZ)
            if not blobs.has(ref.digest):
                lost.append(ref.digest)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        collect(home, store, now_ns=NOW_NS, grace_ns=HOUR_NS)
    writer.join()
    assert lost == []


def test_a_backup_under_way_is_waited_for(home: Home, store: Store) -> None:
    old(home, b"nobody's")
    done = threading.Event()

    def work() -> None:
        collect(home, store, now_ns=NOW_NS, grace_ns=HOUR_NS)
        done.set()

    with keeping(home):
        waiting = threading.Thread(target=work)
        waiting.start()
        with (home.root / "keeping.lock").open("a") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not done.is_set()
    waiting.join(10)
    assert done.is_set()


def test_the_command(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(home.root))
    ref = old(home, b"nobody's")
    runner = CliRunner()
    told = runner.invoke(assay, ["store", "gc", "--dry-run", "--format", "json"])
    (row,) = json.loads(told.stdout)
    assert (row["kind"], row["file"], row["bytes"]) == ("artifact", digest.hex_of(ref.digest), 8)
    assert "would go" in told.stderr and store.audit(10) == []
    done = runner.invoke(assay, ["store", "gc", "--format", "csv"])
    assert done.exit_code == 0 and "1 file(s), 0.0 MiB, are gone" in done.stderr
    assert not ContentStore(home.artifacts).has(ref.digest)
    assert [(entry.action, entry.outcome) for entry in store.audit(10)] == [("store gc", "ok")]


def test_a_home_without_a_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path / "none"))
    done = CliRunner().invoke(assay, ["store", "gc"])
    assert done.exit_code != 0 and not (tmp_path / "none").exists()
