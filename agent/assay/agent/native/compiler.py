"""Builds the C side with the compiler of this machine, once, and loads it."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from assay.core.model import Absent

HERE = Path(__file__).parent
SOURCES = ("loop.c", "ort.c", "litert.c")
HEADERS = ("native.h",)
COMPILERS = ("cc", "gcc", "clang")
#: No -march=native (a cache may travel with a disk image) and no -ffast-math, which would set the
#: processor to flush denormals for the whole process as soon as the library is loaded.
FLAGS = ("-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")
COMPILE_TIMEOUT_S = 120


def load(cache_dir: Path) -> ctypes.CDLL | Absent:
    """The compiled loop, from ``cache_dir`` where it is there already.

    Safe for several processes at once: each compiles aside and renames. Absent without a compiler,
    where compiling fails, or where the directory can be neither written nor executed from.
    """
    compiler = find_compiler()
    if compiler is None:
        return Absent(f"no C compiler on PATH (looked for {', '.join(COMPILERS)})")
    digest = source_digest(compiler)
    path = cache_dir / f"assay-native-{digest[:32]}.so"
    if path.exists():
        library = _open(path, digest)
        if not isinstance(library, Absent):
            return library
    failure = _compile(compiler, digest, path)
    return failure if failure is not None else _open(path, digest)


def find_compiler() -> Path | None:
    """The first of cc, gcc and clang on PATH."""
    for name in COMPILERS:
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    return None


def source_digest(compiler: Path) -> str:
    """sha256 over the sources, the flags, the machine and the compiler (its path, size and time of
    change: asking it for its version would start a process for every run)."""
    real = compiler.resolve()
    stat = real.stat()
    identity = (platform.machine(), str(real), stat.st_size, stat.st_mtime_ns, FLAGS)
    total = hashlib.sha256(repr(identity).encode())
    for name in (*HEADERS, *SOURCES):
        total.update(hashlib.sha256((HERE / name).read_bytes()).digest())
    return total.hexdigest()


def _compile(compiler: Path, digest: str, path: Path) -> Absent | None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as aside:
            built = Path(aside) / "loop.so"
            command = [str(compiler), *FLAGS, f'-DASSAY_DIGEST="{digest}"', "-o", str(built)]
            command += [*(str(HERE / name) for name in SOURCES), "-ldl"]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=COMPILE_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C"},
                check=False,
            )
            if done.returncode != 0:
                return Absent(f"{compiler} failed: {_first_lines(done.stderr)}")
            _settle(built)
            built.replace(path)
    except OSError as error:
        return Absent(f"cannot build the native loop in {path.parent}: {error.strerror or error}")
    except subprocess.TimeoutExpired:
        return Absent(f"{compiler} did not finish within {COMPILE_TIMEOUT_S} s")
    return None


def _settle(built: Path) -> None:
    """Makes the file ours alone, and whole on disk before it gets its name: loading a library that
    a power cut has truncated would kill the process."""
    built.chmod(0o700)
    with built.open("rb") as file:
        os.fsync(file.fileno())


def _open(path: Path, digest: str) -> ctypes.CDLL | Absent:
    """Loads the file if it is ours and is what its name says."""
    stat = path.stat()
    if stat.st_uid != os.geteuid() or stat.st_mode & 0o022:
        return Absent(f"{path} could have been written by someone else; remove it")
    if digest.encode() not in path.read_bytes():
        return Absent(f"{path} was built from another source; remove it")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        return Absent(f"{path} cannot be loaded: {error}")


def _first_lines(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return "; ".join((errors or lines)[:3]) or "no message"
