"""Energy per inference: integrals, uncertainties, and what must not be believed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.power.energy import (
    EnergyEstimate,
    Window,
    choose_source,
    estimate_energy,
)
from assay.agent.power.integral import distinct_readings, integrate, unwrap
from assay.agent.samplers.base import Meter
from assay.agent.samplers.recording import Series
from assay.core.model import Absent, PowerTier

S = 1_000_000_000
METER = Meter(PowerTier.BOARD_SENSOR, "module", total=True, gain_u=0.01)
IDLE0, ACTIVE, IDLE1 = Window(0, 30 * S), Window(30 * S, 60 * S), Window(60 * S, 90 * S)
IDLE = (IDLE0, IDLE1)


def sampled(
    power: Callable[[float], float],
    *,
    hz: float = 20.0,
    noise_w: float = 0.01,
    until_s: float = 91.0,
    meter: Meter = METER,
    seed: int = 1,
) -> Series:
    rng = random.Random(seed)
    times = [i / hz - 0.5 for i in range(math.ceil((until_s + 0.5) * hz))]
    values = [power(t) + rng.gauss(0, noise_w) for t in times]
    return Series([round(t * S) for t in times], values, "power", "W", meter)


def step(idle_w: float = 2.0, active_w: float = 5.0) -> Callable[[float], float]:
    return lambda t: active_w if 30 <= t < 60 else idle_w


def estimate(readings: Series, inferences: int = 100, **options: int) -> EnergyEstimate:
    found = estimate_energy({"ina3221.total": readings}, IDLE, ACTIVE, inferences, **options)
    assert isinstance(found, EnergyEstimate), found
    return found


def codes(found: EnergyEstimate) -> set[str]:
    assert not any(reason.hard for reason in found.reasons)
    return {reason.code for reason in found.reasons}


# Integration


def test_a_ramp_between_readings_is_integrated_exactly_edge_to_edge() -> None:
    ramp = Series([0, 4 * S], [0.0, 8.0], "power", "W")
    # P = 2t: from 1 s to 3 s that is 8 J.
    assert integrate(ramp, Window(S, 3 * S)) == pytest.approx(8.0)


def test_readings_must_reach_both_edges() -> None:
    series = Series([S, 2 * S], [1.0, 1.0], "power", "W")
    assert integrate(series, Window(0, 2 * S)) is None
    assert integrate(series, Window(S, 3 * S)) is None
    assert integrate(series, Window(S, 2 * S)) == pytest.approx(1.0)
    assert integrate(Series([], [], "power", "W"), Window(0, S)) is None
    assert integrate(series, Window(2 * S, 2 * S)) is None


def test_a_counter_is_differenced_with_interpolation_and_wraparound() -> None:
    meter = replace(METER, wrap_j=100.0)
    counter = Series([0, S, 2 * S, 3 * S], [96.0, 99.0, 2.0, 5.0], "energy", "J", meter)
    assert integrate(counter, Window(0, 3 * S)) == pytest.approx(9.0)
    assert integrate(counter, Window(S // 2, 2 * S)) == pytest.approx(4.5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 100)), min_size=3, max_size=30),
    st.floats(0.1, 0.9),
)
def test_parts_add_up_to_the_whole(steps: list[tuple[int, float]], where: float) -> None:
    times, now = [], 0
    for step_ns, _ in steps:
        now += step_ns
        times.append(now)
    series = Series(times, [value for _, value in steps], "power", "W")
    middle = times[0] + int((times[-1] - times[0]) * where)
    if not times[0] < middle < times[-1]:
        return
    whole = integrate(series, Window(times[0], times[-1]))
    parts = [integrate(series, Window(a, b)) for a, b in ((times[0], middle), (middle, times[-1]))]
    assert whole is not None and None not in parts
    assert sum(part or 0.0 for part in parts) == pytest.approx(whole, rel=1e-9, abs=1e-9)
    assert 0 <= whole <= max(series.value) * (times[-1] - times[0]) / 1e9 * (1 + 1e-12)


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(0, 1e6))
def test_unwrap_gives_the_rise(start: float, rise: float) -> None:
    wrap = 1e9 + 1
    assert unwrap(start, (start + rise) % wrap, wrap) == pytest.approx(rise, abs=1e-3)


def test_a_held_value_is_one_reading() -> None:
    assert distinct_readings([1, 1, 2, 2, 2, 1]) == 3
    assert distinct_readings([]) == 0


# The estimate


def test_idle_is_taken_off_the_dynamic_energy() -> None:
    found = estimate(sampled(step())).energy
    assert found.total_j == pytest.approx(1.5, rel=0.01)
    assert found.dynamic_j == pytest.approx(0.9, rel=0.01)
    assert found.idle_w == pytest.approx(2.0, rel=0.01)
    assert found.active_w == pytest.approx(5.0, rel=0.01)
    assert found.source == "ina3221.total" and found.scope == "module"
    assert not found.inconclusive


def test_a_good_sensor_has_nothing_said_against_it() -> None:
    assert codes(estimate(sampled(step()))) == set()


def test_the_stated_uncertainty_covers_the_error() -> None:
    inside = 0
    for seed in range(40):
        found = estimate(sampled(step(), noise_w=0.3, seed=seed)).energy
        inside += abs(found.dynamic_j - 0.9) <= 2 * found.dynamic_u_j
    assert inside >= 36


def test_uncertainty_grows_with_gain_offset_and_quantum() -> None:
    plain = estimate(sampled(step(), meter=replace(METER, gain_u=0.0))).energy
    for worse in (
        replace(METER, gain_u=0.05),
        replace(METER, gain_u=0.0, quantum=0.5),
        replace(METER, gain_u=0.0, offset_u=0.2),
    ):
        assert estimate(sampled(step(), meter=worse)).energy.total_u_j > 2 * plain.total_u_j


def test_an_offset_cancels_in_the_dynamic_energy() -> None:
    offset = estimate(sampled(step(), meter=replace(METER, offset_u=0.5))).energy
    plain = estimate(sampled(step())).energy
    assert offset.dynamic_u_j == pytest.approx(plain.dynamic_u_j)


def test_a_load_that_drowns_in_noise_is_inconclusive() -> None:
    found = estimate(sampled(step(2.0, 2.02), noise_w=0.5))
    assert found.energy.inconclusive and "energy_inconclusive" in codes(found)


def test_a_load_below_idle_is_inconclusive_and_never_negative_news() -> None:
    found = estimate(sampled(step(5.0, 4.0)))
    assert found.energy.inconclusive and "energy_inconclusive" in codes(found)


def test_a_drifting_baseline_is_said() -> None:
    drifting = estimate(sampled(lambda t: step()(t) + 0.006 * t))
    assert "baseline_drift" in codes(drifting)
    one_sided = estimate_energy({"p": sampled(step())}, [IDLE0], ACTIVE, 100)
    assert isinstance(one_sided, EnergyEstimate) and "baseline_drift" in codes(one_sided)


def test_too_few_updates_of_the_sensor_are_said() -> None:
    slow = sampled(step(), hz=2.0)
    found = estimate(slow)
    assert found.energy.distinct_readings < 100 and found.energy.inconclusive
    assert "energy_inconclusive" in codes(found)


def test_a_battery_gauge_needs_fewer_but_is_less_sure() -> None:
    gauge = replace(METER, tier=PowerTier.BATTERY_GAUGE, scope="battery", gain_u=0.0)
    slow = estimate(sampled(step(), hz=1.0, meter=gauge))
    assert codes(slow) == set()
    fast = estimate(sampled(step(), hz=20.0, meter=gauge))
    assert slow.energy.dynamic_u_j > 3 * fast.energy.dynamic_u_j


def test_a_gap_in_the_readings_is_said() -> None:
    whole = sampled(step())
    kept = [i for i, t in enumerate(whole.t_ns) if not 40 * S < t < 43 * S]
    holed = replace(whole, t_ns=[whole.t_ns[i] for i in kept], value=[whole.value[i] for i in kept])
    found = estimate(holed)
    assert "energy_aliased" in codes(found)
    assert "gap of 3" in next(r.detail for r in found.reasons if r.code == "energy_aliased")


def test_a_paced_load_needs_twenty_readings_a_period() -> None:
    assert "energy_aliased" in codes(estimate(sampled(step()), period_ns=S // 2))
    assert "energy_aliased" not in codes(estimate(sampled(step()), period_ns=2 * S))


def test_two_hertz_sampling_of_a_two_hertz_load_is_refused_for_good_reason() -> None:
    def pulsed(t: float) -> float:
        return 8.0 if 30 <= t < 60 and (t * 2) % 1 < 0.3 else 2.0

    fast = estimate(sampled(pulsed, hz=100.0), period_ns=S // 2)
    slow = estimate(sampled(pulsed, hz=2.0, noise_w=0.001), period_ns=S // 2)
    error = abs(slow.energy.dynamic_j - fast.energy.dynamic_j) / fast.energy.dynamic_j
    assert error > 0.5 and "energy_aliased" in codes(slow)


def test_an_unknown_gain_is_said() -> None:
    found = estimate(sampled(step(), meter=replace(METER, gain_u=None)))
    assert "power_uncalibrated" in codes(found)


@pytest.mark.parametrize(
    ("series", "idle", "inferences", "expected"),
    [
        ({}, IDLE, 10, "no power sensor"),
        ({"t": Series([0], [1.0], "temperature", "C")}, IDLE, 10, "no power sensor"),
        ({"p": sampled(step())}, IDLE, 0, "no inference"),
        ({"p": sampled(step())}, (), 10, "idle"),
        ({"p": sampled(step(), until_s=50)}, IDLE, 10, "measured window"),
        ({"p": sampled(step(), until_s=70)}, IDLE, 10, "idle window"),
    ],
)
def test_what_is_missing_is_absent_with_its_reason(
    series: dict[str, Series], idle: tuple[Window, ...], inferences: int, expected: str
) -> None:
    found = estimate_energy(series, idle, ACTIVE, inferences)
    assert isinstance(found, Absent) and expected in found.reason


def test_the_boards_own_reason_is_passed_on() -> None:
    found = estimate_energy({}, IDLE, ACTIVE, 1, no_source="no current sensor on a Pi 4")
    assert found == Absent("no current sensor on a Pi 4")


def test_the_source_that_sees_most_by_the_best_tier_is_taken_and_never_a_rail() -> None:
    def of(tier: PowerTier, scope: str, total: bool = True) -> Series:
        return Series([0], [1.0], "power", "W", Meter(tier, scope, total=total))

    series = {
        "ina3221.total": of(PowerTier.BOARD_SENSOR, "rail_sum"),
        "ina2xx.watts": of(PowerTier.BOARD_SENSOR, "module"),
        "battery.watts": of(PowerTier.BATTERY_GAUGE, "battery"),
        "a.rail": of(PowerTier.EXTERNAL_METER, "rail", total=False),
    }
    chosen = choose_source(series)
    assert not isinstance(chosen, Absent) and chosen[0] == "ina2xx.watts"
    series["meter.watts"] = of(PowerTier.EXTERNAL_METER, "wall")
    chosen = choose_source(series)
    assert not isinstance(chosen, Absent) and chosen[0] == "meter.watts"


def test_a_rapl_counter_gives_the_same_energy_as_its_power() -> None:
    power = sampled(step(), noise_w=0.0, hz=50.0)
    joules, risen = [0.0], 0.0
    for (t0, p0), t1 in zip(
        zip(power.t_ns, power.value, strict=True), power.t_ns[1:], strict=False
    ):
        risen += p0 * (t1 - t0) / S
        joules.append(risen)
    counter = Series(power.t_ns, joules, "energy", "J", METER)
    by_counter = estimate(counter).energy
    assert by_counter.dynamic_j == pytest.approx(0.9, rel=0.01)
    assert by_counter.active_w == pytest.approx(5.0, rel=0.01)
