"""A home survives its disk: everything comes back, and a damaged backup is refused whole."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.identity.pki import Authority
from assay.controller.store import open_store
from assay.controller.store.backup import back_up, back_up_dated, restore
from assay.core.cas import ContentStore
from assay.core.errors import AlreadyExists, BadMessage, CheckFailed, NotFound
from assay.core.model import MEDIA_NPZ
from tests.plane import S, device, queued, reported, result, sweep


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    store = open_store(made)
    create_token(made, store)
    store.add_device(device())
    store.add_sweep(sweep(), [], [queued()])
    granted = store.lease_round("id-bench", 100 * S, 0)
    assert granted is not None
    store.record("id-bench", [reported(result(granted))], 1)
    content = ContentStore(made.artifacts)
    content.add_bytes(b"samples", MEDIA_NPZ)
    (made.artifacts / "networks").mkdir()
    (made.artifacts / "networks" / "n.json").write_text("{}")
    (made.artifacts / "partial" / "half").write_bytes(b"h")
    # Not closed: a controller is running.
    return made


def test_everything_comes_back(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "backup.tar"
    monkeypatch.setenv("ASSAY_HOME", str(home.root))
    assert CliRunner().invoke(assay, ["store", "backup", str(file)]).exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = Home(tmp_path / "new" / "home")
    monkeypatch.setenv("ASSAY_HOME", str(other.root))
    assert CliRunner().invoke(assay, ["store", "restore", str(file)]).exit_code == 0
    before, after = open_store(home), open_store(other)
    assert after.counts() == before.counts()
    assert after.results(sweep_id="s1") == before.results(sweep_id="s1")
    assert after.device("bench") == before.device("bench")
    assert after.check() == []
    assert list(ContentStore(other.artifacts).held()) == list(ContentStore(home.artifacts).held())
    assert (other.artifacts / "networks" / "n.json").read_text() == "{}"
    assert not (other.artifacts / "partial" / "half").exists()
    now = Authority(home.pki, None).sha256  # type: ignore[arg-type]
    assert Authority(other.pki, None).sha256 == now  # type: ignore[arg-type]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in other.pki.iterdir()}
    assert (modes, stat.S_IMODE(other.root.stat().st_mode)) == ({0o600}, 0o700)


def test_nothing_is_overwritten(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    back_up(home, file)
    with pytest.raises(AlreadyExists, match="name another file"):
        back_up(home, file)
    with pytest.raises(AlreadyExists, match="not empty"):
        restore(file, home)


def test_the_newest_dated_backups_stay(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "backups"
    kept.mkdir()
    for name in ("assay-20200101T000000Z.tar", "assay-20200102T000000Z.tar", "by-hand.tar"):
        (kept / name).touch()
    made, size = back_up_dated(home, kept, keep=2)
    assert made.stat().st_size == size
    assert sorted(path.name for path in kept.iterdir()) == [
        "assay-20200102T000000Z.tar",
        made.name,
        "by-hand.tar",
    ]
    restore(made, Home(tmp_path / "new"))


def test_a_timer_backs_up_into_a_directory(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(home.root))
    (tmp_path / "backups").mkdir()
    done = CliRunner().invoke(assay, ["store", "backup", str(tmp_path / "backups"), "--keep", "1"])
    (made,) = (tmp_path / "backups").iterdir()
    assert done.exit_code == 0 and str(made) in done.stderr


def test_damage_is_found_before_older_backups_go(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "backups"
    kept.mkdir()
    (kept / "assay-20200101T000000Z.tar").touch()
    (path,) = (home.artifacts / "sha256").glob("??/*")
    path.write_bytes(b"changed")
    with pytest.raises(CheckFailed, match=f"sha256:{path.name} is damaged"):
        back_up_dated(home, kept, keep=1)
    assert [path.name for path in kept.iterdir()] == ["assay-20200101T000000Z.tar"]


def test_a_damaged_backup_leaves_nothing(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    back_up(home, file)
    whole = file.read_bytes()
    assert whole.count(b"samples") == 1
    file.write_bytes(whole.replace(b"samples", b"changed"))
    target = Home(tmp_path / "new")
    with pytest.raises(CheckFailed, match="artifact sha256:"):
        restore(file, target)
    file.write_bytes(whole[:30_000])
    with pytest.raises((BadMessage, CheckFailed)):
        restore(file, target)
    assert [p.name for p in tmp_path.iterdir()] in (["home", "backup.tar"], ["backup.tar", "home"])


def test_a_backup_that_leads_out_of_the_home_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.tar"
    with tarfile.open(file, "w") as tar:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(BadMessage, match="no whole backup"):
        restore(file, Home(tmp_path / "new"))
    assert not (tmp_path / "outside").exists()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        back_up(Home(tmp_path / "none"), tmp_path / "b.tar")
    with pytest.raises(NotFound):
        restore(tmp_path / "b.tar", Home(tmp_path / "new"))
