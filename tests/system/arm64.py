"""An arm64 board for tests: Debian's arm64 Python and the aarch64 wheels under qemu-user.

What runs is the agent as a Raspberry Pi 4 would install it, from the wheelhouse; only the processor
is imitated. Its Python is a virtual environment whose interpreter is a script that starts qemu, so
the agent starts its workers as on any board. Everything made is kept in ``build/arm64``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.system.hosts.image import recipe_of_this_machine

PROGRAMS = ("mmdebstrap", "apt-get", "dpkg-deb")
BUILD = REPOSITORY / "build/arm64"
BOARD = "Raspberry Pi 4 Model B Rev 1.4"
_INCLUDE = "python3,libpython3-stdlib,libstdc++6,libgomp1,zlib1g,ca-certificates"
# The emulator of Debian 12 crashes on onnxruntime's wheel.
_FIRST_SUITE, _WITHOUT = "trixie", ("bullseye", "bookworm")


def python() -> Path:
    """The board's Python with the agent installed; made where missing (a minute), Assay itself
    anew each time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        recipe = recipe_of_this_machine()
        uri = next(s for s in recipe.sources if f" {recipe.suite} " in s).split()[1]
        root = _root(uri, recipe.suite)
        later = _FIRST_SUITE if recipe.suite in _WITHOUT else recipe.suite
        return _environment(root, _emulator(uri, later))


def _root(uri: str, suite: str) -> Path:
    root = BUILD / f"root-{suite}"
    if not root.exists():
        partial = root.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
        command += ["--architectures=arm64", f"--include={_INCLUDE}", suite, str(partial)]
        subprocess.run([*command, f"deb {uri} {suite} main"], check=True)
        # The emulator looks for every path below this root first: a device tree of a Pi.
        tree = partial / "proc/device-tree"
        tree.mkdir(parents=True)
        (tree / "model").write_text(f"{BOARD}\0")
        (tree / "compatible").write_text("raspberrypi,4-model-b\0brcm,bcm2711\0")
        partial.rename(root)
    return root


def _emulator(uri: str, suite: str) -> Path:
    """Debian's qemu-user of ``suite``, unpacked and not installed."""
    program = BUILD / f"qemu-{suite}/usr/bin/qemu-aarch64"
    if not program.exists():
        apt = BUILD / "apt"
        (apt / "lists/partial").mkdir(parents=True, exist_ok=True)
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (apt / "sources").write_text(f"deb [signed-by={keyring}] {uri} {suite} main\n")
        (apt / "conf").write_text(
            f'Dir::Etc::sourcelist "{apt}/sources";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::State::Lists "{apt}/lists";\nDir::State::status "/dev/null";\n'
            f'Dir::Cache "{apt}";\n'
        )
        environment = {**os.environ, "APT_CONFIG": str(apt / "conf")}
        for words in (["update"], ["download", "qemu-user"]):
            command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *words]
            subprocess.run(command, cwd=apt, env=environment, check=True, capture_output=True)
        (package,) = apt.glob("qemu-user_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, program.parents[2]], check=True)
        package.unlink()
    return program


def _environment(root: Path, emulator: Path) -> Path:
    (interpreter,) = (root / "usr/bin").glob("python3.[0-9]*[0-9]")
    version = interpreter.name.removeprefix("python")
    command = [sys.executable, str(REPOSITORY / "packaging/wheelhouse.py")]
    command += ["--out", str(BUILD / "wheelhouse"), f"agent:{version}:aarch64"]
    subprocess.run(command, check=True, capture_output=True)
    name = f"agent-cp{version.replace('.', '')}-aarch64.tar"
    board = BUILD / f"board-{version}"
    site = board / f"lib/python{version}/site-packages"
    site.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(site / "assay", ignore_errors=True)
    with tarfile.open(BUILD / "wheelhouse" / name) as bundle:
        for entry in bundle:
            file = bundle.extractfile(entry)
            assert file is not None
            installed = board / f"{entry.name}.installed"
            if entry.name.startswith("assay_fleet-") or not installed.exists():
                zipfile.ZipFile(file).extractall(site)
                installed.touch()
    (board / "bin").mkdir(exist_ok=True)
    (board / "pyvenv.cfg").write_text(f"home = {root}/usr/bin\nversion = {version}\n")
    program = board / "bin/python"
    program.write_text(
        f'#!/bin/sh\nQEMU_CPU=cortex-a72 exec {emulator} -L {root} -0 "$0" {interpreter} "$@"\n'
    )
    program.chmod(0o755)
    return program
