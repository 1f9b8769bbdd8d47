"""ONNX Runtime by its C-level binding: inputs and outputs preallocated, no Python in the call.

Calling the session's C++ object (``run_with_iobinding`` of the extension module) skips a Python
wrapper that costs half a microsecond; where a build has no such attribute the public method is
called and the fidelity says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from assay.agent.runtimes.onnx_weights import weight_precision
from assay.core.errors import AssayError, RuntimeAbsent, RuntimeRejected
from assay.core.model import MEDIA_ONNX, Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.tensors import STRING, TensorSpec, symbol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.runtimes.base import Feed

_CPU = "CPUExecutionProvider"
# Sends inference to a cloud service; it is in every build and no part of the device.
_REMOTE = "AzureExecutionProvider"
_TYPES: Mapping[str, str] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": STRING,
}
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_CUSTOM_OPS = "custom_ops_library"
_SWITCHES = {"0": False, "1": True}
_OPTIONS: Mapping[str, Mapping[str, object]] = {
    "graph_optimization_level": _LEVELS,
    "cpu_mem_arena": _SWITCHES,
    "mem_pattern": _SWITCHES,
}

# y = Relu(x) for float[4], IR 8, opset 13; tests read it back with the onnx package.
_ONE_OPERATOR = bytes.fromhex(
    "08083a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08080112040a020804"
    "620f0a0179120a0a08080112040a02080442040a00100d"
)


class OnnxRuntime:
    """Runs ``.onnx`` files."""

    name: ClassVar[str] = "onnxruntime"
    media_type: ClassVar[str] = MEDIA_ONNX

    @classmethod
    def probe(cls) -> RuntimeFacts | Absent:
        """Facts after a real inference, or why there is none."""
        import numpy as np

        failures: tuple[type[Exception], ...] = (AssayError, *_failures())
        try:
            model = cls.load(cls.one_operator_model(), RuntimeSpec(cls.name))
            (output,) = model.run({"x": np.array([-1, 0, 1, 2], dtype=np.float32)})
        except failures as error:
            return Absent(str(error))
        if output.tolist() != [0, 0, 1, 2]:
            return Absent(f"onnxruntime computed Relu(-1, 0, 1, 2) as {output.tolist()}")
        return RuntimeFacts(cls.name, cls.version(), _providers())

    @classmethod
    def version(cls) -> str:
        """The library's version."""
        return str(_library().__version__)

    @classmethod
    def one_operator_model(cls) -> bytes:
        """Relu on four floats."""
        return _ONE_OPERATOR

    @classmethod
    def load(cls, model: Path | bytes, spec: RuntimeSpec) -> OnnxModel:
        """Opens a session; options are ``graph_optimization_level`` (disable, basic, extended,
        all), ``cpu_mem_arena`` and ``mem_pattern`` (0, 1), and ``custom_ops_library``, the path of
        a library of operators on the device."""
        library = _library()
        check_version(cls.name, cls.version(), spec)
        provider = spec.provider or _CPU
        if provider not in _providers():
            raise RuntimeAbsent(
                f"onnxruntime has no provider {provider} here; it has {', '.join(_providers())}"
            )
        options = _session_options(library, spec)
        source = model if isinstance(model, bytes) else str(model)
        chosen = [provider] if provider == _CPU else [provider, _CPU]
        try:
            session = library.InferenceSession(source, options, providers=chosen)
        except _failures() as error:
            raise refusal("onnxruntime refused the model", error) from error
        content = model if isinstance(model, bytes) else model.read_bytes()
        return OnnxModel(session, provider, weight_precision(content))


class OnnxModel:
    """A session; see :class:`assay.agent.runtimes.base.LoadedModel`."""

    remembers = False

    def __init__(self, session: Any, provider: str, precision: str) -> None:
        self._session = session
        self._provider = provider
        self._bindings: list[Any] = []
        self.precision = precision
        self.runtime_version = OnnxRuntime.version()
        self.inputs = tuple(_tensor(arg) for arg in session.get_inputs())
        self.outputs = tuple(_tensor(arg) for arg in session.get_outputs())

    def bind(self, feeds: Sequence[Feed]) -> Bound:
        """One IOBinding per feed; the outputs' buffers are shared between them. Text cannot be
        bound: such a model is timed through the session's own ``run``."""
        for feed in feeds:
            check_names(self.inputs, feed)
        if any(spec.dtype == STRING for spec in (*self.inputs, *self.outputs)):
            return self._unbound(feeds)
        buffers = self._output_buffers(feeds[0])
        try:
            self._bindings = [self._binding(feed, buffers) for feed in feeds]
        except _failures() as error:
            raise refusal("onnxruntime refused to bind", error) from error
        calls, fidelity = self._calls()
        return Bound(
            calls, None, lambda i: self._copy_outputs(i, buffers), fidelity, rewritable=True
        )

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs by ``InferenceSession.run``."""
        check_names(self.inputs, feed)
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, dict(feed))
        except _failures() as error:
            raise refusal("onnxruntime failed to run", error) from error
        return outputs

    def placement(self) -> tuple[str, ...]:
        """Operators of the optimised graph by provider; only the providers' names before
        onnxruntime 1.24."""
        counts = self._assigned()
        if not counts:
            return tuple(self._session.get_providers())
        return tuple(placed(provider, operators) for provider, operators in counts.items())

    def fallback(self) -> str:
        """Operators that the provider asked for left to the CPU."""
        if self._provider == _CPU:
            return ""
        return listed(self._assigned().get(_CPU, {}))

    def close(self) -> None:
        """Drops bindings and session."""
        self._bindings = []
        self._session = None

    def _unbound(self, feeds: Sequence[Feed]) -> Bound:
        run, last = self._session.run, list[Any]()

        def call(feed: dict[str, Any]) -> None:
            last[:] = run(None, feed)

        calls = tuple(raw(call, dict(feed)) for feed in feeds)
        return Bound(calls, None, lambda _: list(last), Fidelity.PUBLIC_API, rewritable=True)

    def _binding(self, feed: Feed, buffers: list[NDArray[Any] | None]) -> Any:
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_cpu_input(name, array)
        for spec, buffer in zip(self.outputs, buffers, strict=True):
            if buffer is None:
                binding.bind_output(spec.name)
            else:
                place = (buffer.dtype.type, buffer.shape, buffer.ctypes.data)
                binding.bind_output(spec.name, "cpu", 0, *place)
        return binding

    def _calls(self) -> tuple[tuple[Call, ...], Fidelity]:
        session = getattr(self._session, "_sess", None)
        if session is None or not all(hasattr(b, "_iobinding") for b in self._bindings):
            public = self._session.run_with_iobinding
            return tuple(raw(public, b) for b in self._bindings), Fidelity.PUBLIC_API
        fast = session.run_with_iobinding
        return tuple(raw(fast, b._iobinding, None) for b in self._bindings), Fidelity.RAW_BINDING

    def _output_buffers(self, feed: Feed) -> list[NDArray[Any] | None]:
        """A buffer for each output whose shape is declared, its first dimension perhaps by the
        name it has in an input; None where the runtime has to allocate it, call by call.

        Names further inside are not relied on: exporters repeat them where sizes differ.
        """
        import numpy as np

        batches = {
            spec.symbols[0]: feed[spec.name].shape[0]
            for spec in self.inputs
            if spec.symbols and spec.symbols[0] and feed[spec.name].ndim
        }
        buffers: list[NDArray[Any] | None] = []
        for spec in self.outputs:
            shape = list(spec.shape)
            if shape and shape[0] is None:
                shape[0] = batches.get(spec.symbols[0])
            known = [size for size in shape if size is not None]
            whole = len(known) == len(shape)
            buffers.append(np.zeros(known, dtype=spec.dtype) if whole else None)
        return buffers

    def _copy_outputs(self, i: int, buffers: list[NDArray[Any] | None]) -> list[NDArray[Any]]:
        if all(buffer is not None for buffer in buffers):
            return [buffer.copy() for buffer in buffers if buffer is not None]
        # What the runtime allocated hangs on the binding that ran.
        outputs: list[NDArray[Any]] = self._bindings[i].copy_outputs_to_cpu()
        return outputs

    def _assigned(self) -> dict[str, dict[str, int]]:
        ask = getattr(self._session, "get_provider_graph_assignment_info", None)
        counts: dict[str, dict[str, int]] = {}
        for part in ask() if ask is not None else ():
            operators = counts.setdefault(part.ep_name, {})
            for node in part.get_nodes():
                operators[node.op_type] = operators.get(node.op_type, 0) + 1
        return counts


def _library() -> Any:
    try:
        import onnxruntime
    except (ImportError, OSError) as error:
        raise RuntimeAbsent(
            f"onnxruntime cannot be imported here ({first_line(error)}); install it with "
            "pip install 'assay-fleet[onnxruntime]'"
        ) from error
    return onnxruntime


def _failures() -> tuple[type[Exception], ...]:
    """Whatever the library raises: a class per status code, and Python's own."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except (ImportError, OSError):
        return (RuntimeError, ValueError)
    own = [value for value in vars(state).values() if isinstance(value, type)]
    raised = (cls for cls in own if issubclass(cls, Exception))
    return (RuntimeError, ValueError, MemoryError, *raised)


def _providers() -> tuple[str, ...]:
    return tuple(name for name in _library().get_available_providers() if name != _REMOTE)


def _session_options(library: Any, spec: RuntimeSpec) -> Any:
    for key, value in spec.options.items():
        if key == _CUSTOM_OPS:
            continue
        if value not in _OPTIONS.get(key, {}):
            known = ", ".join(f"{name}={'|'.join(values)}" for name, values in _OPTIONS.items())
            raise RuntimeRejected(
                f"onnxruntime option {key}={value} is not one of {known}, {_CUSTOM_OPS}=PATH"
            )
    options = library.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = spec.options.get("graph_optimization_level", "all")
    options.graph_optimization_level = getattr(library.GraphOptimizationLevel, _LEVELS[level])
    options.enable_cpu_mem_arena = _SWITCHES[spec.options.get("cpu_mem_arena", "1")]
    options.enable_mem_pattern = _SWITCHES[spec.options.get("mem_pattern", "1")]
    spinning = "1" if spec.allow_spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if _CUSTOM_OPS in spec.options:
        _register(options, Path(spec.options[_CUSTOM_OPS]))
    return options


def _register(options: Any, library: Path) -> None:
    if not library.is_file():
        raise RuntimeRejected(f"the custom operator library {library} is not on this device")
    try:
        options.register_custom_ops_library(str(library.resolve()))
    except _failures() as error:
        raise refusal(f"onnxruntime refused the operator library {library}", error) from error


def _tensor(arg: Any) -> TensorSpec:
    if arg.type not in _TYPES:
        raise RuntimeRejected(
            f"{arg.name} is a {arg.type}: only tensors of types that numpy has are measured"
        )
    shape = tuple(size if isinstance(size, int) else None for size in arg.shape)
    symbols = tuple(symbol(size) for size in arg.shape)
    return TensorSpec(arg.name, _TYPES[arg.type], shape, symbols)


RUNTIME = OnnxRuntime
