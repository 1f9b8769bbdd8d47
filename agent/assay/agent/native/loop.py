"""The compiled loop and the runtimes it can open."""

from __future__ import annotations

import ctypes
from pathlib import Path

from assay.agent.native import abi, compiler
from assay.agent.native.library import litert_library, onnxruntime_library, release_numbers
from assay.agent.native.session import NativeSession, Origin
from assay.agent.native.settings import LitertSettings, OrtSettings
from assay.agent.native.tensors import LITERT_TYPES, ONNXRUNTIME_TYPES
from assay.core.errors import RuntimeRejected
from assay.core.model import Absent

CPU_PROVIDER = "CPUExecutionProvider"


def prepare(cache_dir: Path) -> NativeLoop | Absent:
    """The loop, compiled into ``cache_dir`` on first use (about a second on a PC, then 1 ms).

    Safe for several processes at once. Call it once before the process is pinned or given a
    real-time priority, which the compiler would inherit. Absent says why there is none.
    """
    library = compiler.load(cache_dir)
    return library if isinstance(library, Absent) else NativeLoop(abi.declare(library))


class NativeLoop:
    """Opens sessions that are timed in C; keeps nothing open itself."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def onnxruntime(
        self, model_path: Path, settings: OrtSettings | None = None, provider: str = CPU_PROVIDER
    ) -> NativeSession | Absent:
        """A session over the libonnxruntime of the installed wheel.

        Absent without the wheel, where the library is not of the wheel's version, for a provider
        other than the CPU's, and for models with strings, sequences or packed types at their ends.
        Raises RuntimeRejected with onnxruntime's own message where it refuses the model.
        """
        if provider not in ("", CPU_PROVIDER):
            return Absent(f"the native loop drives {CPU_PROVIDER} only, not {provider}")
        found = self._onnxruntime_library()
        if isinstance(found, Absent):
            return found
        path, version = found
        wanted = abi.ort_settings(settings if settings is not None else OrtSettings())
        handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(abi.MESSAGE_BYTES)
        status = self._library.assay_ort_open(
            _encoded(path), _encoded(model_path), wanted, handle, message
        )
        origin = Origin("onnxruntime", version, path, ONNXRUNTIME_TYPES, False)
        return self._session(status, handle, message, model_path, origin)

    def litert(
        self, model_path: Path, settings: LitertSettings | None = None
    ) -> NativeSession | Absent:
        """A session over the libLiteRt of the installed wheel: LiteRT's CompiledModel on the CPU.

        That is not the Interpreter of the Python package, which is linked into a library that
        exports nothing; docs/native-loop.md compares the two. Absent and errors as above.
        """
        found = litert_library()
        if isinstance(found, Absent):
            return found
        path = found.candidates[0]
        threads = (settings if settings is not None else LitertSettings()).threads
        handle, message = ctypes.c_void_p(), ctypes.create_string_buffer(abi.MESSAGE_BYTES)
        status = self._library.assay_litert_open(
            _encoded(path), _encoded(model_path), threads, handle, message
        )
        origin = Origin("litert", found.version, path, LITERT_TYPES, True)
        return self._session(status, handle, message, model_path, origin)

    def _session(
        self,
        status: int,
        handle: ctypes.c_void_p,
        message: ctypes.Array[ctypes.c_char],
        model_path: Path,
        origin: Origin,
    ) -> NativeSession | Absent:
        reason = message.value.decode(errors="replace")
        if status == abi.ABSENT:
            return Absent(reason)
        if status != 0 or handle.value is None:
            raise RuntimeRejected(f"{origin.runtime} refused {model_path.name}: {reason}")
        session = NativeSession(self._library, handle.value, origin)
        undrivable = session.undrivable()
        if undrivable:
            session.close()
            return Absent(f"{model_path.name}: {undrivable}")
        return session

    def _onnxruntime_library(self) -> tuple[Path, str] | Absent:
        """The first candidate that shakes hands, with the version it states of itself."""
        wheel = onnxruntime_library()
        if isinstance(wheel, Absent):
            return wheel
        reasons: list[str] = []
        for path in wheel.candidates:
            version = ctypes.create_string_buffer(64)
            message = ctypes.create_string_buffer(abi.MESSAGE_BYTES)
            if self._library.assay_ort_version(_encoded(path), version, 64, message) != 0:
                reasons.append(message.value.decode(errors="replace"))
                continue
            stated = version.value.decode(errors="replace")
            if release_numbers(stated) == release_numbers(wheel.version):
                return path, stated
            reasons.append(f"{path.name} is version {stated}, its wheel {wheel.version}")
        return Absent("; ".join(reasons))


def _encoded(path: Path) -> bytes:
    return str(path).encode()
