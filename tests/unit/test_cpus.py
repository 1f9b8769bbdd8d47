"""Which CPUs are measured on, board by board."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.measuring.cpus import choose_cpus, read_siblings
from assay.core.model import CpuCluster, CpuFacts, Isolation
from tests.boards import composed


def facts(*clusters: tuple[int, ...]) -> CpuFacts:
    return CpuFacts("cpu", "aarch64", (), tuple(CpuCluster(cpus) for cpus in clusters))


def allowed(count: int) -> frozenset[int]:
    return frozenset(range(count))


@pytest.mark.parametrize(
    ("clusters", "cpus", "measured", "housekeeping"),
    [
        ([(0, 1, 2, 3)], 4, (1, 2, 3), (0,)),  # Raspberry Pi
        ([(0, 1)], 2, (1,), (0,)),  # the smallest choice there is
        ([(4, 5, 6, 7), (0, 1, 2, 3)], 8, (4, 5, 6, 7), (0, 1, 2, 3)),  # big.LITTLE
        ([(7,), (4, 5, 6), (0, 1, 2, 3)], 8, (7,), (0, 1, 2, 3, 4, 5, 6)),  # a prime core
        ([(0, 1, 2, 3), (4, 5)], 6, (1, 2, 3), (0, 4, 5)),  # the fast cluster holds CPU 0
        ([], 4, (1, 2, 3), (0,)),  # nothing known about clusters
    ],
)
def test_the_fast_cluster_without_cpu_0_is_measured(
    clusters: list[tuple[int, ...]],
    cpus: int,
    measured: tuple[int, ...],
    housekeeping: tuple[int, ...],
) -> None:
    plan = choose_cpus(facts(*clusters), allowed(cpus))
    assert (plan.measure_cpus, plan.housekeeping_cpus) == (measured, housekeeping)
    assert plan.isolation is Isolation.PINNED and not plan.note


def test_a_single_core_shares_and_says_so() -> None:
    plan = choose_cpus(facts((0,)), allowed(1))
    assert plan.measure_cpus == plan.housekeeping_cpus == (0,)
    assert plan.isolation is Isolation.NONE and "CPU 0" in plan.note


def test_more_threads_than_free_cores_share_and_say_so() -> None:
    plan = choose_cpus(facts((0, 1, 2, 3)), allowed(4), threads=4)
    assert plan.measure_cpus == (0, 1, 2, 3)
    assert plan.isolation is Isolation.NONE and "4 threads" in plan.note


def test_threads_spill_into_the_next_cluster_only_when_they_must() -> None:
    phone = facts((7,), (4, 5, 6), (0, 1, 2, 3))
    assert choose_cpus(phone, allowed(8), threads=1).measure_cpus == (7,)
    assert choose_cpus(phone, allowed(8), threads=4).measure_cpus == (4, 5, 6, 7)


def test_a_cpuset_without_cpu_0_keeps_a_slow_core_for_the_rest() -> None:
    plan = choose_cpus(facts((4, 5, 6, 7), (0, 1, 2, 3)), frozenset({2, 3, 6, 7}))
    assert plan.measure_cpus == (6, 7) and plan.housekeeping_cpus == (2, 3)


def test_a_core_is_measured_on_one_of_its_hardware_threads() -> None:
    twins = {cpu: frozenset({cpu, (cpu + 4) % 8}) for cpu in range(8)}
    plan = choose_cpus(facts(tuple(range(8))), allowed(8), siblings=twins)
    assert plan.measure_cpus == (1, 2, 3)
    # 5, 6 and 7 share a core with a measured thread and stay idle.
    assert plan.housekeeping_cpus == (0, 4)


def test_one_core_with_two_threads_is_still_split() -> None:
    twins = dict.fromkeys((0, 1), frozenset({0, 1}))
    plan = choose_cpus(facts((0, 1)), allowed(2), siblings=twins)
    assert (plan.measure_cpus, plan.housekeeping_cpus) == ((1,), (0,))


def test_siblings_are_read_from_the_kernels_topology() -> None:
    found = read_siblings(composed("x86_laptop"))
    assert found[0] == found[1] == {0, 1} and found[3] == {3}
    assert read_siblings(Path("/nowhere")) == {}


def test_no_cpu_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no CPU"):
        choose_cpus(facts((0,)), frozenset())


cpu_sets = st.frozensets(st.integers(0, 15), min_size=1)


@settings(deadline=None)
@given(st.lists(cpu_sets, max_size=3), cpu_sets, st.integers(1, 20), st.booleans())
def test_every_plan_uses_allowed_cpus_and_tells_the_truth(
    clusters: list[frozenset[int]], usable: frozenset[int], threads: int, paired: bool
) -> None:
    twins = {cpu: frozenset({cpu, cpu ^ 1}) for cpu in usable} if paired else None
    plan = choose_cpus(
        facts(*(tuple(sorted(cluster)) for cluster in clusters)),
        usable,
        threads=threads,
        siblings=twins,
    )
    measured, rest = set(plan.measure_cpus), set(plan.housekeeping_cpus)
    assert measured and rest and measured | rest <= usable
    assert (plan.isolation is Isolation.PINNED) is not bool(measured & rest)
    assert bool(plan.note) is bool(measured & rest)
    if plan.isolation is Isolation.PINNED:
        assert 0 not in measured and len(measured) >= min(threads, len(usable) - 1)
