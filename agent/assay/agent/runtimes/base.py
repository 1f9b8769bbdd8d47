"""What a runtime is: how it is found, what it loads, and the raw call that is timed.

A runtime lives in a file of its own and is named in :mod:`assay.agent.runtimes`. It is imported
only inside a worker or probe process, never by the agent. All of it belongs to one thread.
"""

from __future__ import annotations

import functools
import gc
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from assay.core.errors import AssayError, BadInputs, RuntimeAbsent, RuntimeRejected, WorkerOom
from assay.core.model import Absent, Fidelity, RuntimeFacts, RuntimeSpec
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Feed = Mapping[str, NDArray[Any]]

Call = Callable[[], object]

_NO_MEMORY = re.compile(r"bad_?alloc|bad allocation|failed to allocate memory|out of memory", re.I)


@dataclass(frozen=True, slots=True)
class Bound:
    """Queries that are ready to run, each with its inputs in place.

    ``calls[i]`` is the raw callable of query i, without arguments; its duration is the
    measurement. Where a runtime has a single set of input tensors, ``stages[i]`` puts query i's
    inputs there and must be called, untimed, before ``calls[i]``. ``outputs()`` copies the outputs
    of the last call, in the model's order. Keep it alive as long as its calls are used.
    ``rewritable``: what is written into a feed's arrays later is what its call reads.
    """

    calls: tuple[Call, ...]
    stages: tuple[Call, ...] | None
    outputs: Callable[[int], list[NDArray[Any]]]
    fidelity: Fidelity
    rewritable: bool = False


class LoadedModel(Protocol):
    """A model that its runtime has accepted; ``remembers`` where what it gives depends on the calls
    before."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runtime_version: str
    precision: str
    remembers: bool

    def bind(self, feeds: Sequence[Feed]) -> Bound:
        """Prepares one query per feed without running any; :class:`RuntimeRejected` if the
        runtime does not take it. All feeds have the same shapes."""
        ...

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """The outputs for ``feed`` by the plain interface; owns nothing of them afterwards."""
        ...

    def placement(self) -> tuple[str, ...]:
        """Which operators run where, one line a place (see :func:`placed`)."""
        ...

    def fallback(self) -> str:
        """Which part of the model did not run where the run asked for; empty if none."""
        ...

    def close(self) -> None:
        """Lets go of the model; may be called twice."""
        ...


class Runtime(Protocol):
    """A library that runs models."""

    name: ClassVar[str]
    media_type: ClassVar[str]

    @classmethod
    def probe(cls) -> RuntimeFacts | Absent:
        """Facts after a real inference of a tiny model, or why there is none; raises nothing."""
        ...

    @classmethod
    def version(cls) -> str:
        """The library's version; :class:`RuntimeAbsent` where it cannot be imported."""
        ...

    @classmethod
    def load(cls, model: Path | bytes, spec: RuntimeSpec) -> LoadedModel:
        """Loads a model; :class:`RuntimeAbsent` where library, version or provider are not here,
        :class:`RuntimeRejected` where the library refuses the file."""
        ...

    @classmethod
    def one_operator_model(cls) -> bytes:
        """A model of one operator on four floats, for the probe and the binding floor."""
        ...


def check_version(name: str, found: str, spec: RuntimeSpec) -> None:
    """Raises :class:`RuntimeAbsent` unless ``found`` is the version asked for, or starts so
    (``1.23`` takes any ``1.23.x``)."""
    wanted = spec.version
    if wanted and found != wanted and not found.startswith(wanted + "."):
        raise RuntimeAbsent(f"{name} {wanted} is asked for; this device has {found}")


def check_names(inputs: Sequence[TensorSpec], feed: Feed) -> None:
    """Raises :class:`BadInputs` unless ``feed`` has an array for each input and no other."""
    wanted, given = {spec.name for spec in inputs}, set(feed)
    if wanted != given:
        listed = ", ".join(str(spec) for spec in inputs)
        raise BadInputs(f"inputs given are {', '.join(sorted(given))}; the model takes {listed}")


def placed(where: str, counts: Mapping[str, int], what: str = "operators") -> str:
    """``XNNPACK: 3 operators (CONV_2D x2, SOFTMAX x1)``."""
    return f"{where}: {sum(counts.values())} {what} ({listed(counts)})"


def listed(counts: Mapping[str, int]) -> str:
    """``CONV_2D x2, SOFTMAX x1``, by name."""
    return ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()))


def refusal(message: str, error: BaseException) -> AssayError:
    """What a runtime's own error means: :class:`WorkerOom` where it got no memory, else
    :class:`RuntimeRejected`; told by its first line."""
    told = f"{message}: {first_line(error)}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        return WorkerOom(told)
    return RuntimeRejected(told)


def first_line(error: BaseException) -> str:
    """The error in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def raw(function: Callable[..., object], *args: object) -> Call:
    """``function(*args)`` as a callable without arguments that costs no Python frame."""
    return functools.partial(function, *args) if args else function


no_op: Call = functools.partial(gc.isenabled)
"""A C function that does nothing, called the way bound queries are: the harness's floor."""
