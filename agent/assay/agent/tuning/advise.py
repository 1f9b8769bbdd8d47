"""Looks at a board and says what would make its numbers cleaner; reads only, needs no root.

Sources: kernel docs admin-guide/pm/cpufreq, intel_pstate, scheduler/sched-rt-group,
core-api/irq/irq-affinity, admin-guide/kernel-parameters (isolcpus); NVIDIA's guide to nvpmodel and
jetson_clocks, whose order matters: nvpmodel undoes jetson_clocks without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from assay.agent.devices.clocks import clock_domains, clocks_locked
from assay.agent.devices.jetson import parse_power_mode
from assay.agent.sysroot import find, maybe_int, maybe_text, parse_cpu_list, run_command
from assay.agent.tuning.knobs import CommandChange, FileChange, Knob
from assay.core.errors import SamplerError

NOISY_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "unattended-upgrades.service",
    "packagekit.service",
    "fwupd-refresh.timer",
    "man-db.timer",
    "fstrim.timer",
    "irqbalance.service",
    "snapd.service",
    "tracker-miner-fs-3.service",
)
_CPU = "sys/devices/system/cpu"
_RT = "proc/sys/kernel/sched_rt_runtime_us"
_NMI = "proc/sys/kernel/nmi_watchdog"
_LIST_UNITS = ("systemctl", "list-units", "--state=active", "--plain", "--no-legend", "--no-pager")


@dataclass(frozen=True, slots=True)
class Board:
    """What is looked at. ``clocks_file`` is where jetson_clocks keeps what it found; ``power_mode``
    is the nvpmodel ID asked for, if any."""

    root: Path
    device_class: str
    measure_cpus: tuple[int, ...]
    housekeeping_cpus: tuple[int, ...]
    clocks_file: Path
    power_mode: str | None = None

    @property
    def is_jetson(self) -> bool:
        """Whether the clocks are NVIDIA's tools' business."""
        return self.device_class.startswith("jetson")

    @property
    def isolated(self) -> bool:
        """Whether measured work has CPUs of its own."""
        return not set(self.measure_cpus) & set(self.housekeeping_cpus)


def advise(board: Board) -> tuple[Knob, ...]:
    """Every knob, in the order in which they are to be set."""
    return tuple(knob for rule in _RULES for knob in rule(board))


def _power_mode(board: Board) -> Iterable[Knob]:
    if not board.is_jetson:
        return
    why = "power modes limit clocks and cores; set it before the clocks are locked"
    try:
        told = run_command(board.root, "nvpmodel", "-q")
    except SamplerError as error:
        yield Knob("power mode", "", "", why, absent=str(error))
        return
    name = parse_power_mode(told)
    number = told.split()[-1] if told.split() and told.split()[-1].isdigit() else None
    now = f"{name} ({number})" if number else str(name)
    if name is None or number is None:
        yield Knob("power mode", now, "", why, absent="nvpmodel -q did not tell (it needs root)")
    elif board.power_mode in (None, number):
        yield Knob("power mode", now, now, why)
    else:
        change = CommandChange(
            "nvpmodel",
            ("nvpmodel", "-m", board.power_mode),
            ("nvpmodel", "-m", number),
            survives_reboot=True,
        )
        yield Knob("power mode", now, board.power_mode, why, (change,))


def _clocks(board: Board) -> Iterable[Knob]:
    if board.is_jetson:
        yield _jetson_clocks(board)
        return
    why = "a clock that follows the load is another clock in every run"
    domains = clock_domains(board.root)
    if not domains:
        yield Knob("governor", "", "performance", why, absent="no cpufreq on this board")
        return
    changes, seen, lacking = [], [], False
    for domain in domains:
        governor = maybe_text(domain.folder / "scaling_governor") or "unknown"
        seen.append(governor)
        offered = maybe_text(domain.folder / "scaling_available_governors")
        if offered is not None and "performance" not in offered.split():
            lacking = True
        elif governor not in ("performance", "unknown"):
            path = (domain.folder / "scaling_governor").relative_to(board.root)
            changes.append(FileChange(str(path), governor, "performance"))
    now = ", ".join(dict.fromkeys(seen))
    hand = "load the kernel module cpufreq_performance" if lacking else ""
    yield Knob("governor", now, "performance", why, tuple(changes), hand)


def _jetson_clocks(board: Board) -> Knob:
    why = "locks every clock at its highest; run it again after each nvpmodel, which undoes it"
    locked = clocks_locked(board.root)
    if locked is None:
        return Knob("jetson_clocks", "", "locked", why, absent="the clocks' limits are not told")
    if locked and board.power_mode is None:
        return Knob("jetson_clocks", "locked", "locked", why)
    kept = str(board.clocks_file)
    changes = (
        CommandChange("jetson_clocks --store", ("jetson_clocks", "--store", kept)),
        CommandChange("jetson_clocks", ("jetson_clocks",), ("jetson_clocks", "--restore", kept)),
    )
    return Knob("jetson_clocks", "locked" if locked else "free", "locked", why, changes)


def _turbo(board: Board) -> Iterable[Knob]:
    why = "a boost lasts as long as heat and neighbours allow, so it differs from run to run"
    for path, on, off in (
        (f"{_CPU}/intel_pstate/no_turbo", "0", "1"),
        (f"{_CPU}/cpufreq/boost", "1", "0"),
    ):
        now = maybe_text(board.root / path)
        if now in (on, off):
            changes = (FileChange(path, on, off),) if now == on else ()
            yield Knob("boost", "on" if now == on else "off", "off", why, changes)
            return


def _real_time(board: Board) -> Iterable[Knob]:
    why = "with a limit a real-time thread is stopped for 50 ms a second, so blocks must be short"
    now = maybe_text(board.root / _RT)
    if now is None:
        yield Knob("real-time limit", "", "-1", why, absent="the kernel has no such limit")
    elif not board.isolated:
        told = "measured work shares its CPUs here: without the limit it could lock the board up"
        yield Knob("real-time limit", now, now, told)
    else:
        changes = (FileChange(_RT, now, "-1"),) if now != "-1" else ()
        yield Knob("real-time limit", now, "-1", why, changes)


def _nmi_watchdog(board: Board) -> Iterable[Knob]:
    now = maybe_text(board.root / _NMI)
    if now in ("0", "1"):
        changes = (FileChange(_NMI, "1", "0"),) if now == "1" else ()
        yield Knob("nmi watchdog", now, "0", "it interrupts every CPU on a counter", changes)


def _interrupts(board: Board) -> Iterable[Knob]:
    if not board.isolated:
        return
    why = "an interrupt on a measured CPU is time the model did not take"
    wanted = _cpu_list(board.housekeeping_cpus)
    measured, changes = set(board.measure_cpus), []
    for path in find(board.root, "proc/irq/[0-9]*/smp_affinity_list"):
        now = maybe_text(path)
        effective = maybe_text(path.with_name("effective_affinity_list")) or now
        if now and measured & set(parse_cpu_list(effective or now)):
            changes.append(FileChange(str(path.relative_to(board.root)), now, wanted))
    now = f"{len(changes)} may come to CPU {_cpu_list(board.measure_cpus)}"
    yield Knob("interrupts", now, f"on CPU {wanted}", why, tuple(changes))


def _services(board: Board) -> Iterable[Knob]:
    why = "they wake up when they like and read, compress or index"
    try:
        listed = run_command(board.root, *_LIST_UNITS)
    except SamplerError as error:
        yield Knob("services", "", "stopped", why, absent=str(error))
        return
    active = [line.split()[0] for line in listed.splitlines() if line.split()]
    noisy = [unit for unit in NOISY_UNITS if unit in active]
    changes = (
        CommandChange(f"unit {unit}", ("systemctl", "stop", unit), ("systemctl", "start", unit))
        for unit in noisy
    )
    yield Knob("services", ", ".join(noisy) or "none", "none", why, tuple(changes))


def _isolated_cpus(board: Board) -> Iterable[Knob]:
    if not board.isolated:
        hand = "none here: measured work needs a CPU that the agent does not use"
        yield Knob("isolated cpus", "none", "", hand, by_hand=hand)
        return
    isolated = parse_cpu_list(maybe_text(board.root / _CPU / "isolated") or "")
    wanted = _cpu_list(board.measure_cpus)
    hand = ""
    if not set(board.measure_cpus) <= set(isolated):
        hand = (
            f"kernel command line, then reboot: isolcpus=managed_irq,domain,{wanted} "
            f"nohz_full={wanted} rcu_nocbs={wanted}"
        )
    why = "keeps the scheduler's other work and its tick off the measured CPUs"
    yield Knob("isolated cpus", _cpu_list(isolated) or "none", wanted, why, by_hand=hand)


def _swap(board: Board) -> Iterable[Knob]:
    lines = (maybe_text(board.root / "proc/swaps") or "").splitlines()[1:]
    used = sum(int(f[3]) for line in lines if len(f := line.split()) >= 4 and f[3].isdigit())
    hand = f"{used} KiB are swapped out: swapoff -a, if memory allows" if used else ""
    yield Knob(
        "swap", f"{used} KiB used", "0 KiB used", "a page read back is no inference", (), hand
    )


def _frequency_limit(board: Board) -> Iterable[Knob]:
    """A ceiling somebody left below what the hardware can do."""
    lowered = []
    for domain in clock_domains(board.root):
        limit = maybe_int(domain.folder / "scaling_max_freq")
        highest = maybe_int(domain.folder / "cpuinfo_max_freq")
        if limit and highest and limit < highest:
            lowered.append(f"{domain.name} at {limit // 1000} of {highest // 1000} MHz")
    if lowered:
        why = "a ceiling below the hardware's measures another board; it may be meant so"
        hand = "raise scaling_max_freq, or keep it and say so"
        yield Knob("clock ceiling", ", ".join(lowered), "the hardware's", why, by_hand=hand)


def _cpu_list(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


_RULES: tuple[Callable[[Board], Iterable[Knob]], ...] = (
    _power_mode,
    _clocks,
    _frequency_limit,
    _turbo,
    _real_time,
    _nmi_watchdog,
    _services,
    _interrupts,
    _isolated_cpus,
    _swap,
)
