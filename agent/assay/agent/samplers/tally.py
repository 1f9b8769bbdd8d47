"""How the samplers fared over all runs since the agent started, for its own page. Thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from assay.agent.samplers.recording import SamplerCounters


class SamplerTally:
    """Counters by sampler, added up."""

    def __init__(self) -> None:
        self._totals: dict[str, SamplerCounters] = {}
        self._lock = threading.Lock()

    def add(self, counters: Mapping[str, SamplerCounters]) -> None:
        """Adds one run's."""
        with self._lock:
            for name, more in counters.items():
                held = self._totals.get(name, SamplerCounters())
                self._totals[name] = replace(
                    more,
                    successes=held.successes + more.successes,
                    failures=held.failures + more.failures,
                    lost_readings=held.lost_readings + more.lost_readings,
                    duration_ns=held.duration_ns + more.duration_ns,
                    thinned=held.thinned + more.thinned,
                )

    def totals(self) -> Mapping[str, SamplerCounters]:
        """A copy, by the sampler's name."""
        with self._lock:
            return dict(sorted(self._totals.items()))


TALLY = SamplerTally()
"""This process's."""
