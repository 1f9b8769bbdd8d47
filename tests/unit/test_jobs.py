"""One round after another: every run leaves a result, whatever happens to it."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog.testing

from assay.agent.clock import Clock
from assay.agent.measuring.measure import Measured
from assay.agent.measuring.observe import RunPaths
from assay.agent.measuring.outcome import unmeasured
from assay.agent.plane import jobs
from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.jobs import MOST_STARTS, RoundExecutor
from assay.agent.plane.quiet import QuietWindow
from assay.agent.plane.rounds import AttemptState, RoundBook, seq_of
from assay.agent.plane.spool import Key, Spool
from assay.core import convert
from assay.core.cas import ContentStore
from assay.core.errors import Cancelled, DiskFull, NotFound, OverBudget, Unreachable
from assay.core.model import (
    MEDIA_NPZ,
    MEDIA_ONNX,
    ArtifactRef,
    DeviceFacts,
    Failure,
    FailureClass,
    Result,
    Round,
    RunSpec,
    RuntimeSpec,
    Verdict,
    VerdictKind,
)
from tests import plane

S = plane.S
OnState = Callable[[str], None]


def ref_of(data: bytes, media_type: str) -> ArtifactRef:
    return ArtifactRef("sha256:" + hashlib.sha256(data).hexdigest(), len(data), media_type)


def a_run(name: str, runtime: str = "onnxruntime") -> RunSpec:
    """A run of a model whose bytes are its name."""
    spec = plane.run(name, f"r1.1.{name}")
    return replace(
        spec,
        artifact=ref_of(name.encode(), MEDIA_ONNX),
        inputs=replace(spec.inputs, artifact=ref_of(b"inputs", MEDIA_NPZ)),
        golden=None,
        runtime=RuntimeSpec(runtime),
    )


def a_round(*runs: RunSpec) -> Round:
    return Round("r1", "s1", "sweep", 3, 1, 100 * S, runs or (a_run("fp32"), a_run("int8")))


@dataclass
class Bench:
    """An executor whose measuring and fetching the test decides."""

    home: Path
    files: dict[str, bytes] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    on_measure: Callable[[RunSpec, OnState, threading.Event], None] = lambda *_: None
    trace: bytes = b"raw samples"
    scrapes: int = 0
    free: int = 1 << 40

    def __post_init__(self) -> None:
        for data in (b"fp32", b"int8", b"inputs"):
            self.files[ref_of(data, "").digest] = data
        self.open()

    def open(self) -> None:
        """What an agent does at start."""
        self.quiet = QuietWindow()
        self.spool = Spool(self.home / "spool", 1 << 20, lambda: self.free)
        (self.home / "rounds").mkdir(exist_ok=True)
        keys = [entry.key for entry in self.spool.entries]
        self.book = RoundBook(self.home / "rounds", "boot", keys)
        store = ContentStore(self.home / "artifacts")
        self.cache = ArtifactCache(store, 1 << 20, 0, lambda: self.free)
        self.traces = ContentStore(self.home / "traces")
        self.executor = RoundExecutor(
            book=self.book,
            spool=self.spool,
            fetcher=Fetcher(self.cache, self._read),
            traces=self.traces,
            quiet=self.quiet,
            measure=self._measure,
            facts=plane.facts,
            device_name="bench",
            work_dir=self.home / "work",
            announce=lambda ns, *, again: self.events.append(
                f"announced {ns // S} s" + " again" * again
            ),
            drain=lambda seconds: self.events.append(f"drained {seconds:g}"),
            on_released=lambda: self.events.append("released"),
            scrapes=lambda: self.scrapes,
        )

    def work(self, round_: Round | None = None) -> None:
        """Accepts a round (if one is given) and works off what is held."""
        if round_ is not None:
            self.book.accept(round_, 0)
        held = self.book.take(threading.Event())
        assert held is not None
        try:
            self.executor.work(held)
        finally:
            self.book.release(held.round.round_id)

    @property
    def results(self) -> list[Result]:
        return [convert.from_bytes(self.spool.read(e), Result) for e in self.spool.entries]

    @property
    def states(self) -> list[str]:
        (held,) = self.book.held
        return [held.state(run.attempt_id).value for run in held.round.runs]

    def _read(self, ref: ArtifactRef, offset: int) -> Iterator[bytes]:
        self.events.append(f"read {ref.size_bytes}")
        if ref.digest not in self.files:
            raise NotFound(f"no artifact {ref.digest}")
        yield self.files[ref.digest][offset:]

    def _measure(
        self,
        run: RunSpec,
        files: RunPaths,
        device: DeviceFacts,
        directory: Path,
        on_state: OnState,
        cancel: threading.Event,
    ) -> Measured:
        assert files.model.read_bytes() == run.variant_name.encode()
        assert files.inputs.read_bytes() == b"inputs"
        assert list(directory.iterdir()) == []
        self.events.append(f"measured {run.variant_name}")
        for state in ("settling", "loading", "warming", "measuring"):
            on_state(state)
        self.on_measure(run, on_state, cancel)
        (directory / "trace.npz").write_bytes(self.trace)
        nothing = Failure(FailureClass.INFRA, "internal", "")
        made = unmeasured(run, nothing, device, "bench", 1)
        return replace(
            made,
            failure=None,
            verdict=Verdict(VerdictKind.VALID),
            trace_path=directory / "trace.npz",
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_all_files_are_fetched_and_then_every_run_measured_and_spooled_in_order(
    bench: Bench,
) -> None:
    bench.work(a_round())
    first, second = bench.results
    assert [first.run.variant_name, second.run.variant_name] == ["fp32", "int8"]
    assert (first.attempt_id, first.seq, first.fence) == ("r1.1.fp32", seq_of(1, 1), 1)
    assert (first.round_id, first.sweep_id, first.round_index) == ("r1", "s1", 3)
    assert first.run == a_run("fp32")
    assert first.provenance.device == plane.facts()
    assert first.verdict.kind is VerdictKind.VALID and first.failure is None
    assert first.environment["device"] == "bench"
    assert bench.events == [
        *("read 4", "read 6", "read 4"),
        *("measured fp32", "announced 36 s", "drained 20"),
        *("measured int8", "announced 36 s", "drained 20"),
        "drained 600",
    ]
    assert bench.states == ["spooled", "spooled"]


def test_the_trace_is_kept_under_the_name_in_the_result(bench: Bench) -> None:
    bench.work(a_round(a_run("fp32")))
    (result,) = bench.results
    assert result.trace == ref_of(b"raw samples", MEDIA_NPZ)
    assert bench.traces.path(result.trace.digest).read_bytes() == b"raw samples"
    assert not (bench.home / "work").exists()


def test_nothing_may_be_sent_from_measuring_to_its_end(bench: Bench) -> None:
    seen: list[tuple[str, bool]] = []

    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        seen.append(("measuring", bench.quiet.quiet))
        on_state("evaluating")
        seen.append(("evaluating", bench.quiet.quiet))
        on_state("measuring")
        seen.append(("measuring", bench.quiet.quiet))

    bench.on_measure = on_measure
    bench.work(a_round(a_run("fp32")))
    assert seen == [("measuring", True), ("evaluating", False), ("measuring", True)]
    assert not bench.quiet.quiet


def test_after_a_pause_it_is_announced_again(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        for state in ("pausing", "measuring", "pausing", "measuring"):
            on_state(state)

    bench.on_measure = on_measure
    bench.work(a_round())
    told = [event for event in bench.events if event.startswith("announced")]
    assert told == ["announced 36 s", *["announced 36 s again"] * 2] * 2


def test_the_window_ends_where_a_run_dies(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        raise ZeroDivisionError("a mistake of ours")

    bench.on_measure = on_measure
    with structlog.testing.capture_logs() as logs:
        bench.work(a_round())
    assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [True] * 2
    assert not bench.quiet.quiet
    assert [r.failure and (r.failure.code, r.failure.failure_class) for r in bench.results] == [
        ("internal", FailureClass.INFRA)
    ] * 2


def test_a_scrape_inside_a_block_makes_the_result_suspect(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        bench.scrapes += run.variant_name == "fp32"
        on_state("evaluating")
        bench.scrapes += 1

    bench.on_measure = on_measure
    bench.work(a_round())
    first, second = bench.results
    assert first.verdict.kind is VerdictKind.SUSPECT
    assert [(r.code, r.hard) for r in first.verdict.reasons] == [("scraped", False)]
    assert second.verdict.kind is VerdictKind.VALID


def test_a_run_that_fails_is_a_result_and_the_round_goes_on(bench: Bench) -> None:
    del bench.files[ref_of(b"fp32", "").digest]
    bench.work(a_round(a_run("fp32"), a_run("fp32", runtime="ncnn"), a_run("int8")))
    missing, absent, fine = bench.results
    assert missing.failure is not None and missing.failure.code == "not_found"
    assert missing.verdict.kind is VerdictKind.INVALID
    assert [(r.code, r.hard) for r in missing.verdict.reasons] == [("not_found", True)]
    assert missing.energy == type(missing.energy)("the run failed: not_found")
    assert absent.failure is not None
    assert absent.failure.code == "runtime_absent"
    assert absent.failure.failure_class is FailureClass.DEVICE
    assert "it has: onnxruntime" in absent.failure.message
    assert fine.failure is None


def test_nothing_is_downloaded_for_a_runtime_that_is_not_here(bench: Bench) -> None:
    bench.work(a_round(a_run("fp32", runtime="ncnn")))
    assert not [event for event in bench.events if event.startswith("read")]


def test_content_that_stays_wrong_is_a_failure_of_that_run(bench: Bench) -> None:
    bench.files[ref_of(b"fp32", "").digest] = b"FP32"
    bench.executor.fetcher.rng.uniform = lambda a, b: 0.0  # type: ignore[method-assign]
    bench.work(a_round())
    first, second = bench.results
    assert first.failure is not None and first.failure.code == "corrupt_artifact"
    assert second.failure is None


def test_a_dropped_round_ends_its_run_and_begins_no_other(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        bench.book.drop("r1", "the test said so")
        assert cancel.is_set()
        raise Cancelled("killed")

    bench.on_measure = on_measure
    bench.work(a_round())
    assert bench.results == []
    assert bench.states == ["cancelled", "cancelled"]


def test_a_restart_goes_on_where_the_round_was(bench: Bench) -> None:
    def killed(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        if run.variant_name == "int8":
            raise KeyboardInterrupt  # stands for SIGKILL: nothing after it runs but finally

    bench.on_measure = killed
    with pytest.raises(KeyboardInterrupt):
        bench.work(a_round())
    bench.spool.close()
    bench.open()
    assert bench.states == ["spooled", "accepted"]
    bench.on_measure = lambda *_: None
    bench.book.confirm("r1", 0)
    bench.work()
    keys = [entry.key for entry in bench.spool.entries]
    assert keys == [Key("r1.1.fp32", seq_of(1, 1)), Key("r1.1.int8", seq_of(1, 2))]


def test_a_result_that_was_acknowledged_is_not_measured_again(bench: Bench) -> None:
    bench.book.accept(a_round(), 0)
    bench.book.recorded([Key("r1.1.fp32", seq_of(1, 1))])
    bench.spool.close()
    bench.open()
    bench.book.confirm("r1", 0)
    bench.work()
    assert [result.run.variant_name for result in bench.results] == ["int8"]
    assert bench.states == ["recorded", "spooled"]


def test_a_run_that_keeps_bringing_the_agent_down_is_given_up(bench: Bench) -> None:
    bench.book.accept(a_round(), 0)
    for _ in range(MOST_STARTS):
        bench.book.start("r1", "r1.1.fp32")
    bench.work()
    first, second = bench.results
    assert first.failure is not None and first.failure.code == "worker_crashed"
    assert "interrupted 3 times" in first.failure.message
    assert first.seq == seq_of(1, MOST_STARTS + 1)
    assert second.failure is None


def test_a_start_is_on_disk_before_the_run_begins(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        (held,) = RoundBook(bench.home / "rounds", "boot").held
        assert held.starts[run.attempt_id] == 1

    bench.on_measure = on_measure
    bench.work(a_round())
    assert len(bench.results) == 2


def test_artifacts_are_pinned_while_their_round_is_held(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        bench.cache.evict_all()
        assert bench.cache.store.has(run.artifact.digest)

    bench.on_measure = on_measure
    bench.work(a_round())
    bench.cache.evict_all()
    assert list(bench.cache.store.held()) == []


def test_a_full_disk_holds_a_result_back_until_there_is_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_FULL_DISK_RETRY_S", 0.01)
    old = bench.cache.store.add_bytes(b"not needed now", MEDIA_ONNX)
    real, refusals = bench.spool.append, [DiskFull("full"), DiskFull("full")]

    def append(key: Key, body: bytes) -> None:
        if refusals:
            raise refusals.pop()
        real(key, body)

    monkeypatch.setattr(bench.spool, "append", append)
    bench.work(a_round(a_run("fp32")))
    assert len(bench.results) == 1
    assert not bench.cache.store.has(old.digest)


def test_a_result_without_room_is_given_up_with_its_round_only(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(key: Key, body: bytes) -> None:
        bench.book.drop("r1", "its lease ran out")
        raise DiskFull("full")

    monkeypatch.setattr(bench.spool, "append", append)
    bench.work(a_round())
    assert bench.states == ["cancelled", "cancelled"]


def test_a_full_disk_costs_the_trace_before_the_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, media_type: str) -> ArtifactRef:
        raise DiskFull("full")

    monkeypatch.setattr(bench.traces, "add_file", full)
    bench.work(a_round(a_run("fp32")))
    (result,) = bench.results
    assert result.trace is None and result.failure is None


def test_the_working_thread_works_until_it_is_stopped(bench: Bench) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(bench.executor.run, stop)
        bench.book.accept(a_round(), 0)
        for _ in range(500):
            if "released" in bench.events:
                break
            threading.Event().wait(0.01)
        stop.set()
        bench.book.wake()
        running.result(10)
    assert bench.states == [AttemptState.SPOOLED.value] * 2


def test_files_that_do_not_come_in_time_fail_their_runs_alone(bench: Bench) -> None:
    now = [0]
    bench.executor.clock = cast(Clock, SimpleNamespace(boottime_ns=lambda: now[0], unix_ns=int))
    bench.cache.store.add_bytes(b"int8", MEDIA_ONNX)
    bench.cache.store.add_bytes(b"inputs", MEDIA_NPZ)

    def slow(ref: ArtifactRef, offset: int) -> Iterator[bytes]:
        yield b"fp"
        now[0] = 5 * S
        yield b"32"

    bench.executor.fetcher.read = slow
    bench.work(replace(a_round(), fetch_ns=5 * S))
    late, fine = bench.results
    assert late.failure is not None and late.failure.code == "fetch_timeout"
    assert late.failure.failure_class is FailureClass.INFRA
    assert "within the 5 s" in late.failure.message
    assert [r.code for r in late.verdict.reasons] == ["fetch_timeout"]
    assert fine.failure is None
    assert bench.cache.store.partial_bytes(ref_of(b"fp32", MEDIA_ONNX)) > 0, "to go on from"


def test_an_absent_controller_is_waited_for_that_long(bench: Bench) -> None:
    def unreachable(ref: ArtifactRef, offset: int) -> Iterator[bytes]:
        raise Unreachable("nobody there")

    bench.executor.fetcher.read = unreachable
    bench.work(replace(a_round(), fetch_ns=S // 10))
    codes = [r.failure and r.failure.code for r in bench.results]
    assert codes == ["fetch_timeout"] * 2


def test_a_worker_that_does_not_begin_fails_its_run_alone(bench: Bench) -> None:
    def measure(*arguments: Any) -> Measured:
        run, *_, on_state, cancel = arguments
        on_state("settling")
        if run.variant_name == "fp32":
            now[0] += 5 * S + run.profile.settle_max_ns
            assert cancel.wait(60), "at once"
            raise Cancelled("the run was cancelled")
        on_state("loading")
        now[0] += 3_600 * S
        assert not cancel.is_set(), "it has begun"
        return bench._measure(*arguments)

    now = [0]
    bench.executor.clock = cast(Clock, SimpleNamespace(boottime_ns=lambda: now[0], unix_ns=int))
    bench.executor.measure = measure
    bench.work(replace(a_round(), start_ns=5 * S))
    late, fine = bench.results
    assert late.failure is not None and late.failure.code == "start_timeout"
    assert late.failure.failure_class is FailureClass.INFRA
    assert fine.failure is None


def test_a_drop_is_no_timeout(bench: Bench) -> None:
    def on_measure(run: RunSpec, on_state: OnState, cancel: threading.Event) -> None:
        bench.book.drop("r1", "the test said so")
        raise Cancelled("killed")

    bench.on_measure = on_measure
    bench.work(replace(a_round(), start_ns=1))
    assert bench.results == []


def test_a_round_over_the_days_bytes_goes_back_and_leaves_no_result(bench: Bench) -> None:
    put_off: list[tuple[str, int, int]] = []

    @contextlib.contextmanager
    def reserve(size: int, what: str) -> Iterator[None]:
        if size == len(b"int8"):
            raise OverBudget(f"no room for {what}", 704)
        yield

    bench.executor.fetcher.reserve = reserve
    bench.executor.put_off = lambda *given: put_off.append(given)
    bench.files[ref_of(b"int8", "").digest] = b"int8"
    bench.book.accept(a_round(a_run("xfp32"), a_run("int8")), 0)
    bench.files[ref_of(b"xfp32", "").digest] = b"xfp32"
    stop = threading.Event()
    bench.executor.on_released = stop.set
    with ThreadPoolExecutor() as pool:
        done = pool.submit(bench.executor.run, stop)
        assert stop.wait(10)
        bench.book.wake()
        done.result(10)
    assert bench.book.held == ()
    assert bench.results == []
    assert put_off == [("r1", 1, 704)], "the file that did not fit counts once"
    assert bench.cache.store.has(ref_of(b"xfp32", "").digest), "what has come stays for later"


def test_while_bytes_are_waited_for_only_what_needs_none_is_run(bench: Bench) -> None:
    put_off: list[int] = []
    bench.executor.waits = lambda: True
    bench.executor.put_off = lambda _round_id, _fence, size: put_off.append(size)
    bench.cache.store.add_bytes(b"fp32", MEDIA_ONNX)
    bench.work(a_round(a_run("fp32")))
    assert (bench.results, put_off) == ([], [len(b"inputs")])
    assert not [event for event in bench.events if event.startswith("read")]
    bench.book.forget("r1")
    bench.cache.store.add_bytes(b"inputs", MEDIA_NPZ)
    # What is for a runtime that is not here is not fetched anyway.
    bench.work(a_round(a_run("fp32"), a_run("int8", runtime="ncnn")))
    codes = [result.failure and result.failure.code for result in bench.results]
    assert (codes, put_off) == ([None, "runtime_absent"], [6])


def test_what_no_day_has_room_for_fails_by_name(bench: Bench) -> None:
    @contextlib.contextmanager
    def reserve(size: int, what: str) -> Iterator[None]:
        if size == len(b"int8"):
            raise OverBudget("more than a day's", 704, never=True)
        yield

    bench.executor.fetcher.reserve = reserve
    bench.work(a_round(a_run("xfp32"), a_run("int8")))
    by_name = {result.run.variant_name: result.failure for result in bench.results}
    assert by_name["int8"] is not None
    assert by_name["int8"].code == "over_budget"
    assert by_name["int8"].failure_class is FailureClass.DEVICE
