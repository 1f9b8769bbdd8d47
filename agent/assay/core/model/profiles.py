"""The named measuring profiles; the figures are argued for in docs/measurement.md."""

from __future__ import annotations

from assay.core.model.job import Profile

_S = 1_000_000_000

LONGEST_QUIET_NS = 60_000_000_000
"""After so much of timed blocks a device may speak again, and a cancel arrives."""

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        # The demo shows the path in minutes: its short warm-up is stated with every result.
        Profile("demo", _S, _S // 5, 20, 20 * _S, 2 * _S, 6 * _S, 0.99, 0.01, 5 * _S),
        Profile("quick", 3 * _S, _S // 2, 20, 60 * _S, 10 * _S, 30 * _S, 0.99, 0.01, 60 * _S),
        Profile("standard", 3 * _S, _S // 2, 20, 60 * _S, 60 * _S, 180 * _S, 0.99, 0.01, 300 * _S),
        Profile("mlperf", 3 * _S, _S // 2, 20, 60 * _S, 600 * _S, 900 * _S, 0.999, 0.01, 300 * _S),
    )
}
