#!/usr/bin/env python3
"""Makes a wheelhouse: everything an offline host needs to run Assay, one archive per kind of host.

    packaging/wheelhouse.py --out build/wheelhouse agent:3.11:aarch64 controller:3.11:x86_64

A target is ROLE:PYTHON:MACHINE. The result is one ``ROLE-cpXY-MACHINE.tar`` of wheels for each,
and ``manifest.json``, which names them with their sha256; the Ansible roles read it. Assay itself
is built from this checkout each time. What it depends on is fetched once, kept under ``OUT/wheels``
and taken from there until pyproject.toml asks for something else or ``--refresh`` is given.
Needs pip and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
EXTRAS = {"agent": "agent,onnxruntime,litert", "controller": "controller,models"}
"""What a bundle holds wheels for; a host may install fewer of them."""

MACHINES = ("x86_64", "aarch64")
USUAL = (
    "agent:3.11:aarch64",  # Raspberry Pi OS and Debian 12
    "agent:3.13:aarch64",  # Raspberry Pi OS and Debian 13
    "agent:3.10:aarch64",  # JetPack 6
    "agent:3.11:x86_64",
    "controller:3.11:x86_64",
)
# Newest first; the oldest board in use (JetPack 5, Ubuntu 20.04) has glibc 2.31.
_GLIBC = (*range(31, 16, -1),)


@dataclass(frozen=True)
class Target:
    """A kind of host: ``role`` is agent or controller, ``python`` is "3.11"."""

    role: str
    python: str
    machine: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """The target ``ROLE:PYTHON:MACHINE`` spells; ``ValueError`` says what is wrong with it."""
        role, python, machine = (*text.split(":"), "", "", "")[:3]
        if text.count(":") != 2 or role not in EXTRAS or machine not in MACHINES:
            raise ValueError(
                f"{text!r} is no target: write ROLE:PYTHON:MACHINE with ROLE {' or '.join(EXTRAS)} "
                f"and MACHINE {' or '.join(MACHINES)}, e.g. agent:3.11:aarch64"
            )
        if not re.fullmatch(r"3\.\d+", python):
            raise ValueError(f"{text!r}: {python!r} is no Python version, e.g. 3.11")
        return cls(role, python, machine)

    @property
    def name(self) -> str:
        """The bundle's name; the roles compose it from what they find on a host."""
        return f"{self.role}-cp{self.python.replace('.', '')}-{self.machine}"

    @property
    def platforms(self) -> list[str]:
        """The wheel platforms such a host takes, newest first."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in _GLIBC]
        return [*tags, f"manylinux2014_{self.machine}"]


# pip judges requirement markers (python_version < '3.11') by the Python it runs on; this gives it
# the target's. Checked by tests/unit/test_wheelhouse.py.
_PIP_FOR_TARGET = """
import json, sys
import pip._vendor.packaging.markers as markers
own, target = markers.default_environment, json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**own(), **target}
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def build_assay(out: Path) -> Path:
    """The wheel of this checkout, in ``out``."""
    with tempfile.TemporaryDirectory() as scratch:
        _pip("-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", scratch, str(REPOSITORY))
        (built,) = Path(scratch).glob("*.whl")
        return Path(shutil.copy(built, out / built.name))


def fetch(target: Target, assay: Path, wheels: Path) -> list[Path]:
    """The wheels ``target`` needs besides Assay's own, fetched into ``wheels`` where missing."""
    environment = {
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "platform_machine": target.machine,
    }
    with tempfile.TemporaryDirectory(dir=wheels) as scratch:
        _pip(
            *("-c", _PIP_FOR_TARGET, json.dumps(environment)),
            *("download", "-qq", "--dest", scratch, "--only-binary=:all:"),
            *("--find-links", str(wheels)),
            *("--implementation", "cp", "--python-version", target.python),
            *(f"--platform={tag}" for tag in target.platforms),
            f"{assay}[{EXTRAS[target.role]}]",
        )
        found = [path for path in Path(scratch).glob("*.whl") if path.name != assay.name]
        return sorted(path.replace(wheels / path.name) for path in found)


def pack(archive: Path, wheels: Iterable[Path]) -> str:
    """Writes the archive; the same wheels give the same bytes. Returns its sha256."""
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as tar:
        for wheel in sorted(wheels, key=lambda path: path.name):
            entry = tarfile.TarInfo(wheel.name)
            entry.size = wheel.stat().st_size
            entry.mode = 0o644
            with wheel.open("rb") as file:
                tar.addfile(entry, file)
    partial.replace(archive)
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make(out: Path, targets: Sequence[Target], *, refresh: bool = False) -> None:
    """Makes every bundle and ``manifest.json``."""
    wheels = out / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    assay = build_assay(out)
    known = {} if refresh else _resolved(out)
    bundles = {}
    for target in targets:
        needed = [wheels / name for name in known.get(target.name, ())]
        if not needed or not all(path.exists() for path in needed):
            needed = fetch(target, assay, wheels)
        known[target.name] = [path.name for path in needed]
        archive = out / f"{target.name}.tar"
        sha256 = pack(archive, [assay, *needed])
        bundles[target.name] = {"file": archive.name, "sha256": sha256}
        size_mb = archive.stat().st_size / 1e6
        print(f"{archive}: {len(needed) + 1} wheels, {size_mb:.0f} MB", file=sys.stderr)
    _write_json(out / "resolved.json", {"asked": _asked(), "wheels": known})
    version = assay.name.split("-")[1]
    _write_json(out / "manifest.json", {"version": version, "bundles": bundles})


def main() -> int:
    """Entry point; 2 for a target that is none, 1 where pip fails."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n\n")[0],
        epilog=f"Without TARGETs: {' '.join(USUAL)}.",
    )
    parser.add_argument("targets", nargs="*", metavar="ROLE:PYTHON:MACHINE")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build/wheelhouse")
    parser.add_argument("--refresh", action="store_true", help="look for newer dependencies")
    given = parser.parse_args()
    try:
        targets = [Target.parse(text) for text in given.targets or USUAL]
    except ValueError as error:
        parser.error(str(error))
    try:
        make(given.out, targets, refresh=given.refresh)
    except subprocess.CalledProcessError as error:
        print(f"error: pip ended with status {error.returncode}", file=sys.stderr)
        return 1
    return 0


def _pip(*arguments: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([sys.executable, *arguments], check=True, env=environment)


def _asked() -> str:
    """A digest of what decides which wheels are needed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [project["dependencies"], project["optional-dependencies"], EXTRAS]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _resolved(out: Path) -> dict[str, list[str]]:
    try:
        known = json.loads((out / "resolved.json").read_text())
    except FileNotFoundError:
        return {}
    return dict(known["wheels"]) if known["asked"] == _asked() else {}


def _write_json(path: Path, value: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
