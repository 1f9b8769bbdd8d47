"""ncnn: small, without dependencies, and the one runtime with wheels for 32-bit Arm.

Most of its failures are silent: a status of 0 with wrong numbers. Hence here: inputs are checked
for type and shape and cloned into memory that ncnn owns (``Mat(array)`` neither copies nor keeps
the array, and a layer that works in place crashes on it); one extractor per inference; options,
the three fp16 ones among them, are set before the load; every status is looked at; param and bin
come from one file (:mod:`assay.core.ncnn_file`).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assay.agent.runtimes.base import Bound, Call, check_names, check_version, placed
from assay.core.errors import AssayError, BadMessage, RuntimeAbsent, RuntimeRejected
from assay.core.model import MEDIA_NCNN, Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.ncnn_file import NcnnFile, NcnnTensor, layers, pack, unpack
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.runtimes.base import Feed

_CPU = "CPU"
_FP16 = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic")
_BF16 = ("use_bf16_packed", "use_bf16_storage")
_ARITHMETIC = ("fp32", "fp16")
_RELU = b"7767517\n2 2\nInput in0 0 1 in0\nReLU relu 1 1 in0 out0 0=0.0\n"


class Ncnn:
    """Runs ``.ncnn`` files."""

    name: ClassVar[str] = "ncnn"
    media_type: ClassVar[str] = MEDIA_NCNN

    @classmethod
    def probe(cls) -> RuntimeFacts | Absent:
        """Facts after a real inference, or why there is none."""
        import numpy as np

        try:
            model = cls.load(cls.one_operator_model(), RuntimeSpec(cls.name))
            (output,) = model.run({"x": np.array([-1, 0, 1, 2], dtype=np.float32)})
        except AssayError as error:
            return Absent(str(error))
        if output.tolist() != [0, 0, 1, 2]:
            return Absent(f"ncnn computed RELU(-1, 0, 1, 2) as {output.tolist()}")
        return RuntimeFacts(cls.name, cls.version(), (_CPU,))

    @classmethod
    def version(cls) -> str:
        """The library's version."""
        return str(_library().__version__)

    @classmethod
    def one_operator_model(cls) -> bytes:
        """RELU on four floats."""
        tensors = (NcnnTensor("x", "in0", (4,), False), NcnnTensor("y", "out0", (4,), False))
        return pack(NcnnFile(_RELU, b"", tensors[:1], tensors[1:]))

    @classmethod
    def load(cls, model: Path | bytes, spec: RuntimeSpec) -> NcnnModel:
        """Loads a net; option ``arithmetic`` is ``fp32`` (the default) or ``fp16``, by which
        weights and sums are kept in half precision where the CPU has it."""
        library = _library()
        check_version(cls.name, str(library.__version__), spec)
        if spec.provider not in ("", _CPU):
            raise RuntimeAbsent(f"ncnn runs on {_CPU} here, not on {spec.provider}")
        arithmetic = _arithmetic(spec)
        try:
            file = unpack(model if isinstance(model, bytes) else model.read_bytes())
            listed = layers(file.param)
        except BadMessage as error:
            raise RuntimeRejected(f"ncnn refused the model: {error}") from error
        net = library.Net()
        _set_options(net.opt, spec, half=arithmetic == "fp16")
        _load(net, file)
        return NcnnModel(library, net, file, listed, arithmetic)


class NcnnModel:
    """A net; see :class:`assay.agent.runtimes.base.LoadedModel`."""

    remembers = False

    def __init__(
        self, library: Any, net: Any, file: NcnnFile, listed: tuple[str, ...], arithmetic: str
    ) -> None:
        self._library = library
        self._net = net
        self._file = file
        self._layers = Counter(listed)
        self._arithmetic = arithmetic
        self.runtime_version = str(library.__version__)
        self.inputs = tuple(_spec(tensor) for tensor in file.inputs)
        self.outputs = tuple(_spec(tensor) for tensor in file.outputs)
        self.precision = "float16" if arithmetic == "fp16" else file.weights
        _require_blobs(net, file)

    def bind(self, feeds: Sequence[Feed]) -> Bound:
        """Each feed's inputs are copied into ncnn's own memory now, untimed."""
        last: list[Any] = [None] * len(self._file.outputs)
        calls = tuple(self._call(self._mats(feed), last) for feed in feeds)
        return Bound(calls, None, lambda _: self._copies(last), Fidelity.PUBLIC_API)

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs, by an extractor of its own."""
        last: list[Any] = [None] * len(self._file.outputs)
        self._call(self._mats(feed), last)()
        return self._copies(last)

    def placement(self) -> tuple[str, ...]:
        """Every layer runs on the CPU; which, and in what arithmetic."""
        return (placed(f"{_CPU} {self._arithmetic}", self._layers, "layers"),)

    def fallback(self) -> str:
        """Never: there is one provider."""
        return ""

    def close(self) -> None:
        """Drops the net."""
        self._net = None

    def _call(self, mats: tuple[tuple[str, Any], ...], last: list[Any]) -> Call:
        extractor_of: Callable[[], Any] = self._net.create_extractor
        blobs = tuple(enumerate(tensor.blob for tensor in self._file.outputs))

        def infer() -> None:
            # A second extract of one extractor would only hand out the first one's outputs.
            extractor = extractor_of()
            for blob, mat in mats:
                if extractor.input(blob, mat):
                    raise RuntimeRejected(f"ncnn did not take the input {blob}")
            for index, blob in blobs:
                status, last[index] = extractor.extract(blob)
                if status:
                    raise RuntimeRejected(f"ncnn failed to compute {blob} (status {status})")

        return infer

    def _mats(self, feed: Feed) -> tuple[tuple[str, Any], ...]:
        check_names(self.inputs, feed)
        return tuple((one.blob, self._mat(one, feed[one.name])) for one in self._file.inputs)

    def _mat(self, tensor: NcnnTensor, array: NDArray[Any]) -> Any:
        """The array in memory that ncnn owns; it computes on any other type or shape without a
        word, or dies of it."""
        import numpy as np

        if array.dtype != np.float32:
            raise RuntimeRejected(f"ncnn takes float32; {tensor.name} is {array.dtype.name}")
        if array.shape != tensor.shape:
            raise RuntimeRejected(
                f"ncnn was converted for {tensor.name} of shape {tensor.shape} and checks none; "
                f"this one is {array.shape}"
            )
        return self._library.Mat(np.ascontiguousarray(array.reshape(tensor.inner_shape))).clone()

    def _copies(self, last: list[Any]) -> list[NDArray[Any]]:
        import numpy as np

        outputs = []
        for tensor, mat in zip(self._file.outputs, last, strict=True):
            if mat is None:
                outputs.append(np.zeros(tensor.shape, dtype=np.float32))
                continue
            array = np.array(mat, dtype=np.float32)
            if array.size != np.prod(tensor.shape):
                raise RuntimeRejected(
                    f"ncnn gave {tensor.name} of shape {array.shape}, not {tensor.inner_shape}"
                )
            outputs.append(array.reshape(tensor.shape))
        return outputs


def _library() -> Any:
    import importlib

    try:
        return importlib.import_module("ncnn")
    except (ImportError, OSError) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RuntimeAbsent(
            f"ncnn cannot be imported here ({told}); install it with "
            "pip install 'assay-fleet[ncnn]'"
        ) from error


def _arithmetic(spec: RuntimeSpec) -> str:
    unknown = ", ".join(sorted(set(spec.options) - {"arithmetic"}))
    if unknown:
        raise RuntimeRejected(f"ncnn takes the option arithmetic only; given: {unknown}")
    found = spec.options.get("arithmetic", _ARITHMETIC[0])
    if found not in _ARITHMETIC:
        raise RuntimeRejected(f"ncnn: arithmetic {found} is not one of {', '.join(_ARITHMETIC)}")
    return found


def _set_options(options: Any, spec: RuntimeSpec, *, half: bool) -> None:
    """All that decides speed or numbers, before the load, which packs the weights by it."""
    options.num_threads = spec.threads
    if not spec.allow_spinning:
        options.openmp_blocktime = 0
    options.use_vulkan_compute = False
    for name in _FP16:
        setattr(options, name, half)
    for name in _BF16:
        if hasattr(options, name):
            setattr(options, name, False)


def _load(net: Any, file: NcnnFile) -> None:
    with tempfile.TemporaryDirectory(prefix="assay-ncnn-") as folder:
        param, weights = Path(folder, "model.param"), Path(folder, "model.bin")
        param.write_bytes(file.param)
        weights.write_bytes(file.bin)
        for what, status in (
            ("param", net.load_param(str(param))),
            ("bin", net.load_model(str(weights))),
        ):
            if status:
                raise RuntimeRejected(
                    f"ncnn refused the model: its {what} does not load (status {status}); a layer "
                    "this ncnn does not know, or weights that do not belong to it"
                )


def _require_blobs(net: Any, file: NcnnFile) -> None:
    for what, wanted, there in (
        ("inputs", file.inputs, net.input_names()),
        ("outputs", file.outputs, net.output_names()),
    ):
        missing = sorted({tensor.blob for tensor in wanted} - set(there))
        if missing or (what == "inputs" and len(wanted) != len(there)):
            raise RuntimeRejected(f"ncnn refused the model: its {what} are {', '.join(there)}")


def _spec(tensor: NcnnTensor) -> TensorSpec:
    return TensorSpec(tensor.name, "float32", tensor.shape, ("",) * len(tensor.shape))


RUNTIME = Ncnn
