"""When a run began to be held back; pure."""

from __future__ import annotations

from assay.agent.devices.throttling import throttled_now
from assay.agent.measuring.evidence import Evidence
from assay.agent.samplers.recording import of_quantity

_QUANTITIES = ("throttle_bits", "under_voltage_alarm", "cooling_state")
NOTE = "time_to_throttle_s"


def time_to_throttle(evidence: Evidence) -> str:
    """Seconds from the start of the timed part to the first reading that shows throttling; ``none
    within N s`` where the board was watched and showed none; empty where it cannot be watched."""
    start, end = evidence.report.timed_start_ns, evidence.report.timed_end_ns
    firsts, watched = [], False
    for quantity in _QUANTITIES:
        for one in of_quantity(evidence.series, quantity).values():
            inside = [(t, v) for t, v in zip(one.t_ns, one.value, strict=True) if start <= t <= end]
            watched = watched or len(inside) > 1
            firsts += [t for t, value in inside if _throttles(quantity, value)][:1]
    if firsts:
        return f"{(min(firsts) - start) / 1e9:.1f}"
    if evidence.change.throttled:
        return "some time in the run: only its end was seen"
    return f"none within {evidence.timed_s:.0f} s" if watched else ""


def _throttles(quantity: str, value: float) -> bool:
    return bool(throttled_now(int(value))) if quantity == "throttle_bits" else value > 0
