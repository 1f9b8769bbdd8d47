"""A run's queries timed in C, beside the Python model that loaded, bound and checked them.

The native session is a second copy of the model in the library the wheel ships. It is opened once
everything that is stated of the plain one (load time, first inference, memory) has been read, and
only where two copies are no burden. Where it cannot be had the run is timed by the binding, and
``fidelity`` says so.
"""

from __future__ import annotations

import os
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.agent.runtimes.base import Runtime
from assay.agent.worker.isolation import Schedule
from assay.agent.worker.loading import Ready, outputs_off
from assay.agent.worker.loop import LATE_NS, LEAD_NS
from assay.agent.worker.path import is_open
from assay.core import stats
from assay.core.errors import AssayError
from assay.core.model import Absent, Fidelity, RunSpec, RuntimeSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from assay.agent.native import NativeLoop, NativeSession

RUNTIME = "onnxruntime"
"""LiteRT's C interface costs more than its Python one: docs/decisions/fidelity.md."""

_MAX_COPY_SHARE = 1 / 8
_HARNESS_QUERIES = 20_000
_BINDING_QUERIES = 4_000


def prepare_native(order_native_dir: str, runtime_name: str) -> NativeLoop | Absent:
    """The compiled loop for a run, or why it goes without; call it before anything is pinned."""
    if runtime_name != RUNTIME:
        return Absent(f"no native loop for {runtime_name}")
    if not order_native_dir:
        return Absent("no directory to keep the native loop in")
    from assay.agent.native import prepare

    return prepare(Path(order_native_dir))


class NativePath:
    """Bound queries timed by the C loop; see :class:`assay.agent.worker.path.TimedPath`."""

    fidelity = Fidelity.NATIVE_LOOP

    def __init__(self, loop: NativeLoop, session: NativeSession, per_query: int) -> None:
        self._loop = loop
        self._session = session
        self._per_query = per_query

    def closed_loop(self) -> NativeClosedLoop:
        """Query after query in the bound order."""
        return NativeClosedLoop(self._session, self._per_query)

    def open_loop(self, gaps_ns: Iterator[int], *, from_intended: bool) -> NativeOpenLoop:
        """Queries at set times; only where a query is one call."""
        return NativeOpenLoop(self._session, gaps_ns, from_intended=from_intended)

    def harness_floor_ns(self, schedule: Schedule) -> float:
        """The C loop around a call of nothing."""
        with schedule.block():
            times = self._session.floor(_HARNESS_QUERIES)
        return stats.median(times)

    def binding_floor_ns(
        self, library: type[Runtime], spec: RuntimeSpec, schedule: Schedule
    ) -> float | Absent:
        """A one-operator model in the same loop."""
        import numpy as np

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "floor.model"
            path.write_bytes(library.one_operator_model())
            tiny = _open(self._loop, path, spec)
        if isinstance(tiny, Absent):
            return tiny
        times = np.zeros(_BINDING_QUERIES, dtype=np.int64)
        with tiny:
            tiny.bind([{tiny.input_specs[0].name: np.ones(4, dtype=np.float32)}])
            for queries in (_BINDING_QUERIES // 10, _BINDING_QUERIES):
                with schedule.block():
                    taken = tiny.run_block(queries, schedule.block_ns, times)
        return stats.median(times[:taken])


def open_native(
    loop: NativeLoop | Absent, ready: Ready, run: RunSpec, model: Path
) -> NativePath | Absent:
    """The run's queries bound once more, in C; Absent with the reason where that cannot be, or
    where this path computes something else than the plain one."""
    if isinstance(loop, Absent):
        return loop
    queries = ready.queries
    if queries.stateful:
        return Absent("state is passed on between queries, which is done in Python")
    per_query = queries.samples_per_query if queries.grouped else 1
    if per_query > 1 and is_open(run):
        return Absent("a query of several calls cannot be sent on a schedule in C")
    copy_bytes, total_bytes = ready.memory.model_load_bytes or 0, _memory_total_bytes()
    if copy_bytes > _MAX_COPY_SHARE * total_bytes:
        return Absent(
            f"a second copy of the model would take {copy_bytes / total_bytes:.0%} of RAM"
        )
    try:
        session = _open(loop, model, run.runtime)
        if isinstance(session, Absent):
            return session
        session.bind(queries.feeds)
        off = outputs_off(_in_order(ready, session.outputs(0)), ready)
    except AssayError as error:
        return Absent(str(error))
    if off:
        session.close()
        return Absent(f"its outputs are off the plain path's by {off}")
    return NativePath(loop, session, per_query)


class NativeClosedLoop:
    """:class:`assay.agent.worker.loop.ClosedLoop` in C."""

    def __init__(self, session: NativeSession, per_query: int) -> None:
        self._session = session
        self._per_query = per_query

    def run_block(self, limit: int, max_ns: int, out: array[int]) -> int:
        """See :class:`assay.agent.worker.loop.QueryLoop`."""
        times = _longs(out)
        return self._session.run_block(min(limit, len(out)), max_ns, times, self._per_query)


class NativeOpenLoop:
    """:class:`assay.agent.worker.loop.OpenLoop` in C; a block's starts are drawn before it."""

    def __init__(
        self, session: NativeSession, gaps_ns: Iterator[int], *, from_intended: bool
    ) -> None:
        self._session = session
        self._gaps_ns = gaps_ns
        self._from_intended = from_intended
        self.late = 0
        self.last_late_ns = 0

    def run_block(self, limit: int, max_ns: int, out: array[int]) -> int:
        """See :class:`assay.agent.worker.loop.QueryLoop`."""
        import numpy as np

        offsets = self._offsets(min(limit, len(out)), max_ns)
        started, ended = np.zeros((2, len(offsets)), dtype=np.int64)
        begin = time.perf_counter_ns() + LEAD_NS
        intended = begin + offsets
        # The first one is run in any case: a block without a sample has no median.
        taken = self._session.run_schedule(intended, begin + max_ns, started, ended)
        intended, started, ended = intended[:taken], started[:taken], ended[:taken]
        _longs(out)[:taken] = ended - (intended if self._from_intended else started)
        late = started - intended
        self.late += int((late > LATE_NS).sum())
        self.last_late_ns = int(late[-1]) if taken else 0
        return taken

    def _offsets(self, limit: int, max_ns: int) -> NDArray[Any]:
        """When the block's queries are to start, after its beginning."""
        import numpy as np

        offsets: list[int] = []
        at = 0
        while len(offsets) < limit and (at < max_ns or not offsets):
            at += next(self._gaps_ns)
            offsets.append(at)
        return np.asarray(offsets, dtype=np.int64)


def _open(loop: NativeLoop, model: Path, spec: RuntimeSpec) -> NativeSession | Absent:
    from assay.agent.native import OrtSettings

    return loop.onnxruntime(model, OrtSettings.of(spec), spec.provider)


def _in_order(ready: Ready, outputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [outputs[spec.name] for spec in ready.model.outputs]


def _longs(out: array[int]) -> NDArray[Any]:
    """The buffer of a block as an array over the same memory."""
    import numpy as np

    return np.frombuffer(out, dtype=np.int64)


def _memory_total_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
