"""Building the native loop: once, for any number of processes, and never from a bad file."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from assay.agent.native import NativeLoop, abi, compiler, prepare
from assay.core.model import Absent
from tests.conftest import need


@pytest.fixture(autouse=True)
def _quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    need(program="cc")
    quick = tuple(flag for flag in compiler.FLAGS if flag != "-O2")
    monkeypatch.setattr(compiler, "FLAGS", quick)


def _built(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.iterdir())


def _fake_compiler(folder: Path, script: str) -> None:
    path = folder / "cc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_first_use_compiles_and_the_next_loads(tmp_path: Path) -> None:
    cache_dir = tmp_path / "deep" / "cache"
    assert isinstance(prepare(cache_dir), NativeLoop)
    (path,) = _built(cache_dir)
    first = path.stat()
    assert isinstance(prepare(cache_dir), NativeLoop)
    assert _built(cache_dir) == [path]
    assert path.stat().st_ino == first.st_ino
    assert stat.S_IMODE(first.st_mode) == 0o700


def test_no_compiler_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert prepare(tmp_path / "cache") == Absent(
        "no C compiler on PATH (looked for cc, gcc, clang)"
    )


def test_a_failing_compiler_is_absent_with_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_compiler(tmp_path, "echo 'warm words' >&2; echo 'loop.c:1: error: no libc' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = prepare(tmp_path / "cache")
    assert found == Absent(f"{tmp_path}/cc failed: loop.c:1: error: no libc")
    assert _built(tmp_path / "cache") == [], "nothing is left behind"


def test_a_compiler_that_makes_nothing_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_compiler(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert isinstance(prepare(tmp_path / "cache"), Absent)


def test_a_compiler_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_compiler(tmp_path, "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(compiler, "COMPILE_TIMEOUT_S", 0.1)
    found = prepare(tmp_path / "cache")
    assert isinstance(found, Absent)
    assert "did not finish within 0.1 s" in found.reason


def test_an_unusable_directory_is_absent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = prepare(tmp_path / "file" / "cache")
    assert isinstance(found, Absent)
    assert "cannot build the native loop" in found.reason


@pytest.mark.parametrize("content", [b"", b"\x7fELF rubbish"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, content: bytes) -> None:
    digest = compiler.source_digest(_found())
    path = tmp_path / f"assay-native-{digest[:32]}.so"
    path.write_bytes(content)
    assert isinstance(prepare(tmp_path), NativeLoop)
    assert path.stat().st_size > 1000


def test_a_library_of_another_source_is_rebuilt(tmp_path: Path) -> None:
    digest = compiler.source_digest(_found())
    path = tmp_path / f"assay-native-{digest[:32]}.so"
    command = ["cc", *compiler.FLAGS, '-DASSAY_DIGEST="stale"', "-o", str(path)]
    sources = [str(compiler.HERE / name) for name in compiler.SOURCES]
    subprocess.run([*command, *sources], check=True)
    path.chmod(0o700)
    assert isinstance(prepare(tmp_path), NativeLoop)
    assert digest.encode() in path.read_bytes()


def test_a_library_others_could_write_is_not_loaded(tmp_path: Path) -> None:
    prepare(tmp_path)
    (path,) = _built(tmp_path)
    path.chmod(0o777)
    before = path.stat().st_ino
    assert isinstance(prepare(tmp_path), NativeLoop)
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_the_name_follows_source_flags_and_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiler.source_digest(_found())
    monkeypatch.setattr(compiler, "FLAGS", (*compiler.FLAGS, "-O1"))
    second = compiler.source_digest(_found())
    sources = tmp_path / "sources"
    shutil.copytree(compiler.HERE, sources)
    with (sources / "loop.c").open("a") as file:
        file.write("/* changed */\n")
    monkeypatch.setattr(compiler, "HERE", sources)
    third = compiler.source_digest(_found())
    _fake_compiler(tmp_path, "exit 0")
    fourth = compiler.source_digest(tmp_path / "cc")
    assert len({first, second, third, fourth}) == 4


def test_processes_at_once_all_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from assay.agent.native import prepare, NativeLoop;"
        "sys.exit(0 if isinstance(prepare(Path(sys.argv[1])), NativeLoop) else 1)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cache")]) for _ in range(3)
    ]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(_built(tmp_path / "cache")) == 1


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    command = [
        "cc",
        *compiler.FLAGS,
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(tmp_path / "x.so"),
    ]
    sources = [str(compiler.HERE / name) for name in compiler.SOURCES]
    subprocess.run([*command, *sources, "-ldl"], check=True)


def test_structures_have_the_sizes_c_gives_them(tmp_path: Path) -> None:
    (tmp_path / "sizes.c").write_text(
        '#include "native.h"\n#include <stdio.h>\n'
        "int main(void) {\n"
        '    printf("%zu %d %d %d", sizeof(struct assay_tensor), ASSAY_MAX_RANK,\n'
        "           ASSAY_MESSAGE_BYTES, ASSAY_NAME_BYTES);\n"
        "}\n"
    )
    program = tmp_path / "sizes"
    command = ["cc", "-I", str(compiler.HERE), "-o", str(program), str(tmp_path / "sizes.c")]
    subprocess.run(command, check=True)
    shown = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    assert [int(part) for part in shown.split()] == [
        ctypes.sizeof(abi.Tensor),
        abi.MAX_RANK,
        abi.MESSAGE_BYTES,
        abi.NAME_BYTES,
    ]


def test_wrong_arguments_raise_instead_of_crashing(tmp_path: Path) -> None:
    library = compiler.load(tmp_path)
    assert isinstance(library, ctypes.CDLL)
    abi.declare(library)
    with pytest.raises(ctypes.ArgumentError):
        library.assay_floor("many", abi.longs(np.zeros(1, np.int64)))
    with pytest.raises(TypeError):
        library.assay_run_block(None)


def _found() -> Path:
    found = compiler.find_compiler()
    assert found is not None
    return found
