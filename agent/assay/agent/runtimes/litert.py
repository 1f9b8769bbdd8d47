"""LiteRT (``ai_edge_litert``), and ``tflite_runtime`` on boards that have only that.

There is one set of input tensors, so a query's inputs are copied in, untimed, before its call. The
timed call is the interpreter's C++ ``Invoke``; the Python wrapper around it checks for live views
first, and is called where a build has no such attribute. The old tflite-runtime imports under
numpy 2 and then fails at its first interpreter: only a real inference proves it.
"""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assay.agent.runtimes.base import (
    Bound,
    Call,
    check_names,
    check_version,
    first_line,
    listed,
    placed,
    raw,
    refusal,
)
from assay.agent.runtimes.litert_delegate import ExternalDelegate, external_delegate
from assay.agent.runtimes.litert_graph import LiteRtGraph
from assay.core.errors import AssayError, RuntimeAbsent, RuntimeRejected
from assay.core.model import MEDIA_TFLITE, Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.runtimes.base import Feed

_XNNPACK, _BUILTIN = "XNNPACK", "builtin"
_FAILURES = (ValueError, RuntimeError, TypeError, MemoryError)

# y = RELU(x) for float32[4], schema version 3; tests look into it.
_ONE_OPERATOR = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAA0AAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAM"
    "ABQAEAAMAAgABAAMAAAAEAAAADwAAABAAAAARAAAAAEAAAAQAAAAAAAKAAwAAAAIAAQACgAAAAgAAAAMAAAAAQAAAAEA"
    "AAABAAAAAAAAAAEAAAABAAAAAQAAAAAAAAACAAAAMAAAAAQAAADk////CAAAAAwAAAABAAAAeQAAAAEAAAAEAAAADAAM"
    "AAgAAAAAAAQADAAAAAgAAAAMAAAAAQAAAHgAAAABAAAABAAAAAEAAAAQAAAADAAMAAsAAAAAAAQADAAAABMAAAAAAAAT"
)


class LiteRt:
    """Runs ``.tflite`` files."""

    name: ClassVar[str] = "litert"
    media_type: ClassVar[str] = MEDIA_TFLITE

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
            return Absent(f"LiteRT computed RELU(-1, 0, 1, 2) as {output.tolist()}")
        return RuntimeFacts(cls.name, cls.version(), (_XNNPACK, _BUILTIN))

    @classmethod
    def version(cls) -> str:
        """The library's version; ``tflite-runtime 2.14.0`` for the fallback."""
        return _library()[1]

    @classmethod
    def one_operator_model(cls) -> bytes:
        """RELU on four floats."""
        return _ONE_OPERATOR

    @classmethod
    def load(cls, model: Path | bytes, spec: RuntimeSpec) -> LiteRtModel:
        """Makes an interpreter and allocates its tensors; provider ``XNNPACK`` (the default) or
        ``builtin``; the options name a delegate (:mod:`.litert_delegate`)."""
        library, version = _library()
        check_version(cls.name, version, spec)
        if spec.provider not in ("", _XNNPACK, _BUILTIN):
            raise RuntimeAbsent(f"LiteRT has {_XNNPACK} and {_BUILTIN}, not {spec.provider}")
        delegate = external_delegate(library, spec.options)
        resolvers = library.OpResolverType
        plain = spec.provider == _BUILTIN or delegate is not None
        try:
            interpreter = library.Interpreter(
                model_content=model if isinstance(model, bytes) else model.read_bytes(),
                num_threads=spec.threads,
                experimental_op_resolver_type=resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                if plain
                else resolvers.AUTO,
                experimental_delegates=[] if delegate is None else [delegate.delegate],
            )
            allocated = _allocate(interpreter)
        except _FAILURES as error:
            raise refusal("LiteRT refused the model", error) from error
        return LiteRtModel(interpreter, version, spec, delegate, allocated=allocated)


@dataclass(frozen=True, slots=True)
class _Calls:
    """The interpreter's functions, all of one level: holding the C++ ones makes the Python ones
    refuse to work (they count references, fearing views)."""

    put: Callable[[int, NDArray[Any]], object]
    invoke: Call
    get: Callable[[int], NDArray[Any]]
    resize: Callable[[int, tuple[int, ...]], object]
    allocate: Call
    public: bool


class LiteRtModel:
    """An interpreter; see :class:`assay.agent.runtimes.base.LoadedModel`."""

    def __init__(
        self,
        interpreter: Any,
        version: str,
        spec: RuntimeSpec,
        delegate: ExternalDelegate | None = None,
        *,
        allocated: bool = True,
    ) -> None:
        self._interpreter = interpreter
        self._delegate = delegate
        self._asked = spec.provider == _XNNPACK or delegate is not None
        self.runtime_version = version
        details = interpreter.get_input_details()
        self._outputs = interpreter.get_output_details()
        self._index = {detail["name"]: int(detail["index"]) for detail in details}
        shapes = {d["name"]: tuple(int(size) for size in d["shape"]) for d in details}
        # Empty until tensors are allocated.
        self._shapes = shapes if allocated else {}
        self.inputs = tuple(_tensor(detail) for detail in details)
        self.outputs = tuple(_tensor(detail) for detail in self._outputs)
        self._calls = _calls(interpreter)
        graph = LiteRtGraph(interpreter)
        self.precision, self.remembers = graph.precision(), graph.remembers()

    def bind(self, feeds: Sequence[Feed]) -> Bound:
        """The inputs of each feed stay where they are and are copied in by its stage."""
        check_names(self.inputs, feeds[0])
        self._resize({name: array.shape for name, array in feeds[0].items()})
        fidelity = Fidelity.PUBLIC_API if self._calls.public else Fidelity.RAW_BINDING
        calls = (self._calls.invoke,) * len(feeds)
        stages = tuple(self._stage(feed) for feed in feeds)
        return Bound(calls, stages, lambda _: self._copy_outputs(), fidelity, rewritable=True)

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs, for inputs of any shape the model takes; what is bound stays bound."""
        check_names(self.inputs, feed)
        bound_shapes = dict(self._shapes)
        self._resize({name: array.shape for name, array in feed.items()})
        try:
            for name, array in feed.items():
                self._calls.put(self._index[name], array)
            self._calls.invoke()
        except _FAILURES as error:
            raise refusal("LiteRT failed to run", error) from error
        outputs = self._copy_outputs()
        self._resize(bound_shapes)
        return outputs

    def placement(self) -> tuple[str, ...]:
        """Which operators the delegate took, and which it left."""
        name = _XNNPACK if self._delegate is None else self._delegate.name
        parts = zip((name, _BUILTIN), LiteRtGraph(self._interpreter).placed(), strict=True)
        return tuple(placed(where, counts) for where, counts in parts if counts)

    def fallback(self) -> str:
        """Operators that the delegate left to the built-in kernels, where the run asks for it."""
        if not self._asked:
            return ""
        return listed(LiteRtGraph(self._interpreter).placed()[1])

    def close(self) -> None:
        """Drops the interpreter."""
        self._interpreter = None

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Gives open dimensions these sizes and allocates anew if any changed."""
        if shapes == self._shapes:
            return
        try:
            for name, shape in shapes.items():
                if shape != self._shapes.get(name):
                    self._calls.resize(self._index[name], shape)
            self._calls.allocate()
        except _FAILURES as error:
            raise refusal("LiteRT refused to bind", error) from error
        self._shapes = shapes

    def _stage(self, feed: Feed) -> Call:
        parts = [raw(self._calls.put, self._index[name], array) for name, array in feed.items()]
        if len(parts) == 1:
            return parts[0]

        def put_all() -> None:
            for part in parts:
                part()

        return put_all

    def _copy_outputs(self) -> list[NDArray[Any]]:
        return [self._calls.get(detail["index"]) for detail in self._outputs]


def _allocate(interpreter: Any) -> bool:
    """False where that has to wait for inputs: files give open dimensions the size 1, which some
    models cannot compute."""
    try:
        interpreter.allocate_tensors()
    except RuntimeError:
        signatures = [
            detail.get("shape_signature", ()) for detail in interpreter.get_input_details()
        ]
        if not any(-1 in signature for signature in signatures):
            raise
        return False
    return True


def _calls(interpreter: Any) -> _Calls:
    import numpy as np

    bare = getattr(interpreter, "_interpreter", None)
    wanted = ("SetTensor", "Invoke", "GetTensor", "ResizeInputTensor", "AllocateTensors")
    if not all(hasattr(bare, name) for name in wanted):
        return _Calls(
            interpreter.set_tensor,
            interpreter.invoke,
            interpreter.get_tensor,
            lambda index, shape: interpreter.resize_tensor_input(index, shape, strict=True),
            interpreter.allocate_tensors,
            public=True,
        )
    assert bare is not None
    return _Calls(
        bare.SetTensor,
        raw(bare.Invoke),
        lambda index: bare.GetTensor(index, 0),
        lambda index, shape: bare.ResizeInputTensor(index, np.array(shape, dtype=np.int32), True),
        bare.AllocateTensors,
        public=False,
    )


def _library() -> tuple[Any, str]:
    """The interpreter module and its version."""
    reasons = []
    for module, package in (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "")):
        try:
            library = importlib.import_module(f"{module}.interpreter")
        except (ImportError, OSError, AttributeError) as error:
            reasons.append(f"{module}: {first_line(error)}")
            continue
        return library, _version(package or "tflite-runtime", bare=bool(package))
    raise RuntimeAbsent(
        f"no TFLite runtime can be imported here ({'; '.join(reasons)}); install one with "
        "pip install 'assay-fleet[litert]'"
    )


def _version(package: str, *, bare: bool) -> str:
    from importlib import metadata

    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "unknown"
    return version if bare else f"{package} {version}"


def _tensor(detail: dict[str, Any]) -> TensorSpec:
    import numpy as np

    try:
        dtype = np.dtype(detail["dtype"])
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise RuntimeRejected(f"{detail['name']} holds {dtype.name}: only numbers are measured")
    open_dims = detail.get("shape_signature")
    signature = detail["shape"] if open_dims is None or not len(open_dims) else open_dims
    scales = detail["quantization_parameters"]["scales"]
    points = detail["quantization_parameters"]["zero_points"]
    quantised = len(scales) == 1 and dtype.kind in "iu"
    return TensorSpec(
        name=detail["name"],
        dtype=dtype.name,
        shape=tuple(int(size) if size >= 0 else None for size in signature),
        symbols=("",) * len(signature),
        scale=float(scales[0]) if quantised else 0.0,
        zero_point=int(points[0]) if quantised else 0,
    )


RUNTIME = LiteRt
