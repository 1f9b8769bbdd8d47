"""Every reason code there is: what it means, whether it is hard, and who sees it.

A hard reason makes a result INVALID, a soft one SUSPECT. ``docs/reference/reasons.md`` is this
table, written by ``make docs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from assay.agent.samplers.rpi_pmic import EXT5V_FAIL_V, EXT5V_WARN_V
from assay.core.model import Mode, Reason
from assay.core.synthetic import SYNTHETIC

SYNTHETIC_DATASET = SYNTHETIC

MAX_WALL_PER_CPU = 1.02
MAX_RUN_DELAY_SHARE = 0.02
MAX_PSI_SHARE = 0.10
MAX_SWITCHES_PER_S = 10.0
MAX_CLOCK_MOVE = 0.01
MAX_CLOCK_PROBE_CHANGE = 0.02
CLOCK_MOVED_SHARE = 0.05
MAX_CLOCK_JUMP_NS = 100_000_000
MAX_CLOCK_SLEW = 1e-3
MIN_SERVED_SHARE = 0.97
MAX_DRIFT = 0.02
MAX_OUTLIER_TIME_SHARE = 0.05
MAX_FLOOR_SHARE = 0.02
MAX_STEAL_SHARE = 0.01
MAX_BACKGROUND_SHARE = 0.25
MIN_BATTERY_CHARGE = 0.20


@dataclass(frozen=True, slots=True)
class Code:
    """``finding_in`` names the modes in which it is a finding (a note) and no fault."""

    code: str
    hard: bool
    rule: str
    seen_by: str = "guard"
    finding_in: frozenset[Mode] = frozenset()


_SUSTAINED = frozenset({Mode.SUSTAINED})
_WORKER, _ENERGY, _AGENT = "runner", "energy", "agent"

CATALOGUE: tuple[Code, ...] = (
    Code(
        "throttled",
        True,
        "The board held its processor back in the timed part: firmware bits, x86 throttle "
        "counters, a cooling device above 0, an under-voltage alarm, or (Jetson) over-current "
        "events at more than twice their idle rate.",
        finding_in=_SUSTAINED,
    ),
    Code(
        "freq_moved",
        True,
        f"More than {CLOCK_MOVED_SHARE:.0%} of the clock readings lie over {MAX_CLOCK_MOVE:.0%} "
        "from their median, or the calibrated loop took over "
        f"{MAX_CLOCK_PROBE_CHANGE:.0%} longer or shorter after than before. Hard under a locked "
        "clock (governor `performance` or `userspace`, or limits alike, as jetson_clocks "
        "sets them), soft otherwise. Hard too where such limits came apart during the run.",
        finding_in=_SUSTAINED,
    ),
    Code(
        "cpu_contended",
        True,
        f"Wall time over CPU time above {MAX_WALL_PER_CPU:g} (one thread, closed loop, CPU "
        f"provider). Elsewhere: a thread waited for a CPU for over {MAX_RUN_DELAY_SHARE:.0%} of "
        f"the time; where the kernel does not tell that, PSI above {MAX_PSI_SHARE:.0%} with over "
        f"{MAX_SWITCHES_PER_S:g} involuntary switches a second.",
    ),
    Code(
        "not_steady",
        True,
        "Warm-up was given up before five block medians held still, or an open loop's queue grew "
        f"(served below {MIN_SERVED_SHARE:.0%} of what was offered).",
    ),
    Code(
        "output_mismatch",
        True,
        "Outputs outside the tolerance of the golden ones of the same file, outputs that are NaN "
        "or infinite where the golden ones are not, or a timed path that computes something else "
        "than the plain one.",
    ),
    Code(
        "clock_jump",
        True,
        f"The wall clock left the monotonic clock by over {MAX_CLOCK_JUMP_NS / 1e6:g} ms (plus "
        f"{MAX_CLOCK_SLEW:.1%} for slewing), or the board slept.",
    ),
    Code("low_n", True, "Fewer than 11 samples: not even a median may be stated."),
    Code(
        "swap_or_major_faults",
        True,
        "The board swapped in the timed part, or the worker read pages from disk in a block.",
    ),
    Code(
        "emulated",
        True,
        "The program ran under an emulator of its processor, so its times are nobody's.",
        "devices",
    ),
    Code("worker_crashed", True, "The worker died or left no readable report.", _WORKER),
    Code("worker_oom", True, "The worker got no more memory, or was killed for it.", _WORKER),
    Code("worker_timeout", True, "The worker outlived its time box and was killed.", _WORKER),
    Code("fetch_timeout", True, "The run's files were not here in the time allowed.", _AGENT),
    Code("start_timeout", True, "No worker began in the time allowed.", _AGENT),
    Code("model_hash_mismatch", True, "The file to be measured is not the one asked for.", _AGENT),
    Code(
        "unsigned_artifact",
        True,
        "No publisher this device trusts has signed a file of the run; nothing of it was loaded.",
        _AGENT,
    ),
    Code(
        "signatures_unchecked",
        True,
        "The board could not check the signatures of the run's files, after several tries.",
        _AGENT,
    ),
    Code("runtime_absent", True, "The runtime, version or provider is not here.", "worker"),
    Code("runtime_rejected", True, "The runtime refused the model, or to run it.", "worker"),
    Code("bad_inputs", True, "The dataset does not fit the model.", "worker"),
    Code("usage", True, "The run asks for what cannot be, e.g. a server without a rate.", "worker"),
    Code("bad_spec", True, "The run's preprocessing cannot be read.", "worker"),
    Code("internal", True, "Assay itself failed.", "worker"),
    Code(
        "drift",
        False,
        f"The last quarter's median lies over {MAX_DRIFT:.0%} from the first quarter's.",
        finding_in=_SUSTAINED,
    ),
    Code(
        "outliers",
        False,
        f"Samples beyond 10 robust sigma took over {MAX_OUTLIER_TIME_SHARE:.0%} of the time more"
        " than the median would have.",
    ),
    Code(
        "overhead_bound",
        False,
        f"The harness's own floor is over {MAX_FLOOR_SHARE:.0%} of the median.",
    ),
    Code(
        "throttle_history_dirty",
        False,
        "The board had throttled since boot, and was not watched live all through the timed part.",
    ),
    Code(
        "low_voltage",
        False,
        f"A Raspberry Pi 5's 5 V input read below {EXT5V_WARN_V:g} V in the timed part; hard below "
        f"{EXT5V_FAIL_V:g} V.",
    ),
    Code("hot_start", False, "The board was warmer than its start limit when the run began."),
    Code("battery_low", False, f"The battery held less than {MIN_BATTERY_CHARGE:.0%}."),
    Code("isolation_none", False, "The measured CPUs were not kept free of the agent's work."),
    Code("fallback_ops", False, "Operators ran elsewhere than on the provider asked for."),
    Code(
        "background_load",
        False,
        f"The other CPUs were busy for over {MAX_BACKGROUND_SHARE:.0%} of the time.",
    ),
    Code(
        "steal", False, f"A hypervisor took over {MAX_STEAL_SHARE:.0%} of the measured CPUs' time."
    ),
    Code(
        "outputs_nonfinite",
        False,
        "Outputs are NaN or infinite, as they were in the reference run of the same file.",
    ),
    Code("outputs_unchecked", False, "There were neither golden outputs nor labels."),
    Code("synthetic_input", False, "The inputs were made up from the model's declared shapes."),
    Code("scraped", False, "The agent's /metrics was asked for in a timed block.", _AGENT),
    Code("usb_powered", False, "The phone was charging over USB.", _ENERGY),
    Code("power_uncalibrated", False, "Nobody stated the power sensor's gain.", _ENERGY),
    Code("energy_aliased", False, "The power sensor is too slow for the load.", _ENERGY),
    Code("energy_inconclusive", False, "The energy's uncertainty is over 20 % of it.", _ENERGY),
    Code("baseline_drift", False, "Idle power moved by over 5 % over the run.", _ENERGY),
)

BY_CODE = MappingProxyType({entry.code: entry for entry in CATALOGUE})


def reason(code: str, detail: str, *, hard: bool | None = None) -> Reason:
    """A reason of the catalogue; ``hard`` only where the catalogue says it depends."""
    entry = BY_CODE[code]
    return Reason(code, entry.hard if hard is None else hard, detail)


def is_finding(code: str, mode: Mode) -> bool:
    """Whether ``code`` is only noted in ``mode``."""
    return mode in BY_CODE[code].finding_in


def reference() -> str:
    """``docs/reference/reasons.md``, which ``make docs`` writes."""
    lines = [
        "# Reason codes",
        "",
        "A result is VALID without reasons, SUSPECT with soft ones only, INVALID with a hard one.",
        "Only VALID results rank. The figures are argued for in [measurement](../measurement.md).",
        "",
        "| code | kind | rule | seen by | only a finding in |",
        "|---|---|---|---|---|",
    ]
    for entry in CATALOGUE:
        kind = "hard" if entry.hard else "soft"
        modes = ", ".join(sorted(mode.value for mode in entry.finding_in)) or "–"
        lines.append(f"| `{entry.code}` | {kind} | {entry.rule} | {entry.seen_by} | {modes} |")
    return "\n".join(lines) + "\n"
