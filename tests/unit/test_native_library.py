"""Finding the wheel's library and shaking hands with it: what does not match is never called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.agent.native import NativeLoop, library, prepare
from assay.core.model import Absent
from tests.conftest import need

#: What each fake library exports: its version, and whether it offers a table.
FAKE = """
typedef struct { const void *(*get_api)(unsigned); const char *(*version)(void); } Base;
static const void *get_api(unsigned version) { (void)version; return 0; }
static const char *version(void) { return "%s"; }
static const Base base = { get_api, version };
const Base *%s(void) { return &base; }
"""


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> NativeLoop:
    need(program="cc")
    made = prepare(tmp_path_factory.mktemp("native"))
    assert isinstance(made, NativeLoop)
    return made


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed onnxruntime of version 1.40.0 without its library; its capi folder."""
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (capi / "build_and_package_info.py").write_text("__version__ = '1.40.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    return capi


def _build(path: Path, version: str, symbol: str = "OrtGetApiBase") -> None:
    source = path.parent / "fake.c"
    source.write_text(FAKE % (version, symbol))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True)


def _reason(found: object) -> str:
    assert isinstance(found, Absent), found
    return found.reason


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("1.23.2", (1, 23, 2)),
        ("1.23.2+cpu", (1, 23, 2)),
        ("1.24.0.dev20250101", (1, 24, 0)),
        ("2.1.0rc1", (2, 1, 0)),
        ("2", (2,)),
        ("unknown", ()),
    ],
)
def test_release_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert library.release_numbers(version) == numbers


def test_the_installed_wheel_is_found_without_importing_it() -> None:
    need(module="onnxruntime")
    code = (
        "import sys; from assay.agent.native.library import onnxruntime_library as find;"
        "print(find().version, 'onnxruntime' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, imported = shown.stdout.split()
    assert library.release_numbers(version) >= (1, 17)
    assert imported == "False"


def test_a_wheel_without_the_library_is_absent(loop: NativeLoop, wheel: Path) -> None:
    assert _reason(loop.onnxruntime(wheel / "m.onnx")) == f"no libonnxruntime in {wheel}"


def test_a_wheel_that_hides_its_version_is_absent(loop: NativeLoop, wheel: Path) -> None:
    _build(wheel / "libonnxruntime.so.1.40.0", "1.40.0")
    (wheel / "build_and_package_info.py").unlink()
    assert "does not name the wheel's version" in _reason(loop.onnxruntime(wheel / "m.onnx"))


def test_a_library_of_another_version_is_absent(loop: NativeLoop, wheel: Path) -> None:
    need(module="onnxruntime")
    real = subprocess.run(
        [sys.executable, "-c", "import onnxruntime; print(onnxruntime.__file__)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (source,) = (Path(real.stdout.strip()).parent / "capi").glob("libonnxruntime.so.*")
    shutil.copy(source, wheel / "libonnxruntime.so")
    stated = source.name.removeprefix("libonnxruntime.so.")
    assert _reason(loop.onnxruntime(wheel / "m.onnx")) == (
        f"libonnxruntime.so is version {stated}, its wheel 1.40.0"
    )


@pytest.mark.parametrize("version", ["1.4.0", "0.9.0", "2.0.0", "rubbish", ""])
def test_a_version_the_loop_does_not_speak_is_absent(
    loop: NativeLoop, wheel: Path, version: str
) -> None:
    _build(wheel / "libonnxruntime.so.1", version)
    reason = _reason(loop.onnxruntime(wheel / "m.onnx"))
    assert reason.endswith(f"is version {version}; 1.5 or later of 1 is needed")


def test_a_library_that_offers_no_table_is_absent(loop: NativeLoop, wheel: Path) -> None:
    _build(wheel / "libonnxruntime.so.1.40.0", "1.40.0")
    reason = _reason(loop.onnxruntime(wheel / "m.onnx"))
    assert reason.endswith("1.40.0 does not offer version 5 of its C API")


def test_a_library_without_the_entry_point_is_absent(loop: NativeLoop, wheel: Path) -> None:
    _build(wheel / "libonnxruntime.so.1.40.0", "1.40.0", symbol="SomethingElse")
    assert "exports no OrtGetApiBase" in _reason(loop.onnxruntime(wheel / "m.onnx"))


def test_a_file_that_is_no_library_is_absent(loop: NativeLoop, wheel: Path) -> None:
    (wheel / "libonnxruntime.so.1.40.0").write_text("rubbish")
    assert "libonnxruntime.so.1.40.0" in _reason(loop.onnxruntime(wheel / "m.onnx"))


def test_the_python_module_is_tried_after_the_library(loop: NativeLoop, wheel: Path) -> None:
    _build(wheel / "onnxruntime_pybind11_state.cpython-311-aarch64-linux-gnu.so", "1.4.0")
    assert "pybind11_state" in _reason(loop.onnxruntime(wheel / "m.onnx"))


def test_litert_outside_the_versions_tried_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    need(module="ai_edge_litert")
    for version in ("1.4.0", "2.1.5", "2.4.0", "3.0.0"):
        monkeypatch.setattr(library, "_distribution_version", lambda names, v=version: v)
        assert "speaks the C API of 2.1.6 to" in _reason(library.litert_library())
    monkeypatch.setattr(library, "_distribution_version", lambda names: None)
    assert "unknown" in _reason(library.litert_library())


def test_litert_without_its_library_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "ai_edge_litert", raising=False)
    assert "ships no libLiteRt.so" in _reason(library.litert_library())


def test_a_litert_library_with_missing_symbols_is_absent_or_refused(
    loop: NativeLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "libLiteRt.so"
    _build(path, "2.3.0", symbol="LiteRtCreateEnvironment")
    monkeypatch.setattr(
        "assay.agent.native.loop.litert_library",
        lambda: library.WheelLibrary((path,), "2.3.0"),
    )
    reason = _reason(loop.litert(tmp_path / "m.tflite"))
    assert "exports no LiteRtDestroyEnvironment" in reason
