"""Works off the rounds held: fetch all files, then run after run: measure, spool, hand over.

A run that fails is a Result with its failure, and the round goes on. After a restart of the agent a
half-done round goes on where it was: results in the spool or acknowledged are kept, an attempt that
was interrupted is run again under a higher seq, and one that was interrupted three times is
reported as failed (it may be what brings the agent down).
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from assay.agent.clock import Clock
from assay.agent.home import full_disk_named
from assay.agent.measuring.measure import Measured
from assay.agent.measuring.observe import RunPaths
from assay.agent.measuring.outcome import failure_of, measured_result, unmeasured, with_reason
from assay.agent.plane.cache import ArtifactCache
from assay.agent.plane.fetch import Fetcher
from assay.agent.plane.gather import Gathered, missing_bytes, refs_of
from assay.agent.plane.limits import Limit
from assay.agent.plane.quiet import QuietWindow, Stopping
from assay.agent.plane.rounds import AttemptState, HeldRound, RoundBook, seq_of
from assay.agent.plane.signatures import Refused
from assay.agent.plane.spool import Key, Spool
from assay.core import convert, log
from assay.core.cas import ContentStore
from assay.core.errors import (
    AssayError,
    Cancelled,
    DiskFull,
    OverBudget,
    RuntimeAbsent,
    StartTimeout,
    WorkerCrashed,
)
from assay.core.model import (
    LONGEST_QUIET_NS,
    MEDIA_NPZ,
    ArtifactRef,
    DeviceFacts,
    Reason,
    Round,
    RunSpec,
)

T = TypeVar("T")

_LOG = log.get(__name__)
MOST_STARTS = 3
_DRAIN_S = 20.0
_LAST_DRAIN_S = 600.0
_FULL_DISK_RETRY_S = 5.0
_QUIET_MARGIN_NS = 30_000_000_000

Measure = Callable[
    [RunSpec, RunPaths, DeviceFacts, Path, Callable[[str], None], threading.Event], Measured
]
"""(run, files, device, an empty directory, on_state, cancel) → what was measured."""


class Announce(Protocol):
    """See :meth:`assay.agent.plane.session.Session.announce`."""

    def __call__(self, quiet_for_ns: int, /, *, again: bool) -> None: ...


_DONE = (AttemptState.SPOOLED, AttemptState.RECORDED)


@dataclass(slots=True)
class RoundExecutor:
    """What the agent's one working thread does.

    ``announce`` is told how many nanoseconds a timed block will be quiet for, and whether it is
    not the first of its run; ``drain`` waits until results are handed over, at most the seconds
    given; ``scrapes`` counts requests to the agent's own /metrics so far; ``refused`` tells of
    files, before they are fetched, which may not be used; ``put_off`` is given round, fence and
    the bytes there was no room for; while the agent ``waits`` for such room nothing is fetched.
    """

    book: RoundBook
    spool: Spool
    fetcher: Fetcher
    traces: ContentStore
    quiet: QuietWindow
    measure: Measure
    facts: Callable[[], DeviceFacts]
    device_name: str
    work_dir: Path
    announce: Announce
    drain: Callable[[float], object]
    on_released: Callable[[], None]
    scrapes: Callable[[], int] = lambda: 0
    refused: Refused = lambda _refs, _limit: {}
    put_off: Callable[[str, int, int], None] = lambda _round_id, _fence, _bytes: None
    waits: Callable[[], bool] = lambda: False
    clock: Clock = field(default_factory=Clock)

    def run(self, stop: threading.Event) -> None:
        """Works until ``stop``."""
        while (held := self.book.take(stop)) is not None:
            given_back = False
            try:
                given_back = self.work(held)
            finally:
                self.book.release(held.round.round_id)
                if given_back:
                    self.book.forget(held.round.round_id, held.round.fence)
                self.on_released()

    def work(self, held: HeldRound) -> bool:
        """Goes through what is left of one round; returns early where it is dropped. True where it
        goes back, because its files are more than is left of the day's bytes.

        All files are fetched before the first run: from then on the round needs no network.
        """
        round_ = held.round
        cancel = self.book.cancelled(round_.round_id)
        left = [run for run in round_.runs if held.state(run.attempt_id) not in _DONE]
        self.cache.pin(round_.round_id, [ref.digest for ref in refs_of(round_.runs)])
        try:
            files = self._gather(round_, left, cancel)
            for run in left:
                if cancel.is_set():
                    break
                self._attempt(round_, run, files, cancel)
            # A slow line gets the traces it had no time for between the runs.
            self.drain(_LAST_DRAIN_S)
        except (Cancelled, Stopping):
            _LOG.info("round was left", round_id=round_.round_id)
        except OverBudget as error:
            _LOG.warning("round was given back", round_id=round_.round_id, why=str(error))
            wanted_bytes = max(error.wanted_bytes, missing_bytes(left, self.cache.store))
            self.put_off(round_.round_id, round_.fence, wanted_bytes)
            return True
        finally:
            self.cache.unpin(round_.round_id)
        return False

    @property
    def cache(self) -> ArtifactCache:
        """The artifacts on this device."""
        return self.fetcher.cache

    def _gather(self, round_: Round, runs: Sequence[RunSpec], cancel: threading.Event) -> Gathered:
        """Nothing is downloaded for a runtime that is not here."""
        limit = Limit(cancel, round_.fetch_ns, self.clock.boottime_ns)
        here = {facts.name for facts in self.facts().runtimes}
        wanted = [run for run in runs if run.runtime.name in here]
        if self.waits() and (missing := missing_bytes(wanted, self.cache.store)):
            raise OverBudget(f"{missing} bytes of its files wait for another day's", missing)
        for run in wanted:
            # Asking for signatures takes time too: the round has begun.
            self._advance(round_, run, AttemptState.FETCHING)
        gathered = Gathered(self.refused(refs_of(wanted), limit))
        for run in wanted:
            gathered.add(run, self.fetcher, limit)
            self._advance(round_, run, AttemptState.VERIFIED)
        return gathered

    def _attempt(
        self, round_: Round, run: RunSpec, files: Gathered, cancel: threading.Event
    ) -> None:
        start = self._with_room(lambda: self.book.start(round_.round_id, run.attempt_id), cancel)
        key = Key(run.attempt_id, seq_of(round_.fence, start))
        _LOG.info("run began", attempt_id=run.attempt_id, variant=run.variant_name, seq=key.seq)
        with self._scratch(cancel) as directory:
            measured = self._measure(round_, run, start, files, directory, cancel)
            trace = self._keep_trace(measured)
        result = measured_result(round_, run, key.seq, measured, trace)
        body = convert.to_bytes(result)
        self._with_room(lambda: self.spool.append(key, body), cancel)
        self._advance(round_, run, AttemptState.SPOOLED)
        _LOG.info(
            "run ended",
            attempt_id=run.attempt_id,
            variant=run.variant_name,
            verdict=measured.verdict.kind.value,
            reasons=[reason.code for reason in measured.verdict.reasons],
        )
        # Nothing of the last run is on the wire while the next one warms up.
        self.drain(_DRAIN_S)

    def _measure(
        self,
        round_: Round,
        run: RunSpec,
        start: int,
        files: Gathered,
        directory: Path,
        cancel: threading.Event,
    ) -> Measured:
        device = self.facts()
        try:
            _check_starts(start)
            _check_runtime(run, device)
            with full_disk_named(directory):
                return self._timed(round_, run, files.paths(run), device, directory, cancel)
        except (Cancelled, Stopping):
            raise
        except AssayError as error:
            failure = failure_of(error)
        except Exception as error:
            _LOG.exception("run failed by a mistake of ours", attempt_id=run.attempt_id)
            failure = failure_of(AssayError(f"{type(error).__name__}: {error}"))
        _LOG.warning(
            "run failed", attempt_id=run.attempt_id, code=failure.code, why=failure.message
        )
        return unmeasured(run, failure, device, self.device_name, self.clock.unix_ns())

    def _timed(
        self,
        round_: Round,
        run: RunSpec,
        files: RunPaths,
        device: DeviceFacts,
        directory: Path,
        cancel: threading.Event,
    ) -> Measured:
        scrapes_before: int | None = None
        scraped = blocks = 0
        limit = Limit(cancel, _start_limit_ns(round_, run), self.clock.boottime_ns)

        def on_state(name: str) -> None:
            nonlocal scrapes_before, scraped, blocks
            if name != AttemptState.SETTLING.value:
                limit.kept()
            if name == AttemptState.MEASURING.value:
                self.quiet.enter()
                quiet_ns = min(run.profile.t_max_ns, LONGEST_QUIET_NS) + _QUIET_MARGIN_NS
                self.announce(quiet_ns, again=blocks > 0)
                blocks += 1
                scrapes_before = self.scrapes()
            else:
                scraped += self._end_block(scrapes_before)
                scrapes_before = None
            with contextlib.suppress(ValueError):
                self._advance(round_, run, AttemptState(name))

        try:
            measured = self.measure(run, files, device, directory, on_state, limit)
        except Cancelled as error:
            if not limit.timed_out:
                raise
            raise StartTimeout(
                f"no worker began within {limit.limit_s:g} s of the run's turn; look at the "
                "board's load, or allow more by limits.start_s in the sweep file"
            ) from error
        finally:
            scraped += self._end_block(scrapes_before)
        if scraped:
            detail = f"{scraped} request(s) to the agent's /metrics inside a timed block"
            measured = with_reason(measured, Reason("scraped", False, detail))
        return measured

    def _end_block(self, scrapes_before: int | None) -> int:
        scraped = 0 if scrapes_before is None else self.scrapes() - scrapes_before
        self.quiet.leave()
        return scraped

    def _keep_trace(self, measured: Measured) -> ArtifactRef | None:
        """The trace in the store of traces, or None where the disk has no room for it: the number
        is worth more than its raw samples."""
        if measured.trace_path is None:
            return None
        try:
            return self.traces.add_file(measured.trace_path, MEDIA_NPZ)
        except DiskFull as error:
            _LOG.error("trace was lost", error=str(error))
            return None

    def _with_room(self, keep: Callable[[], T], cancel: threading.Event) -> T:
        """Waits for room where the disk is full; a result is not given up before its round is."""
        while True:
            try:
                return keep()
            except DiskFull as error:
                _LOG.error("round waits for room", error=str(error))
                self.cache.evict_all()
                if cancel.wait(_FULL_DISK_RETRY_S):
                    raise Cancelled("the round ended before there was room") from error

    @contextlib.contextmanager
    def _scratch(self, cancel: threading.Event) -> Iterator[Path]:
        shutil.rmtree(self.work_dir, ignore_errors=True)
        self._with_room(self._make_work_dir, cancel)
        try:
            yield self.work_dir
        finally:
            shutil.rmtree(self.work_dir, ignore_errors=True)

    def _make_work_dir(self) -> None:
        with full_disk_named(self.work_dir):
            self.work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _advance(self, round_: Round, run: RunSpec, state: AttemptState) -> None:
        self.book.advance(round_.round_id, run.attempt_id, state)


def _start_limit_ns(round_: Round, run: RunSpec) -> int:
    """Cooling down has a limit of its own."""
    return round_.start_ns + run.profile.settle_max_ns if round_.start_ns else 0


def _check_starts(start: int) -> None:
    if start > MOST_STARTS:
        raise WorkerCrashed(
            f"the agent was interrupted {start - 1} times in this run: it is not tried again; look "
            "for out-of-memory kills or power failures in the device's log"
        )


def _check_runtime(run: RunSpec, device: DeviceFacts) -> None:
    found = [facts.name for facts in device.runtimes]
    if run.runtime.name not in found:
        have = ", ".join(found) or "none"
        raise RuntimeAbsent(
            f"runtime {run.runtime.name} is not usable on this device (it has: {have}); "
            "`assay-agent doctor` says what to install"
        )
