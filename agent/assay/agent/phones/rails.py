"""Energy of a tethered phone from its on-device power monitor, where adb may read it; pure.

The script that starts the binary also notes the rails: for a while before (idle), all along, and at
both ends. Everything is told by the phone's own clock, so the cable's delays are not in it. The
rails are those of the phone's parts, so a cable that charges the battery does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from assay.agent.power.energy import EnergyEstimate, Window, estimate_energy
from assay.agent.samplers.odpm import FILES, RAILS, parse_rails
from assay.agent.samplers.recording import Series
from assay.core.model import Absent

IDLE_S = 10
SOURCE = "odpm.rails"
_NOTED, _BEGIN, _END = "rails", "rails.begin", "rails.end"
_SNAPSHOT, _FILE = "@@rails", "@@file"
READ = (
    f"[ -f {_END} ] || exit 0; cat {_NOTED}; echo {_FILE}; cat {_BEGIN}; echo {_FILE}; cat {_END}"
)
"""A script that prints what was noted in the folder it runs in, for :meth:`Noted.parse`."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Snapshots taken all along, and at both ends of the run."""

    along: str
    begin: str
    end: str

    @classmethod
    def parse(cls, text: str) -> Noted | None:
        """What :data:`READ` printed; None where the phone has no monitor that may be read."""
        parts = text.split(f"{_FILE}\n")
        return cls(*parts) if len(parts) == 3 else None


def noting(loop: str) -> str:
    """``loop`` with the rails noted around it, where there are any; the files lie beside it."""
    files = f"/{FILES}"
    note = f"{{ echo {_SNAPSHOT}; cat {files}; }}"
    begin = f"if cat {files} >/dev/null 2>&1; then (while true; do {note}; sleep 0.5; done) "
    begin += f"> {_NOTED} 2>/dev/null & w=$!; sleep {IDLE_S}; {note} > {_BEGIN}; fi; "
    return f'w=; {begin}{loop}; [ -n "$w" ] && {{ {note} > {_END}; kill $w; }}'


def energy_of(noted: Noted, mean_ns: float) -> EnergyEstimate | Absent:
    """Joules per inference between the two ends; the binary's load and warm-up are inside.

    Mean power times the mean latency, since how often a binary ran untimed is not told.
    """
    series = series_of(f"{noted.along}\n{noted.begin}\n{noted.end}")
    edges = [series_of(text).t_ns for text in (noted.begin, noted.end)]
    if not all(edges) or not series.t_ns:
        return Absent("the phone's power monitor gave no complete reading")
    active = Window(edges[0][-1], edges[1][-1])
    idle = Window(series.t_ns[0], active.start_ns)
    if active.end_ns <= active.start_ns or idle.end_ns <= idle.start_ns:
        return Absent("the phone's power monitor did not move on between idle and run")
    inferences = max(1, round((active.end_ns - active.start_ns) / mean_ns))
    return estimate_energy({SOURCE: series}, [idle], active, inferences)


def series_of(text: str) -> Series:
    """The sum over the rails at each snapshot, in order of the phone's clock. One that lacks a
    rail, or repeats the driver's last answer, is left out."""
    found: dict[int, float] = {}
    wanted = 0
    for part in text.split(_SNAPSHOT)[1:]:
        rails = parse_rails(part)
        wanted = max(wanted, len(rails))
        if rails and len(rails) == wanted:
            t_ms = sum(rail.t_ms for rail in rails) / len(rails)
            found[int(t_ms * 1e6)] = sum(rail.energy_uj for rail in rails) / 1e6
    times = sorted(found)
    return Series(times, [found[t] for t in times], "energy", "J", RAILS)
