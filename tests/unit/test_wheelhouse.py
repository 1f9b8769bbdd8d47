"""Wheelhouses: which wheels a kind of host needs, and archives that tell them apart."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.collection import load

wheelhouse = load("packaging/wheelhouse.py")


def test_a_target_is_spelt_role_python_machine() -> None:
    target = wheelhouse.Target.parse("agent:3.13:aarch64")
    assert (target.role, target.python, target.machine) == ("agent", "3.13", "aarch64")
    assert target.name == "agent-cp313-aarch64"
    assert target.platforms[0] == "manylinux_2_31_aarch64"


@pytest.mark.parametrize("text", wheelhouse.USUAL)
def test_the_usual_targets_are_targets(text: str) -> None:
    assert wheelhouse.Target.parse(text).name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("agent:3.11", "write ROLE:PYTHON:MACHINE"),
        ("phone:3.11:aarch64", "ROLE agent or controller"),
        ("agent:3.11:armv7l", "MACHINE x86_64 or aarch64"),
        ("agent:3:aarch64", "'3' is no Python version"),
    ],
)
def test_what_is_no_target_is_told_with_what_one_looks_like(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        wheelhouse.Target.parse(text)


def _wheel(directory: Path, name: str, *needs: str) -> Path:
    path = directory / f"{name}-1.0-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in needs)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def test_markers_are_judged_by_the_target_and_not_by_this_python(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("old", "new", "arm", "intel"):
        _wheel(source, name)
    top = _wheel(
        source,
        "top",
        "old; python_version < '3.11'",
        "new; python_version >= '3.11'",
        "arm; platform_machine == 'aarch64'",
        "intel; platform_machine == 'x86_64'",
    )
    environment = {
        "python_version": "3.10",
        "python_full_version": "3.10.0",
        "platform_machine": "aarch64",
    }
    out = tmp_path / "out"
    subprocess.run(
        [
            *(sys.executable, "-c", wheelhouse._PIP_FOR_TARGET, json.dumps(environment)),
            *(
                "download",
                "-qq",
                "--dest",
                str(out),
                "--only-binary=:all:",
                "--python-version=3.10",
            ),
            *("--no-index", "--find-links", str(source), str(top)),
        ],
        check=True,
    )
    assert {path.name.partition("-")[0] for path in out.iterdir()} == {"top", "old", "arm"}


def test_the_same_wheels_give_the_same_archive(tmp_path: Path) -> None:
    wheels = [_wheel(tmp_path, name) for name in ("b", "a")]
    first = wheelhouse.pack(tmp_path / "one.tar", wheels)
    assert wheelhouse.pack(tmp_path / "two.tar", reversed(wheels)) == first
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == ["a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"]
    assert not list(tmp_path.glob("*.partial"))
