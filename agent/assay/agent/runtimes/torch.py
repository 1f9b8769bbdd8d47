"""torch: an ExportedProgram run eagerly, the reference other runtimes are compared with.

The file is what ``torch.export.save`` wrote; it needs no model class, and unlike an AOTInductor
package it holds no code for one processor. Slow and large on purpose: it is the network as trained.
"""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assay.agent.runtimes.base import Bound, Call, check_names, check_version, placed
from assay.core.errors import AssayError, RuntimeAbsent, RuntimeRejected
from assay.core.model import MEDIA_TORCH, Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.runtimes.base import Feed

_CPU = "CPU"
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
# What torch.export.load raises for files it did not write, by the layer that notices.
_NO_PROGRAM = (
    *_FAILURES,
    OSError,
    KeyError,
    EOFError,
    AttributeError,
    ImportError,
    zipfile.BadZipFile,
    pickle.UnpicklingError,
)


class Torch:
    """Runs ``.pt2`` files."""

    name: ClassVar[str] = "torch"
    media_type: ClassVar[str] = MEDIA_TORCH

    @classmethod
    def probe(cls) -> RuntimeFacts | Absent:
        """Facts after a real inference, or why there is none."""
        import numpy as np

        try:
            model = cls.load(cls.one_operator_model(), RuntimeSpec(cls.name))
            (output,) = model.run({"x": np.array([-1, 0, 1, 2], dtype=np.float32)})
        except (AssayError, *_FAILURES) as error:
            return Absent(str(error))
        if output.tolist() != [0, 0, 1, 2]:
            return Absent(f"torch computed RELU(-1, 0, 1, 2) as {output.tolist()}")
        return RuntimeFacts(cls.name, cls.version(), (_CPU,))

    @classmethod
    def version(cls) -> str:
        """The library's version without its build tag (``+cpu``)."""
        return str(_library().__version__).partition("+")[0]

    @classmethod
    def one_operator_model(cls) -> bytes:
        """RELU on four floats, exported here: a program is tied to the versions that read it."""
        return _relu()

    @classmethod
    def load(cls, model: Path | bytes, spec: RuntimeSpec) -> TorchModel:
        """Reads a program and makes its module; no options, provider ``CPU``."""
        torch = _library()
        check_version(cls.name, cls.version(), spec)
        if spec.provider not in ("", _CPU):
            raise RuntimeAbsent(f"torch runs on {_CPU} here, not on {spec.provider}")
        if spec.options:
            raise RuntimeRejected(f"torch takes no options; given: {', '.join(spec.options)}")
        content = model if isinstance(model, bytes) else model.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise RuntimeRejected("torch refused the model: not a program of torch.export.save")
        torch.set_num_threads(spec.threads)
        try:
            _require_no_native_code(content)
            program = torch.export.load(io.BytesIO(content))
            return TorchModel(torch, program, cls.version())
        except _NO_PROGRAM as error:
            raise RuntimeRejected(f"torch refused the model: {_first_line(error)}") from error


class TorchModel:
    """A program; see :class:`assay.agent.runtimes.base.LoadedModel`."""

    remembers = False

    def __init__(self, torch: Any, program: Any, version: str) -> None:
        self._torch = torch
        # Nothing to differentiate by, so nothing is recorded; the process's own switch is not ours.
        self._module = program.module().requires_grad_(False)
        self.runtime_version = version
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        signature = program.graph_signature
        self.inputs = tuple(_spec(name, values[name]) for name in signature.user_inputs)
        self.outputs = tuple(_spec(name, values[name]) for name in signature.user_outputs)
        self._operators = Counter(
            str(node.target) for node in program.graph.nodes if node.op == "call_function"
        )
        self.precision = _precision(program.state_dict.values())

    def bind(self, feeds: Sequence[Feed]) -> Bound:
        """Each feed's inputs are copied into tensors now, untimed."""
        last: list[Any] = []
        self._require_shapes(feeds[0])
        calls = tuple(self._call(self._tensors(feed), last) for feed in feeds)
        return Bound(calls, None, lambda _: self._copies(last), Fidelity.PUBLIC_API)

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs, for inputs of any shape the program takes."""
        last: list[Any] = []
        self._require_shapes(feed)
        try:
            self._call(self._tensors(feed), last)()
        except _FAILURES as error:
            raise RuntimeRejected(f"torch failed to run: {_first_line(error)}") from error
        return self._copies(last)

    def placement(self) -> tuple[str, ...]:
        """Every operator runs eagerly on the CPU."""
        return (placed(f"{_CPU} eager", self._operators),)

    def fallback(self) -> str:
        """Never: there is one provider."""
        return ""

    def close(self) -> None:
        """Drops the module."""
        self._module = None

    def _call(self, tensors: tuple[Any, ...], last: list[Any]) -> Call:
        module = self._module

        def infer() -> None:
            last[:] = (module(*tensors),)

        return infer

    def _tensors(self, feed: Feed) -> tuple[Any, ...]:
        check_names(self.inputs, feed)
        return tuple(self._torch.from_numpy(feed[spec.name].copy()) for spec in self.inputs)

    def _require_shapes(self, feed: Feed) -> None:
        """The program's own guards speak of symbols; some let a wrong type pass."""
        check_names(self.inputs, feed)
        for spec in self.inputs:
            array = feed[spec.name]
            fits = len(array.shape) == len(spec.shape) and all(
                wanted in (None, size) for wanted, size in zip(spec.shape, array.shape, strict=True)
            )
            if not fits or array.dtype.name != spec.dtype:
                given = f"{array.dtype.name}{list(array.shape)}"
                raise RuntimeRejected(f"torch: the program takes {spec}, this is {given}")

    def _copies(self, last: list[Any]) -> list[NDArray[Any]]:
        import numpy as np

        if not last:
            return [
                np.zeros([size or 0 for size in spec.shape], dtype=spec.dtype)
                for spec in self.outputs
            ]
        found = last[0]
        outputs = found if isinstance(found, (tuple, list)) else (found,)
        return [output.detach().numpy().copy() for output in outputs]


def _library() -> Any:
    import importlib

    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        raise RuntimeAbsent(
            f"torch cannot be imported here ({_first_line(error)}); it is the reference on large "
            "hosts: pip install -c constraints.txt 'assay-fleet[variants]'"
        ) from error


def _require_no_native_code(content: bytes) -> None:
    """Code compiled for one processor would run here or die here, and is no reference anywhere."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        names = file.namelist()
    if any("/aotinductor/" in name or name.endswith(".so") for name in names):
        raise RuntimeRejected(
            "torch refused the model: it is an AOTInductor package, which holds code for one "
            "processor; write it with torch.export.save"
        )


@functools.cache
def _relu() -> bytes:
    torch = _library()

    class Relu(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return torch.relu(x)

    out = io.BytesIO()
    torch.export.save(torch.export.export(Relu(), (torch.zeros(4),)), out)
    return out.getvalue()


def _spec(name: str, value: Any) -> TensorSpec:
    dtype = str(value.dtype).removeprefix("torch.")
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    symbols = tuple("" if isinstance(size, int) else str(size) for size in value.shape)
    return TensorSpec(name, dtype, sizes, symbols)


def _precision(weights: Any) -> str:
    """The type most weights have."""
    elements: Counter[str] = Counter()
    for tensor in weights:
        elements[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return elements.most_common(1)[0][0] if elements else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


RUNTIME = Torch
