"""What ``assay-agent doctor`` finds: each thing with its value, or why it is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from assay.agent.devices.classes import start_limit_c
from assay.agent.devices.detect import detect
from assay.agent.devices.power import power_absence
from assay.agent.devices.state import DeviceState, read_state
from assay.agent.measuring.cpus import CpuPlan, choose_cpus, read_siblings
from assay.agent.permissions import may_renice, may_reset_peak, may_run_fifo
from assay.agent.plane.traffic import kept_day_bytes
from assay.agent.platform import board_problem, python_problem
from assay.agent.samplers import Sampler, facts_of, probe_all
from assay.agent.samplers.base import Reading
from assay.agent.samplers.rpi_pmic import input_voltage_problem
from assay.core.errors import SamplerError
from assay.core.model import Absent, DeviceFacts, Isolation, RuntimeFacts

OK, ABSENT, WARN, REFUSED = "ok", "absent", "warn", "refused"
_LIVE = Path("/")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor; ``detail`` says why and what to do."""

    area: str
    name: str
    status: str
    value: str = ""
    detail: str = ""


RuntimeAnswer = RuntimeFacts | tuple[str, Absent]


def examine(sysroot: Path, runtimes: Iterable[RuntimeAnswer]) -> list[Finding]:
    """Looks at everything; ``runtimes`` is what their probe answered (none for a recording)."""
    answers = tuple(runtimes)
    found = probe_all(sysroot)
    facts = detect(
        sysroot,
        tuple(answer for answer in answers if isinstance(answer, RuntimeFacts)),
        tuple(facts_of(name, one) for name, one in found.items()),
    )
    live = sysroot == _LIVE
    return [
        *(_platform() if live else []),
        *_board(facts),
        *_runtimes(answers),
        *(_isolation(facts, sysroot) if live else []),
        *_conditions(facts, sysroot),
        *_supply(found),
        *_power(facts, found),
        *[_sampler(name, one) for name, one in found.items()],
    ]


def examine_line(file: Path, limit_bytes: int | None) -> Finding:
    """What a metered line may carry a day, and has by the count an agent keeps in ``file``."""
    if limit_bytes is None:
        return Finding("line", "daily bytes", ABSENT, "", "no limit is set (daily_bytes)")
    passed = kept_day_bytes(file)
    if passed is None:
        return Finding("line", "daily bytes", OK, f"limit {limit_bytes}", f"no count in {file}")
    used_up = passed >= limit_bytes
    advice = "files and traces wait for room; syncs and results go on" if used_up else ""
    return Finding(
        "line", "daily bytes", WARN if used_up else OK, f"{passed} of {limit_bytes}", advice
    )


def can_measure(findings: Iterable[Finding], sysroot: Path) -> bool:
    """Whether a run could yield a number here; for a recording, whether any sensor answers."""
    listed = list(findings)
    if any(finding.status == REFUSED for finding in listed):
        return False
    area = "runtime" if sysroot == _LIVE else "sampler"
    return any(finding.area == area and finding.status == OK for finding in listed)


def _platform() -> list[Finding]:
    findings = []
    for name, value, problem in (
        ("python", platform.python_version(), python_problem()),
        ("system", os.uname().machine, board_problem()),
    ):
        findings.append(Finding("platform", name, REFUSED if problem else OK, value, problem))
    return findings


def _board(facts: DeviceFacts) -> list[Finding]:
    clusters = [
        f"{len(c.cpus)} up to {c.max_hz / 1e9:.2f} GHz" if c.max_hz else str(len(c.cpus))
        for c in facts.cpu.clusters
    ]
    rows = {
        "model": facts.board,
        "class": facts.device_class,
        "cpu": f"{facts.cpu.model} ({facts.cpu.architecture})",
        "cores": " + ".join(clusters),
        "features": " ".join(facts.capabilities),
        "memory": f"{facts.memory_total_bytes / 2**30:.1f} GiB" if facts.memory_total_bytes else "",
        "os": facts.os,
        "kernel": facts.kernel,
        "power mode": facts.power_mode or "",
    }
    return [Finding("board", name, OK, value) for name, value in rows.items() if value]


def _runtimes(answers: tuple[RuntimeAnswer, ...]) -> list[Finding]:
    findings = []
    for answer in answers:
        if isinstance(answer, RuntimeFacts):
            told = " ".join(answer.providers)
            findings.append(Finding("runtime", answer.name, OK, answer.version, told))
        else:
            name, absent = answer
            findings.append(Finding("runtime", name, ABSENT, "", absent.reason))
    return findings


def _isolation(facts: DeviceFacts, sysroot: Path) -> list[Finding]:
    plan = choose_cpus(
        facts.cpu, frozenset(os.sched_getaffinity(0)), siblings=read_siblings(sysroot)
    )
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    no_compiler = Absent("no C compiler: runs use raw_binding (apt install gcc for native_loop)")
    return [
        _plan(plan),
        _permission("SCHED_FIFO", may_run_fifo(sysroot)),
        _permission("nice -10", may_renice()),
        _permission("memory peak reset", may_reset_peak()),
        _permission("native loop", compiler or no_compiler),
    ]


def _plan(plan: CpuPlan) -> Finding:
    value = f"measure {_listed(plan.measure_cpus)}, rest {_listed(plan.housekeeping_cpus)}"
    status = WARN if plan.isolation is Isolation.NONE else OK
    return Finding("isolation", "cpus", status, value, plan.note)


def _permission(name: str, answer: str | Absent) -> Finding:
    if isinstance(answer, Absent):
        return Finding("isolation", name, ABSENT, "", answer.reason)
    return Finding("isolation", name, OK, answer)


def _conditions(facts: DeviceFacts, sysroot: Path) -> list[Finding]:
    state = read_state(sysroot)
    limit_c = start_limit_c(facts.device_class)
    if state.temperature_c is None:
        warmth = Finding("conditions", "temperature", ABSENT, "", "no processor temperature")
    else:
        hot = state.temperature_c > limit_c
        advice = f"runs wait until it is at or below {limit_c:g} C" if hot else ""
        value = f"{state.temperature_c:.1f} C"
        warmth = Finding("conditions", "temperature", WARN if hot else OK, value, advice)
    return [_governor(facts, state), warmth, _throttling(state)]


def _governor(facts: DeviceFacts, state: DeviceState) -> Finding:
    if facts.governor is None:
        return Finding("conditions", "governor", ABSENT, "", "no cpufreq driver")
    if facts.governor == "performance":
        return Finding("conditions", "governor", OK, facts.governor)
    if state.clocks_locked:
        return Finding("conditions", "governor", OK, facts.governor, "held at one clock")
    advice = "clocks move with the load: set the governor to performance for benchmarks"
    if facts.device_class.startswith("jetson"):
        advice = "clocks move with the load: run jetson_clocks, after nvpmodel and never before"
    return Finding("conditions", "governor", WARN, facts.governor, advice)


def _throttling(state: DeviceState) -> Finding:
    told = (state.throttle_bits, state.thermal_throttle_events)
    if told == (None, None) and not state.cooling and not state.over_current_events:
        why = "nothing on this board tells whether its clock is held back"
        return Finding("conditions", "throttling", ABSENT, "", why)
    held_back = [*state.throttled, *(f"{name} since boot" for name in state.throttle_history)]
    held_back += [f"cooling:{name}" for name, level in state.cooling.items() if level]
    return Finding(
        "conditions", "throttling", WARN if held_back else OK, " ".join(held_back) or "none"
    )


def _supply(found: dict[str, Sampler | Absent]) -> list[Finding]:
    """A Pi 5's 5 V input, the one supply whose limits are known; its own row tells what failed."""
    pmic = found.get("rpi_pmic")
    if pmic is None or isinstance(pmic, Absent):
        return []
    try:
        volts = [r.value for r in pmic.read() if r.channel.quantity == "input_voltage"]
    except SamplerError:
        return []
    return [
        Finding(
            "conditions",
            "supply",
            WARN if (problem := input_voltage_problem(value)) else OK,
            f"{value:.2f} V",
            problem[0] if problem else "",
        )
        for value in volts
    ]


def _power(facts: DeviceFacts, found: dict[str, Sampler | Absent]) -> list[Finding]:
    sources = [
        (name, channel.meter)
        for name, one in found.items()
        if not isinstance(one, Absent)
        for channel in one.channels
        if channel.meter is not None and channel.meter.total
    ]
    if not sources:
        absent = {name: one.reason for name, one in found.items() if isinstance(one, Absent)}
        why = power_absence(facts.device_class, absent)
        return [Finding("power", "source", ABSENT, "", why)]
    return [
        Finding("power", name, OK, meter.tier.value, f"scope: {meter.scope}")
        for name, meter in sources
    ]


def _sampler(name: str, one: Sampler | Absent) -> Finding:
    if isinstance(one, Absent):
        return Finding("sampler", name, ABSENT, "", one.reason)
    try:
        readings = one.read()
    except SamplerError as error:
        return Finding("sampler", name, WARN, "", f"answered once, then: {error}")
    finally:
        one.close()
    shown = ", ".join(_shown(reading) for reading in readings[:3])
    more = len(readings) - 3
    shown += f" and {more} more" if more > 0 else ""
    return Finding("sampler", name, WARN if one.silence else OK, shown, one.silence)


def _shown(reading: Reading) -> str:
    unit = "" if reading.channel.unit == "1" else f" {reading.channel.unit}"
    return f"{reading.channel.name}={reading.value:.6g}{unit}"


def _listed(cpus: tuple[int, ...]) -> str:
    return ",".join(map(str, cpus))
