"""Releases side by side, each a real virtual environment."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.collection import load

releases = load("ansible/plugins/module_utils/releases.py")


def _build(made: Any, release: str, **changed: Any) -> None:
    settings = {
        "python": sys.executable,
        "requirements": ["--help"],  # of pip, which then installs nothing
        "pip_arguments": [],
        "probe": ["-c", "pass"],
        **changed,
    }
    made.build(release, **settings)


def test_a_release_is_used_once_it_is_whole_and_a_failed_build_leaves_it_alone(
    tmp_path: Path,
) -> None:
    made = releases.Releases(tmp_path / "root")
    assert (made.complete(), made.current()) == ([], "")
    _build(made, "1")
    assert made.complete() == ["1"]
    made.activate("1")
    assert made.current() == "1"
    assert (made.root / "current/bin/python").exists()
    with pytest.raises(releases.BuildFailed, match="broken"):
        _build(made, "2", probe=["-c", "import sys; sys.exit('broken')"])
    assert (made.complete(), made.current()) == (["1"], "1")
    assert sorted(path.name for path in (made.root / "releases").iterdir()) == ["1"]


def test_pip_is_quoted_where_it_fails(tmp_path: Path) -> None:
    made = releases.Releases(tmp_path / "root")
    with pytest.raises(releases.BuildFailed, match="no-such-package-at-all"):
        _build(made, "1", requirements=["--no-index", "no-such-package-at-all"])
    assert made.complete() == []


def test_a_bundle_that_holds_more_than_wheels_is_refused(tmp_path: Path) -> None:
    made = releases.Releases(tmp_path / "root")
    bundle = tmp_path / "bundle.tar"
    with tarfile.open(bundle, "w") as tar:
        tar.addfile(tarfile.TarInfo("../../etc/passwd.whl"))
    with pytest.raises(releases.BuildFailed, match="no wheel"):
        _build(made, "1", bundle=bundle)
    assert made.complete() == []
