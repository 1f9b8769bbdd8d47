"""When warm-up is over and when a run may stop; pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.core import stats
from assay.core.model import Mode, Profile

_WARMUP_MIN_QUERIES = 10
_RECHECK_GROWTH = 1.2


class Warmth(enum.Enum):
    """How far warm-up is."""

    WARMING = "warming"
    STEADY = "steady"
    GIVEN_UP = "given_up"


def judge_warmup(
    profile: Profile, mode: Mode, elapsed_ns: int, queries: int, block_medians: Sequence[float]
) -> Warmth:
    """STEADY after the minimum time and ten queries, once the last five block medians hold still;
    GIVEN_UP after the longest time. A sustained run wants the heating seen, so it waits for no
    steadiness."""
    long_enough = elapsed_ns >= profile.warmup_min_ns and queries >= _WARMUP_MIN_QUERIES
    if long_enough and (mode is Mode.SUSTAINED or stats.is_steady(block_medians)):
        return Warmth.STEADY
    return Warmth.GIVEN_UP if elapsed_ns >= profile.warmup_max_ns else Warmth.WARMING


class Stop(enum.Enum):
    """Why the timed part ended."""

    CONVERGED = "converged"
    LONGEST_TIME = "t_max"


@dataclass(slots=True)
class StopRule:
    """Stops when time, sample count and interval all suffice, or the longest time is over.

    The interval is asked for only once the rest holds, and again after a fifth more time: it
    costs a tenth of a second, during which the measured core is not being measured.
    """

    profile: Profile
    _next_check_ns: int = 0

    def decide(self, elapsed_ns: int, n: int, half_width: Callable[[], float]) -> Stop | None:
        """The reason to stop after ``elapsed_ns`` of timed blocks with ``n`` samples, or None."""
        profile = self.profile
        enough = n >= stats.n_min(profile.highest_percentile)
        if elapsed_ns >= max(profile.t_min_ns, self._next_check_ns) and enough:
            if half_width() <= profile.half_width_target:
                return Stop.CONVERGED
            self._next_check_ns = int(elapsed_ns * _RECHECK_GROWTH)
        return Stop.LONGEST_TIME if elapsed_ns >= profile.t_max_ns else None
