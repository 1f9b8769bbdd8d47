"""Group commit: one thread writes down what many devices report, many reports to a transaction."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from assay.controller.metrics.tally import Tally
from assay.controller.records import Recorded
from assay.controller.server.backlog import Backlog
from assay.controller.store.arrival import Arrived, Reported, arrived
from assay.controller.store.base import Store
from assay.core import log
from assay.core.errors import AssayError, Unreachable

_log = log.get(__name__)

_RESULTS_PER_COMMIT = 1_000


@dataclass(slots=True)
class _Batch:
    device_id: str
    results: Sequence[Arrived]
    done: Future[list[Recorded]] = field(default_factory=Future)


class Recorder:
    """Records results durably; a future is done only after its commit.

    While one commit is under way the next batches gather, so the busier it is, the more share an
    fsync. :attr:`backlog` tells how much waits. :meth:`close` commits what is queued.
    """

    def __init__(self, store: Store, now_ns: Callable[[], int], tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self.backlog = Backlog()
        self._store = store
        self._now_ns = now_ns
        self._queue: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, device_id: str, results: Sequence[Reported]) -> Future[list[Recorded]]:
        """Looks at one report and queues it; thread-safe, and takes a while."""
        batch = _Batch(device_id, [arrived(one) for one in results])
        if self._closed:
            batch.done.set_exception(Unreachable("the controller is stopping; try again soon"))
        else:
            self._queued(len(results))
            self._queue.put(batch)
        return batch.done

    def close(self) -> None:
        """Commits what is queued and ends the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batches, open_ = self._gather()
            if batches:
                self._commit(batches)

    def _gather(self) -> tuple[list[_Batch], bool]:
        """Waits for a batch, then takes what has queued up behind it."""
        batches: list[_Batch] = []
        size = 0
        while size < _RESULTS_PER_COMMIT:
            try:
                batch = self._queue.get(block=not batches)
            except queue.Empty:
                break
            if batch is None:
                return batches, False
            batches.append(batch)
            size += len(batch.results)
        return batches, True

    def _commit(self, batches: Sequence[_Batch]) -> None:
        entries = [(batch.device_id, batch.results) for batch in batches]
        size, began_ns = sum(len(b.results) for b in batches), time.monotonic_ns()
        try:
            outcomes = self._store.record_all(entries, self._now_ns())
        except Exception as error:
            # This thread must outlive whatever one batch does to it.
            self._committed(size, began_ns, stored=False)
            self._fail_or_retry(batches, error)
            return
        self._committed(size, began_ns, stored=True)
        for batch, recorded in zip(batches, outcomes, strict=True):
            if batch.done.set_running_or_notify_cancel():
                batch.done.set_result(recorded)

    def _fail_or_retry(self, batches: Sequence[_Batch], error: Exception) -> None:
        if len(batches) > 1:  # one of them may be at fault: find out which
            for batch in batches:
                self._queued(len(batch.results))
                self._commit([batch])
            return
        if not isinstance(error, AssayError):
            _log.error("results not recorded", device_id=batches[0].device_id, exc_info=error)
        if batches[0].done.set_running_or_notify_cancel():
            batches[0].done.set_exception(error)

    def _queued(self, results: int) -> None:
        self._tally.queued(results)
        self.backlog.queued(results)

    def _committed(self, results: int, began_ns: int, *, stored: bool) -> None:
        took_ns = time.monotonic_ns() - began_ns
        self._tally.committed(results, took_ns, stored=stored)
        self.backlog.committed(results, took_ns)
