"""Two sides in interleaved rounds: when they stop, what they say, and never a false winner."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest

from assay.agent.cli.bench_versus import sentence
from assay.agent.measuring.contest import TRIES, Contest, RoundSeen, hold_contest
from assay.core.comparing.compare import Finding, Rules
from assay.core.comparing.paired import Statistic
from assay.core.errors import CheckFailed
from assay.core.model import (
    Absent,
    Conditions,
    Energy,
    Isolation,
    Latency,
    MemorySplit,
    Reason,
    Verdict,
    VerdictKind,
)
from tests.factories import make_energy, make_latency

NO_POWER = Absent("no power sensor on this board")
NAMES = ("a.onnx", "b.onnx")
VALID = Verdict(VerdictKind.VALID)
UNCHECKED = Verdict(VerdictKind.SUSPECT, (Reason("outputs_unchecked", False),))
CONTENDED = Verdict(VerdictKind.INVALID, (Reason("cpu_contended", True, "wall 3.9"),))


@dataclass(frozen=True)
class FakeRun:
    latency: Latency | None
    verdict: Verdict = VALID
    environment: Mapping[str, str] = field(default_factory=lambda: {"governor": "none"})
    factors: Mapping[str, str] = field(default_factory=dict)
    memory: MemorySplit | None = None
    energy: Energy | Absent = NO_POWER
    conditions: Conditions | None = None


def fakes(
    ratio: float, noise: float = 0.002, drift: float = 0.0, seed: int = 1
) -> Callable[[int, int], FakeRun]:
    rng = random.Random(seed)

    def measure(side: int, number: int) -> FakeRun:
        base = 1e6 * (1 + drift * number) * (ratio if side else 1.0)
        return FakeRun(replace(make_latency(), p50_ns=base * (1 + rng.gauss(0, noise))))

    return measure


def held(measure: Callable[[int, int], FakeRun], *, force: bool = False) -> Contest:
    return hold_contest(measure, Rules(), max_rounds=40, seed=1, same_runtime=True, force=force)


@pytest.mark.parametrize(
    ("ratio", "finding"),
    [(1.0, Finding.EQUIVALENT), (0.5, Finding.CONFIRMED), (1.03, Finding.CONFIRMED)],
)
def test_a_clear_case_is_decided_at_the_first_look(ratio: float, finding: Finding) -> None:
    contest = held(fakes(ratio))
    assert contest.comparison.finding is finding and len(contest.rounds) == 10
    said = sentence(NAMES, contest, 0.01)
    assert said.startswith(f"{finding.value}: b.onnx takes {contest.comparison.ratio:.3f} times")
    assert "99 % interval" in said and "10 rounds" in said


def test_what_is_not_decided_goes_on_and_never_names_a_winner() -> None:
    contest = held(fakes(1.01, noise=0.03))
    assert len(contest.rounds) == 40
    assert contest.comparison.finding is Finding.INCONCLUSIVE
    assert sentence(NAMES, contest, 0.01).startswith("inconclusive (")


def test_the_sentence_names_the_margin_and_the_rounds_that_were_judged() -> None:
    said = sentence(NAMES, held(fakes(1.0)), 0.005)
    assert said.endswith("no difference beyond ± 0.5%")
    noisy = hold_contest(fakes(1.01, noise=0.03), Rules(), max_rounds=13, seed=1, same_runtime=True)
    assert "99 % interval" in sentence(NAMES, noisy, 0.01)
    assert ", 10 rounds)" in sentence(NAMES, noisy, 0.01) and noisy.comparison.rounds == 13


def test_both_sides_run_in_every_round_in_a_drawn_order() -> None:
    order: list[int] = []
    measure = fakes(1.0)

    def noted(side: int, number: int) -> FakeRun:
        order.append(side)
        return measure(side, number)

    held(noted)
    pairs = list(zip(order[::2], order[1::2], strict=True))
    assert {frozenset(pair) for pair in pairs} == {frozenset({0, 1})}
    assert len({pair[0] for pair in pairs}) == 2, "neither is always first"


def test_a_device_that_drifts_decides_nothing() -> None:
    contest = held(fakes(0.5, drift=0.01))
    assert contest.comparison.finding is Finding.INCONCLUSIVE
    assert "device_drift" in contest.comparison.codes


def test_a_contended_core_ends_it_after_three_repeats_and_is_named() -> None:
    measure = fakes(0.5)
    contest = held(lambda side, number: replace(measure(side, number), verdict=CONTENDED))
    assert contest.gave_up and len(contest.rounds) == TRIES
    said = sentence(NAMES, contest, 0.01)
    assert said.startswith("inconclusive (cpu_contended")
    assert "no round held" in said and "a.onnx in 4 rounds: cpu_contended ×4" in said


def test_rounds_that_do_not_hold_are_run_again() -> None:
    measure = fakes(0.5)

    def sometimes(side: int, number: int) -> FakeRun:
        found = measure(side, number)
        return replace(found, verdict=CONTENDED) if number in (2, 5) else found

    contest = held(sometimes)
    assert contest.comparison.finding is Finding.CONFIRMED and contest.comparison.rounds == 10
    assert len(contest.rounds) == 12 and contest.faults[0] == {"cpu_contended": 2}


def test_a_side_that_is_spoilt_more_often_decides_nothing() -> None:
    measure = fakes(0.5)

    def one_sided(side: int, number: int) -> FakeRun:
        found = measure(side, number)
        return replace(found, verdict=CONTENDED) if side and number % 2 else found

    contest = held(one_sided)
    assert contest.comparison.finding is Finding.INCONCLUSIVE
    assert "asymmetric_validity" in contest.comparison.codes


def test_unchecked_outputs_bar_no_comparison_of_times_and_are_said() -> None:
    measure = fakes(0.5)
    contest = held(lambda side, number: replace(measure(side, number), verdict=UNCHECKED))
    assert contest.comparison.finding is Finding.CONFIRMED
    assert contest.doubts == ("outputs_unchecked",)


def busy_beside(*sides: int) -> Callable[[int, int], FakeRun]:
    measure = fakes(0.5)
    doubt = Verdict(VerdictKind.SUSPECT, (Reason("background_load", False, "busy 80 %"),))

    def run(side: int, number: int) -> FakeRun:
        return replace(measure(side, number), verdict=doubt if side in sides else VALID)

    return run


def test_load_beside_both_sides_bars_nothing_and_is_said() -> None:
    contest = held(busy_beside(0, 1))
    assert contest.comparison.finding is Finding.CONFIRMED
    assert contest.doubts == ("background_load",) and contest.faults == ({}, {})


def test_load_beside_one_side_only_bars_the_round() -> None:
    contest = held(busy_beside(1))
    assert contest.gave_up and contest.comparison.finding is Finding.INCONCLUSIVE
    assert "background_load" in sentence(NAMES, contest, 0.01)


def test_unlike_conditions_are_refused_by_name_unless_forced() -> None:
    measure = fakes(0.5)

    def unlike(side: int, number: int) -> FakeRun:
        governor = ("performance", "ondemand")[side]
        return replace(measure(side, number), environment={"governor": governor})

    with pytest.raises(CheckFailed, match="governor: performance, ondemand"):
        held(unlike)
    contest = held(unlike, force=True)
    assert contest.comparison.finding is Finding.CONFIRMED
    assert contest.differs == ("governor: performance, ondemand",)


def test_a_runtime_upgraded_meanwhile_is_refused_by_name() -> None:
    measure = fakes(0.5)

    def upgraded(side: int, number: int) -> FakeRun:
        return replace(measure(side, number), factors={"runtime": f"onnxruntime 1.3{side}.0"})

    with pytest.raises(CheckFailed, match=r"runtime: onnxruntime 1\.30\.0, onnxruntime 1\.31\.0"):
        held(upgraded)


def test_each_round_is_told_as_it_comes_out() -> None:
    told: list[RoundSeen] = []
    hold_contest(fakes(0.5), Rules(), max_rounds=3, seed=1, same_runtime=True, on_round=told.append)
    assert [seen.number for seen in told] == [0, 1, 2]
    assert all(None not in seen.figures for seen in told)


def test_energies_read_through_a_calibration_and_raw_are_refused_by_name_and_forced() -> None:
    def measure(side: int, number: int) -> FakeRun:
        notes = {"power_calibration": "p: 1.1200 x reading (0a1b)"} if side else {}
        conditions = Conditions(Isolation.PINNED, notes=notes)
        return FakeRun(make_latency(), energy=make_energy(0.004), conditions=conditions)

    def contest(statistic: Statistic, *, force: bool = False) -> Contest:
        return hold_contest(
            measure,
            Rules(),
            max_rounds=10,
            seed=1,
            same_runtime=True,
            force=force,
            statistic=statistic,
        )

    assert contest(Statistic.P50).differs == ()
    with pytest.raises(CheckFailed, match="power_calibration: none, p: "):
        contest(Statistic.ENERGY)
    forced = contest(Statistic.ENERGY, force=True)
    assert forced.comparison.finding is Finding.EQUIVALENT
    assert forced.differs == ("power_calibration: none, p: 1.1200 x reading (0a1b)",)


@pytest.mark.parametrize("statistic", [s for s in Statistic if s is not Statistic.P50])
def test_any_figure_can_be_compared_and_is_named(statistic: Statistic) -> None:
    def measure(side: int, number: int) -> FakeRun:
        base = 3.0 if side else 1.0
        latency = replace(make_latency(), p90_ns=base * 1e6, p99_ns=base * 2e6)
        memory = MemorySplit(process_peak_bytes=int(base * 1e6))
        energy = replace(make_energy(), total_j=base)
        return FakeRun(latency, memory=memory, energy=energy)

    contest = hold_contest(
        measure, Rules(), max_rounds=40, seed=1, same_runtime=True, statistic=statistic
    )
    assert contest.comparison.finding is Finding.CONFIRMED
    said = sentence(NAMES, contest, 0.01)
    assert said.startswith("confirmed: b.onnx takes 3.000 times ")
    assert {"energy": "energy", "peak_memory": "memory"}.get(
        statistic.value, statistic.value
    ) in said


@pytest.mark.parametrize(
    ("statistic", "why"),
    [
        (Statistic.ENERGY, "no power sensor on this board"),
        (Statistic.P99, "too few samples"),
        (Statistic.PEAK_MEMORY, "could not be read"),
    ],
)
def test_a_figure_that_is_not_there_is_said_after_one_round(statistic: Statistic, why: str) -> None:
    measured = []

    def measure(side: int, number: int) -> FakeRun:
        measured.append(side)
        return FakeRun(replace(make_latency(), p99_ns=None))

    with pytest.raises(CheckFailed, match=why):
        hold_contest(
            measure, Rules(), max_rounds=40, seed=1, same_runtime=True, statistic=statistic
        )
    assert sorted(measured) == [0, 1]
