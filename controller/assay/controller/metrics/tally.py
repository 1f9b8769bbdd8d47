"""What the control process counts: calls by outcome, commits and what waits for one, rounds in
trouble, and the bytes that the blob process moves.

Counted since its start. Thread-safe; passed as lines to the process that shows them.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from assay.controller.metrics.exposition import Sample
from assay.controller.planning.timers import TROUBLES

_SECOND_NS = 1e9


@dataclass(frozen=True, slots=True)
class Tallied:
    """The counts at one moment; ``calls`` by method and gRPC status, ``waiting`` results not yet
    committed, ``troubles`` of rounds by code, ``blob_bytes`` by direction and encoding."""

    calls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    commits: int = 0
    commit_ns: int = 0
    results: int = 0
    waiting: int = 0
    troubles: Mapping[str, int] = field(default_factory=dict)
    blob_bytes: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def to_line(self) -> str:
        """A line of JSON, an object: no line about a device is one."""
        told = {
            "calls": [[*key, n] for key, n in sorted(self.calls.items())],
            "rest": [self.commits, self.commit_ns, self.results, self.waiting],
            "troubles": dict(self.troubles),
            "blob_bytes": [[*key, n] for key, n in sorted(self.blob_bytes.items())],
        }
        return json.dumps(told) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Tallied:
        """What :meth:`to_line` wrote."""
        read = json.loads(line)
        calls = {(method, status): n for method, status, n in read["calls"]}
        moved = {(direction, encoding): n for direction, encoding, n in read["blob_bytes"]}
        commits, commit_ns, results, waiting = read["rest"]
        return cls(calls, commits, commit_ns, results, waiting, read["troubles"], moved)

    def samples(self) -> Iterator[Sample]:
        """As Prometheus samples."""
        for key, n in sorted(self.calls.items()):
            yield "assay_calls_total", key, n
        yield "assay_commits_total", (), self.commits
        yield "assay_commit_seconds_total", (), self.commit_ns / _SECOND_NS
        yield "assay_committed_results_total", (), self.results
        yield "assay_results_waiting", (), self.waiting
        for code, n in sorted(self.troubles.items()):
            yield "assay_round_troubles_total", (code,), n
        for key, n in sorted(self.blob_bytes.items()):
            yield "assay_blob_bytes_total", key, n


class Tally:
    """The counts while they grow."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._commits = self._commit_ns = self._results = self._waiting = 0
        self._troubles = Counter({code: 0 for code in TROUBLES})
        self._blob_bytes: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def called(self, method: str, status: str) -> None:
        """One call ended: ``method`` as in ``/assay.v1.Fleet/Sync``, ``status`` as in ``OK``."""
        with self._lock:
            self._calls[method.rpartition("/")[2], status] += 1

    def queued(self, results: int) -> None:
        """So many results wait for a commit now."""
        with self._lock:
            self._waiting += results

    def committed(self, results: int, took_ns: int, *, stored: bool) -> None:
        """They wait no longer; one transaction is over."""
        with self._lock:
            self._waiting -= results
            self._commits += 1
            self._commit_ns += took_ns
            self._results += results if stored else 0

    def troubled(self, code: str) -> None:
        """A round was taken back or failed as a whole; ``code`` is one of
        :data:`assay.controller.planning.timers.TROUBLES`."""
        with self._lock:
            self._troubles[code] += 1

    def moved(self, direction: str, encoding: str, size_bytes: int) -> None:
        """So many more bytes of artifacts and traces, ``sent`` or ``received``."""
        with self._lock:
            self._blob_bytes[direction, encoding] += size_bytes

    def now(self) -> Tallied:
        """A snapshot."""
        with self._lock:
            return Tallied(
                dict(self._calls),
                self._commits,
                self._commit_ns,
                self._results,
                self._waiting,
                dict(self._troubles),
                dict(self._blob_bytes),
            )
