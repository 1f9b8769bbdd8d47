"""Hands results over: the trace first, then the bytes as they lie in the spool, until acked."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError

from assay.agent.home import full_disk_named, write_atomically
from assay.agent.plane.link import Link
from assay.agent.plane.quiet import QuietWindow, Stopping
from assay.agent.plane.rounds import RoundBook
from assay.agent.plane.spool import Entry, Key, Spool
from assay.agent.plane.traffic import Reserve
from assay.core import log
from assay.core.cas import ContentStore
from assay.core.channel import MAX_REPORT_BYTES, MAX_RESULTS_PER_REPORT, Backoff
from assay.core.errors import AssayError, Cancelled, DiskFull, OverBudget, Unreachable
from assay.core.model import MEDIA_NPZ, ArtifactRef
from assay.v1 import fleet_pb2, result_pb2

_LOG = log.get(__name__)
_S = 1_000_000_000
_FRAMING_BYTES = 160  # of a SpooledResult beside its body: hash, seq and tags
_LEAST_BYTES = 16 << 10
_MOST_REJECTED = 100
_LATE_S = 600.0
_STATUS = fleet_pb2.RecordStatus
_UNKNOWN = (_STATUS.RECORD_STATUS_UNSPECIFIED,)


@dataclass(slots=True)
class Reporter:
    """Empties the spool; :meth:`run` belongs to one thread, the rest is safe for all.

    ``rejected`` is where results go that the controller will not take, for people to look at.
    ``late`` is where traces wait for which ``reserve`` finds no room in the day's bytes: their
    results go without them.
    ``on_recorded`` is called after results were acknowledged.
    """

    link: Link
    spool: Spool
    traces: ContentStore
    book: RoundBook
    quiet: QuietWindow
    rejected: Path
    late: ContentStore | None = None
    late_quota_bytes: int = 64 << 20
    reserve: Reserve = lambda _size, _what: contextlib.nullcontext()
    on_recorded: Callable[[], None] = lambda: None
    rng: random.Random = field(default_factory=random.Random)
    _backoff: Backoff = field(init=False)
    _most: int = MAX_RESULTS_PER_REPORT
    _most_bytes: int = MAX_REPORT_BYTES
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _rung: bool = False
    _failing: bool = False
    _paced: bool = False

    def __post_init__(self) -> None:
        self._backoff = Backoff(first_s=0.5, most_s=30.0, rng=self.rng)

    def run(self, stop: threading.Event) -> None:
        """Reports until ``stop`` (and a :meth:`wake`)."""
        self.drop_orphans()
        try:
            while not stop.is_set():
                pause_s = self.step()
                with self._changed:
                    self._changed.wait_for(lambda: stop.is_set() or self._may_go(), pause_s)
                    self._rung = False
        except Stopping:
            pass
        finally:
            self._settled(failing=True)

    def wake(self) -> None:
        """There may be something to report."""
        with self._changed:
            self._rung = True
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Waits until nothing is left to report; False after ``timeout_s``, or at once where the
        controller does not take results now."""
        self.wake()
        with self._changed:
            self._changed.wait_for(lambda: not self.spool.entries or self._failing, timeout_s)
        return not self.spool.entries

    def step(self) -> float | None:
        """One batch; returns the seconds to wait before the next, None to wait for a wake. What the
        controller asks for is waited for also where something new wakes the reporter."""
        self._paced = False
        framing = min(self._most * _FRAMING_BYTES, self._most_bytes // 2)
        batch = self.spool.batch(self._most, self._most_bytes - framing)
        if not batch:
            self._settled(failing=False)
            return self._catch_up()
        try:
            self._upload_traces(batch)
            reply = self.link.report(self._request(batch))
        except Cancelled:
            return 0.0
        except AssayError as error:
            return self._refused(batch, error)
        self._backoff.succeeded()
        self._most = MAX_RESULTS_PER_REPORT
        self._most_bytes = min(MAX_REPORT_BYTES, 2 * self._most_bytes)
        try:
            kept = self._take_acks(reply.acks)
        except DiskFull as error:
            # Acknowledged, but not noted here: sent again, it will have been recorded before.
            return self._refused(batch, error)
        self._settled(failing=False)
        pause_s = reply.retry_after.ToNanoseconds() / _S
        self._paced = pause_s > 0
        return pause_s if not kept else max(pause_s, self._backoff.next_s())

    def drop_orphans(self) -> None:
        """Removes traces no waiting result names: the agent ended between the two."""
        wanted = {ref.digest for entry in self.spool.entries for ref in self._trace_of(entry)}
        for digest, _size in list(self.traces.held()):
            if digest not in wanted:
                self.traces.remove(digest)

    def _may_go(self) -> bool:
        return self._rung and not self._paced

    def _request(self, batch: Sequence[Entry]) -> fleet_pb2.ReportResultsRequest:
        return fleet_pb2.ReportResultsRequest(
            results=[
                fleet_pb2.SpooledResult(
                    attempt_id=entry.key.attempt_id,
                    seq=entry.key.seq,
                    sha256=entry.sha256,
                    body=self.spool.read(entry),
                )
                for entry in batch
            ]
        )

    def _upload_traces(self, batch: Sequence[Entry]) -> None:
        refs = {ref.digest: ref for entry in batch for ref in self._trace_of(entry)}
        held = {digest: ref for digest, ref in refs.items() if self.traces.has(digest)}
        if not held:
            return
        for digest in sorted(self.link.find_missing(list(held)) & held.keys()):
            try:
                self._write(held[digest], self.traces)
            except (Unreachable, Cancelled):
                raise
            except OverBudget as error:
                _LOG.warning("trace waits for room", digest=digest, why=str(error))
                self._put_off(held[digest])
            except AssayError as error:
                # The number is worth more than its raw samples.
                _LOG.error("trace was refused", digest=digest, code=error.code, error=str(error))

    def _write(self, ref: ArtifactRef, store: ContentStore) -> None:
        with self.reserve(ref.size_bytes, f"trace {ref.digest}"):
            self.link.write(ref, store.path(ref.digest))

    def _put_off(self, ref: ArtifactRef) -> None:
        if self.late is None:
            return
        waiting = sum(size for _digest, size in self.late.held())
        if waiting + ref.size_bytes > self.late_quota_bytes:
            _LOG.error("trace was lost", digest=ref.digest, error=f"{waiting} bytes wait already")
            return
        try:
            self.late.adopt(ref, self.traces.path(ref.digest))
        except OSError as error:
            _LOG.error("trace was lost", digest=ref.digest, error=str(error))

    def _catch_up(self) -> float | None:
        """Sends traces that were late; returns the seconds until there may be room for the rest."""
        waits = False
        for digest, size in list(self.late.held()) if self.late is not None else ():
            assert self.late is not None
            try:
                self._write(ArtifactRef(digest, size, MEDIA_NPZ), self.late)
            except OverBudget as error:
                if not error.never:
                    waits = True
                    continue
                _LOG.error("trace was lost", digest=digest, error=str(error))
            except Cancelled:
                return 0.0
            except Unreachable:
                return self._backoff.next_s()
            except AssayError as error:
                _LOG.error("trace was refused", digest=digest, code=error.code, error=str(error))
            self.late.remove(digest)
        return _LATE_S if waits else None

    def _trace_of(self, entry: Entry) -> list[ArtifactRef]:
        try:
            ref = result_pb2.Result.FromString(self.spool.read(entry)).trace
        except DecodeError:
            return []
        found = ArtifactRef(ref.digest, ref.size_bytes, ref.media_type)
        return [found] if ref.digest else []

    def _take_acks(self, acks: Iterable[fleet_pb2.RecordAck]) -> bool:
        """Lets go of what was acknowledged; whether the controller left something unsaid."""
        waiting = {entry.key: entry for entry in self.spool.entries}
        done: list[Key] = []
        unsaid = False
        for ack in acks:
            key = Key(ack.attempt_id, ack.seq)
            if key not in waiting:
                continue
            if ack.status in _UNKNOWN or ack.status not in _STATUS.values():
                _LOG.error("acknowledgement was not understood", attempt_id=key, status=ack.status)
                unsaid = True
                continue
            self._note(waiting[key], ack)
            done.append(key)
        self._let_go([waiting[key] for key in done])
        return unsaid or not done

    def _note(self, entry: Entry, ack: fleet_pb2.RecordAck) -> None:
        status = _STATUS.Name(ack.status).removeprefix("RECORD_STATUS_").lower()
        about = {"attempt": entry.key.attempt_id, "seq": entry.key.seq, "status": status}
        if ack.status == _STATUS.RECORD_STATUS_REJECTED:
            _LOG.error("result was rejected", detail=ack.detail, **about)
            self._set_aside(entry)
        elif ack.status == _STATUS.RECORD_STATUS_CONFLICT:
            _LOG.error("another result is stored already", detail=ack.detail, **about)
            self._set_aside(entry)
        else:
            _LOG.info("result was recorded", **about)

    def _let_go(self, entries: Sequence[Entry]) -> None:
        traces = [ref for entry in entries for ref in self._trace_of(entry)]
        self.book.recorded(entry.key for entry in entries)
        self.spool.remove(entry.key for entry in entries)
        for ref in traces:
            self.traces.remove(ref.digest)
        if entries:
            self.on_recorded()

    def _refused(self, batch: Sequence[Entry], error: AssayError) -> float:
        if error.code == "bad_message" and len(batch) > 1:
            self._most = 1  # find the one it is about
            return 0.0
        if error.code == "bad_message":
            _LOG.error("result was refused", attempt_id=batch[0].key.attempt_id, error=str(error))
            try:
                self._set_aside(batch[0])
                self._let_go(batch)
                return 0.0
            except DiskFull as full:
                error = full
        if error.code == "unreachable":
            # On a slow line a large report is cut off every time, a small one gets through.
            self._most_bytes = max(_LEAST_BYTES, self._most_bytes // 2)
        pause_s = self._backoff.next_s()
        _LOG.warning(
            "results were not taken",
            waiting=len(self.spool.entries),
            code=error.code,
            error=str(error),
            next_try_s=round(pause_s, 1),
        )
        self._settled(failing=True)
        return pause_s

    def _settled(self, *, failing: bool) -> None:
        with self._changed:
            self._failing = failing
            self._changed.notify_all()

    def _set_aside(self, entry: Entry) -> None:
        with full_disk_named(self.rejected):
            self.rejected.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self.rejected / f"{entry.sha256}.pb", self.spool.read(entry))
        kept = sorted(self.rejected.glob("*.pb"), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[:-_MOST_REJECTED]:
            path.unlink()
