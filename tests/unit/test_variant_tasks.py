"""The order of builds, their failures, their progress, and how they are stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from assay.controller.variants.process import OnLine
from assay.controller.variants.progress import Meter
from assay.controller.variants.tasks import Task, run_tasks
from assay.core.errors import BuildFailed, DiskFull


class Log:
    """Tasks that note when they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def task(
        self,
        key: str,
        *needs: str,
        name: str = "",
        units: int = 10,
        error: Exception | None = None,
        wait: Callable[[], object] = lambda: None,
    ) -> Task:
        def run(on_line: OnLine) -> None:
            with self._lock:
                self.ran.append(key)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                on_line(units // 2, f"half of {key}")
                wait()
                if error is not None:
                    raise error
            finally:
                with self._lock:
                    self.at_once -= 1

        return Task(key, name or key, needs, units, run)


def nothing(_n: str, _d: int, _t: int, _note: str) -> None:
    pass


def never() -> None:
    raise AssertionError("nothing was to be stopped")


def test_tasks_wait_for_what_they_need() -> None:
    log = Log()
    tasks = [log.task("c", "b"), log.task("b", "a"), log.task("a"), log.task("d", "a")]
    assert run_tasks(tasks, 4, nothing, never) == {}
    assert sorted(log.ran) == ["a", "b", "c", "d"]
    assert log.ran[0] == "a" and log.ran.index("b") < log.ran.index("c")


def test_no_more_than_the_workers_run_at_once() -> None:
    log = Log()
    gate = threading.Barrier(2, timeout=10)
    tasks = [log.task(str(i), wait=gate.wait) for i in range(6)]
    run_tasks(tasks, 2, nothing, never)
    assert log.most_at_once == 2


def test_what_others_wait_for_goes_first_then_the_longest() -> None:
    log = Log()
    tasks = [
        log.task("short", units=1),
        log.task("long", units=9),
        log.task("base", units=5),
        log.task("child", "base", units=2),
    ]
    run_tasks(tasks, 1, nothing, never)
    assert log.ran == ["base", "long", "child", "short"]


def test_a_failure_takes_along_what_starts_from_it_and_nothing_else() -> None:
    log = Log()
    tasks = [
        log.task("base", error=BuildFailed("no luck")),
        log.task("child", "base"),
        log.task("grandchild", "child"),
        log.task("other"),
    ]
    failures = run_tasks(tasks, 2, nothing, never)
    assert sorted(log.ran) == ["base", "other"]
    assert list(failures) == ["base", "child", "grandchild"]
    assert str(failures["child"]) == "what it starts from failed: no luck"


def test_a_name_fails_once_with_its_first_error() -> None:
    log = Log()
    tasks = [
        log.task("net", name="pruned", error=DiskFull("no room")),
        log.task("files", "net", name="pruned"),
    ]
    failures = run_tasks(tasks, 2, nothing, never)
    assert {name: type(error) for name, error in failures.items()} == {"pruned": DiskFull}


def test_progress_adds_up_the_tasks_of_a_name_in_this_thread() -> None:
    log = Log()
    said: list[tuple[str, int, int, str]] = []
    threads: set[int] = set()

    def progress(name: str, done: int, total: int, note: str) -> None:
        threads.add(threading.get_ident())
        said.append((name, done, total, note))

    tasks = [
        log.task("net", name="pruned", units=100),
        log.task("files", "net", name="pruned", units=20),
    ]
    run_tasks(tasks, 2, progress, never)
    assert said == [
        ("pruned", 50, 120, "half of net"),
        ("pruned", 100, 120, "done"),
        ("pruned", 110, 120, "half of files"),
        ("pruned", 120, 120, "done"),
    ]
    assert threads == {threading.get_ident()}


def test_an_interruption_stops_what_runs_and_starts_nothing_more() -> None:
    log = Log()
    stopped = threading.Event()

    def interrupted(_n: str, _d: int, _t: int, _note: str) -> None:
        raise KeyboardInterrupt

    tasks = [log.task("a", wait=lambda: stopped.wait(10)), log.task("b", "a")]
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks, 1, interrupted, stopped.set)
    assert log.ran == ["a"] and stopped.is_set() and log.at_once == 0


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    log = Log()
    stopped = threading.Event()
    with pytest.raises(ZeroDivisionError):
        run_tasks([log.task("a", error=ZeroDivisionError())], 1, nothing, stopped.set)
    assert stopped.is_set()


def test_meter_only_grows_and_counts_pieces() -> None:
    said: list[tuple[int, str]] = []
    meter = Meter(lambda done, note: said.append((done, note)))
    meter.begin("train", 100)
    meter.within(1, 4)
    meter.within(9, 4)
    meter.within(1, 0)
    meter.begin("export", 10)
    meter.within(1, 2)
    assert said == [
        (0, "train"),
        (25, "train"),
        (100, "train"),
        (100, "train"),
        (100, "export"),
        (105, "export"),
    ]
