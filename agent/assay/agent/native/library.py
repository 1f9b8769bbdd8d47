"""Finds the shared library inside an installed wheel, and its version, without importing it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from assay.core.model import Absent

#: Wheels that carry ai_edge_litert.
LITERT_DISTRIBUTIONS = ("ai-edge-litert", "ai-edge-litert-nightly")
#: LiteRT's C library cannot be asked for its version. Releases from 2.1.6 on declare ABI 1.x, which
#: litert.c speaks; the newest minor version it was tried with ends the range, for a wrong guess
#: about an argument would crash the process.
LITERT_OLDEST = (2, 1, 6)
LITERT_NEWEST_MINOR = (2, 3)


@dataclass(frozen=True, slots=True)
class WheelLibrary:
    """Files that may be the runtime, the likeliest first, and the version their wheel names."""

    candidates: tuple[Path, ...]
    version: str


def onnxruntime_library() -> WheelLibrary | Absent:
    """libonnxruntime of the installed wheel; else the Python module, which in some builds exports
    the C API itself."""
    package = _package_dir("onnxruntime")
    if package is None:
        return Absent("onnxruntime is not installed")
    capi = package / "capi"
    candidates = sorted(capi.glob("libonnxruntime.so*"))
    candidates += sorted(capi.glob("onnxruntime_pybind11_state*.so"))
    if not candidates:
        return Absent(f"no libonnxruntime in {capi}")
    info = capi / "build_and_package_info.py"
    named = re.search(r"""__version__ = ["']([^"']+)""", _text(info))
    if named is None:
        return Absent(f"{info} does not name the wheel's version")
    return WheelLibrary(tuple(candidates), named[1])


def litert_library() -> WheelLibrary | Absent:
    """libLiteRt.so of the installed wheel, where its release declares the ABI litert.c speaks."""
    package = _package_dir("ai_edge_litert")
    if package is None:
        return Absent("ai_edge_litert is not installed")
    path = package / "libLiteRt.so"
    if not path.exists():
        return Absent(f"this ai-edge-litert wheel ships no {path.name} and so no C API")
    version = _distribution_version(LITERT_DISTRIBUTIONS)
    if version is None:
        return Absent("the version of the installed ai-edge-litert is unknown")
    numbers = release_numbers(version)
    if numbers < LITERT_OLDEST or numbers[:2] > LITERT_NEWEST_MINOR:
        return Absent(
            f"ai-edge-litert {version}: the native loop speaks the C API of 2.1.6 to "
            f"{LITERT_NEWEST_MINOR[0]}.{LITERT_NEWEST_MINOR[1]}.x, and the library has no call "
            f"that tells its version"
        )
    return WheelLibrary((path,), version)


def release_numbers(version: str) -> tuple[int, ...]:
    """(1, 23, 2) for 1.23.2, 1.23.2+cpu and 1.23.2.dev20250101."""
    found = re.match(r"\d+(?:\.\d+){0,2}", version)
    return tuple(int(part) for part in found[0].split(".")) if found is not None else ()


def _package_dir(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _distribution_version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
