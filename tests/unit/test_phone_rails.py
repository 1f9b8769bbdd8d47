"""The on-device power monitor: rails by name, sums that are whole, energy of a tethered run."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.agent.phones.rails import Noted, energy_of, noting, series_of
from assay.agent.power.energy import EnergyEstimate
from assay.agent.samplers.odpm import Odpm, parse_rails
from assay.core.errors import SamplerError
from assay.core.model import Absent
from tests.boards import composed, copy_of


def chip(t_ms: float, joules: float, rails: int = 2) -> str:
    lines = [f"CH{i}(T={t_ms:.0f})[RAIL{i}], {joules / rails * 1e6:.0f}" for i in range(rails)]
    return "\n".join([f"t={t_ms:.0f}", *lines]) + "\n"


def snapshot(t_s: float, joules: float) -> str:
    """Two chips whose clocks are 40 ms apart, as one `cat` gives them."""
    return f"@@rails\n{chip(t_s * 1e3, joules / 2)}{chip(t_s * 1e3 + 40, joules / 2)}"


def noted(idle_w: float, active_w: float, run_s: int = 20) -> Noted:
    """Snapshots twice a second of ten seconds idle and a run."""
    at = [
        (i / 2, min(i / 2, 10) * idle_w + max(i / 2 - 10, 0) * active_w)
        for i in range(2 * (10 + run_s))
    ]
    end = 10 * idle_w + run_s * active_w
    text = "".join(snapshot(*one) for one in at)
    return Noted(text, snapshot(10, 10 * idle_w), snapshot(10 + run_s, end))


def test_rails_are_read_by_name_and_number() -> None:
    found = parse_rails(
        "t=473848\nCH42(T=473848)[S10M_VDD_TPU], 3161249\nCH1(T=473848)[VSYS_PWR_MODEM], 48\n"
    )
    assert [(one.rail, one.t_ms, one.energy_uj) for one in found] == [
        ("S10M_VDD_TPU", 473848, 3161249),
        ("VSYS_PWR_MODEM", 473848, 48),
    ]


@pytest.mark.parametrize("text", ["", "rubbish", "t=1\n", "CH0(T=1)[A], 5\n"])
def test_what_is_no_list_of_rails_has_none(text: str) -> None:
    assert parse_rails(text) == ()


def test_a_list_that_is_cut_short_is_left_out_whole() -> None:
    whole, cut = chip(5, 1.0), "t=5\nCH0(T=5)[A], 5\nCH1(T=5)[B"
    assert len(parse_rails(whole + cut)) == 2


def test_the_sampler_sums_both_chips(tmp_path: Path) -> None:
    found = Odpm.probe(composed("phone_odpm"))
    assert isinstance(found, Odpm)
    values = {reading.channel.name: reading.value for reading in found.read()}
    assert values["S2S_VDD_G3D"] == pytest.approx(4.71102)
    assert values["rails"] == pytest.approx(sum(v for k, v in values.items() if k != "rails"))


def test_a_rail_that_is_gone_is_no_smaller_sum(tmp_path: Path) -> None:
    root = copy_of("phone_odpm", tmp_path)
    found = Odpm.probe(root)
    assert isinstance(found, Odpm)
    (root / "sys/bus/iio/devices/iio:device1/energy_value").write_text(chip(5, 1.0, rails=1))
    with pytest.raises(SamplerError, match="6 rails where 7 were"):
        found.read()


def test_joules_of_a_run_are_its_power_times_the_latency() -> None:
    found = energy_of(noted(idle_w=1.0, active_w=3.0), mean_ns=10e6)
    assert isinstance(found, EnergyEstimate)
    energy = found.energy
    assert (energy.idle_w, energy.active_w) == pytest.approx((1.0, 3.0), rel=1e-3)
    assert (energy.total_j, energy.dynamic_j) == pytest.approx((0.03, 0.02), rel=1e-2)
    assert (energy.scope, energy.source) == ("rail_sum", "odpm.rails")
    codes = {reason.code for reason in found.reasons}
    assert {"power_uncalibrated", "baseline_drift"} <= codes


def test_a_monitor_that_stands_still_gives_no_energy() -> None:
    still = snapshot(5, 1.0)
    assert isinstance(energy_of(Noted(still * 9, still, still), 1e6), Absent)
    assert isinstance(energy_of(Noted("", "", ""), 1e6), Absent)


def test_snapshots_that_lack_a_chip_are_left_out() -> None:
    text = snapshot(1, 4.0) + "@@rails\n" + chip(2000, 1.0) + snapshot(3, 8.0)
    assert list(series_of(text).value) == [4.0, 8.0]


def test_a_phone_without_a_monitor_noted_nothing() -> None:
    assert Noted.parse("") is None
    assert Noted.parse("a@@file\nb@@file\nc") == Noted("a", "b", "c")


def test_without_a_monitor_the_loop_is_all_that_runs() -> None:
    script = noting("echo ran")
    assert script.startswith("w=; if cat /sys/bus/iio/devices/iio:device*/energy_value")
    assert script.index("fi; ") < script.index("echo ran")
