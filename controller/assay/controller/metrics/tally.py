"""What the control process counts about itself: calls by outcome, commits and what waits for one.

Counted since its start. Thread-safe; passed as lines to the process that shows them.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from assay.controller.metrics.exposition import Sample

_SECOND_NS = 1e9


@dataclass(frozen=True, slots=True)
class Tallied:
    """The counts at one moment; ``calls`` by method and gRPC status, ``waiting`` results not yet
    committed."""

    calls: Mapping[tuple[str, str], int] = field(default_factory=dict)
    commits: int = 0
    commit_ns: int = 0
    results: int = 0
    waiting: int = 0

    def to_line(self) -> str:
        """A line of JSON, an object: no line about a device is one."""
        calls = [[*key, n] for key, n in sorted(self.calls.items())]
        rest = [self.commits, self.commit_ns, self.results, self.waiting]
        return json.dumps({"calls": calls, "rest": rest}) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Tallied:
        """What :meth:`to_line` wrote."""
        read = json.loads(line)
        return cls({(method, status): n for method, status, n in read["calls"]}, *read["rest"])

    def samples(self) -> Iterator[Sample]:
        """As Prometheus samples."""
        for key, n in sorted(self.calls.items()):
            yield "assay_calls_total", key, n
        yield "assay_commits_total", (), self.commits
        yield "assay_commit_seconds_total", (), self.commit_ns / _SECOND_NS
        yield "assay_committed_results_total", (), self.results
        yield "assay_results_waiting", (), self.waiting


class Tally:
    """The counts while they grow."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str]] = Counter()
        self._commits = self._commit_ns = self._results = self._waiting = 0
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

    def now(self) -> Tallied:
        """A snapshot."""
        with self._lock:
            return Tallied(
                dict(self._calls), self._commits, self._commit_ns, self._results, self._waiting
            )
