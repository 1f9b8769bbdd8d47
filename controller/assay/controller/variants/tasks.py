"""Runs tasks that wait for each other, a few at a time."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from assay.controller.datasets.base import OnProgress
from assay.controller.variants.process import OnLine
from assay.core.errors import AssayError, BuildFailed

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Task:
    """Work under a name; starts when every task in ``needs`` (by key) is done."""

    key: str
    name: str
    needs: tuple[str, ...]
    units: int
    run: Callable[[OnLine], None]
    formats: tuple[str, ...] = ()


def run_tasks(
    tasks: Sequence[Task], workers: int, progress: OnProgress, stop: Callable[[], None]
) -> dict[str, AssayError]:
    """Runs ``tasks`` on ``workers`` threads; returns what failed, by name.

    A task that waits for one that failed fails too. ``progress`` is called in this thread, with the
    units of all tasks of a name together. Whatever interrupts this thread, or an error in a task
    that is no :class:`AssayError`, calls ``stop``, which must make running tasks end; they are
    waited for, and it goes on up.
    """
    run = _Run(list(tasks), workers, _Meter(tasks, progress))
    with ThreadPoolExecutor(workers, thread_name_prefix="build") as pool:
        try:
            while run.waiting or run.running:
                run.drop_orphans()
                run.start(pool)
                run.listen()
        except BaseException:
            stop()
            raise
    return _by_name(tasks, run.failures)


class _Run:
    """The state of one call of :func:`run_tasks`."""

    def __init__(self, tasks: list[Task], workers: int, meter: _Meter) -> None:
        self.waiting = tasks
        self.running: dict[Future[None], Task] = {}
        self.failures: dict[str, AssayError] = {}
        self._done: set[str] = set()
        self._workers = workers
        self._meter = meter
        self._said: queue.SimpleQueue[tuple[Task, int, str]] = queue.SimpleQueue()

    def drop_orphans(self) -> None:
        """Fails what waits for a task that failed."""
        for task in list(self.waiting):
            lost = [need for need in task.needs if need in self.failures]
            if lost:
                self.waiting.remove(task)
                why = self.failures[lost[0]]
                self.failures[task.key] = BuildFailed(f"what it starts from failed: {why}")

    def start(self, pool: ThreadPoolExecutor) -> None:
        """Starts what may start, as far as there is room.

        What others wait for goes first, then the longest: the last one to end decides.
        """
        needed = {need for task in self.waiting for need in task.needs}
        ready = [t for t in self.waiting if self._done.issuperset(t.needs)]
        ready.sort(key=lambda t: (t.key not in needed, -t.units))
        for task in ready[: self._workers - len(self.running)]:
            self.waiting.remove(task)
            self.running[pool.submit(task.run, self._teller(task))] = task

    def listen(self) -> None:
        """Waits a moment for news and takes it in; short, so that signals are handled."""
        ended, _ = wait(self.running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        with contextlib.suppress(queue.Empty):
            while True:
                self._meter.note(*self._said.get_nowait())
        for future in ended:
            task = self.running.pop(future)
            try:
                future.result()
            except AssayError as error:
                self.failures[task.key] = error
                self._meter.note(task, task.units, "failed")
            else:
                self._done.add(task.key)
                self._meter.note(task, task.units, "done")

    def _teller(self, task: Task) -> OnLine:
        return lambda done, note: self._said.put((task, done, note))


class _Meter:
    """Adds up the tasks of a name."""

    def __init__(self, tasks: Sequence[Task], progress: OnProgress) -> None:
        self._progress = progress
        self._done: dict[str, dict[str, int]] = {}
        self._total: dict[str, int] = {}
        for task in tasks:
            self._done.setdefault(task.name, {})[task.key] = 0
            self._total[task.name] = self._total.get(task.name, 0) + task.units

    def note(self, task: Task, done: int, note: str) -> None:
        """Takes in how far ``task`` is and passes on how far its name is."""
        self._done[task.name][task.key] = min(done, task.units)
        self._progress(task.name, sum(self._done[task.name].values()), self._total[task.name], note)


def _by_name(tasks: Sequence[Task], failures: dict[str, AssayError]) -> dict[str, AssayError]:
    """One error per name, the first: what follows from it is not worth a line of its own."""
    found: dict[str, AssayError] = {}
    for task in tasks:
        if task.key in failures:
            found.setdefault(task.name, failures[task.key])
    return found
