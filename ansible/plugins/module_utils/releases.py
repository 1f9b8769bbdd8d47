"""Releases side by side: ``ROOT/releases/ID`` is a virtual environment, ``ROOT/current`` names one.

A release is complete once it holds its stamp, which is written last; one without is a leftover of
an interrupted build and is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

_STAMP = "release.json"


class BuildFailed(Exception):
    """A release could not be made; the message is the end of what pip said."""


class Releases:
    """The releases below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, release: str) -> Path:
        """Where a release lies."""
        return self.root / "releases" / release

    def complete(self) -> list:
        """The ids of those that can be used, oldest first."""
        stamps = (self.root / "releases").glob(f"*/{_STAMP}")
        found = sorted(stamps, key=lambda stamp: stamp.stat().st_mtime_ns)
        return [stamp.parent.name for stamp in found]

    def current(self) -> str:
        """The id that ``current`` names; empty where there is none."""
        try:
            return Path(os.readlink(self.root / "current")).name
        except OSError:
            return ""

    def build(
        self,
        release: str,
        python: str,
        requirements: list,
        pip_arguments: list,
        probe: list,
        bundle: Path | None = None,
        system_site_packages: bool = False,
    ) -> None:
        """Makes a release: a venv of ``python`` with ``requirements``, from ``bundle`` (a tar of
        wheels, no index asked) or as ``pip_arguments`` say. ``probe`` must then run in it."""
        target = self.path(release)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=self.root) as wheels:
                source = list(pip_arguments)
                if bundle is not None:
                    _unpack(bundle, Path(wheels))
                    source = ["--no-index", "--find-links", wheels]
                flags = ["--system-site-packages"] if system_site_packages else []
                _run([python, "-m", "venv", *flags, str(target)])
                _run([*_pip(target), *source, *requirements])
            _run([str(target / "bin/python"), *probe])
            stamp = {"requirements": requirements, "python": python}
            (target / _STAMP).write_text(json.dumps(stamp) + "\n")
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise

    def activate(self, release: str) -> None:
        """Points ``current`` at a release; at no moment is there none."""
        fresh = self.root / f".current.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("releases") / release)
        fresh.replace(self.root / "current")

    def superseded(self, keep: int) -> list:
        """Those to remove so that ``keep`` stay beside the current one: the oldest."""
        others = [release for release in self.complete() if release != self.current()]
        return others[: max(0, len(others) - keep)]

    def remove(self, release: str) -> None:
        """Removes one; its stamp first, so that an interrupted removal leaves nothing usable."""
        target = self.path(release)
        (target / _STAMP).unlink(missing_ok=True)
        shutil.rmtree(target)


def _pip(target: Path) -> list:
    quiet = ["--quiet", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    return [str(target / "bin/python"), "-m", "pip", "install", *quiet]


def _unpack(bundle: Path, directory: Path) -> None:
    with tarfile.open(bundle) as tar:
        for entry in tar:
            if not entry.isfile() or "/" in entry.name or not entry.name.endswith(".whl"):
                raise BuildFailed(f"{bundle.name} holds {entry.name!r}, which is no wheel")
            source = tar.extractfile(entry)
            with open(directory / entry.name, "wb") as file:
                shutil.copyfileobj(source, file)


def _run(command: list) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Nothing of the caller's: neither its pip configuration nor its Python path.
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        check=False,
    )
    if done.returncode:
        told = done.stdout.decode("utf-8", "replace").strip()[-2000:]
        raise BuildFailed(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{told}")
