"""Samplers read at their own pace, survive each other's deaths, and fit in memory."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.agent.samplers import (
    Channel,
    Reading,
    Sampler,
    all_samplers,
    probe_all,
    sampler,
)
from assay.agent.samplers.base import Meter, clean_name, unique_names
from assay.agent.samplers.loop import SampleLoop
from assay.agent.samplers.recording import (
    Recording,
    SamplerCounters,
    Series,
    of_quantity,
    read_recording,
    troubles,
)
from assay.core.errors import SamplerError
from assay.core.model import Absent, PowerTier

S = 1_000_000_000
VOLTS, AMPERES = Channel("volts", "voltage", "V"), Channel("amperes", "current", "A")


class Clock:
    def __init__(self) -> None:
        self.now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


class Fake(Sampler):
    """Gives the values it is told to, or raises them; a read takes ``cost_ns``."""

    def __init__(self, name: str, clock: Clock, max_hz: float = 100.0, cost_ns: int = 0) -> None:
        self.name, self.unit, self.max_hz = name, "V", max_hz  # type: ignore[misc]
        self.channels = (VOLTS, AMPERES)
        self.answer: Exception | None = None
        self.silent = False
        self.closed = 0
        self._clock, self._cost_ns = clock, cost_ns

    @classmethod
    def probe(cls, sysroot: Path) -> Fake | Absent:  # type: ignore[override]
        return Absent("a fake")

    def read(self) -> tuple[Reading, ...]:
        self._clock.now_ns += self._cost_ns
        if self.answer is not None:
            raise self.answer
        readings = (Reading(VOLTS, 5.0), Reading(AMPERES, 1.0))
        return readings[:1] if self.silent else readings

    def close(self) -> None:
        self.closed += 1


def run(loop: SampleLoop, clock: Clock, seconds: float) -> None:
    end = clock.now_ns + round(seconds * S)
    while loop.next_due_ns < end:
        clock.now_ns = max(clock.now_ns, loop.next_due_ns)
        loop.read_due(clock.now_ns)
    clock.now_ns = end


def test_each_sampler_is_read_at_its_own_pace() -> None:
    clock = Clock()
    fast, slow = Fake("fast", clock), Fake("slow", clock, max_hz=2)
    loop = SampleLoop({"fast": fast, "slow": slow}, 50, clock)
    run(loop, clock, 10)
    counters = loop.recording().counters
    assert counters["fast"].successes == 500
    assert counters["slow"].successes == 20


def test_a_dead_sensor_costs_only_itself_and_is_tried_ever_less() -> None:
    clock = Clock()
    dying, healthy = Fake("dying", clock), Fake("healthy", clock)
    loop = SampleLoop({"dying": dying, "healthy": healthy}, 100, clock)
    run(loop, clock, 1)
    dying.answer = SamplerError("in1_input: Input/output error")
    run(loop, clock, 9)
    recording = loop.recording()
    assert recording.counters["healthy"].successes == 1000
    told = recording.counters["dying"]
    assert told.successes == 100 and 10 <= told.failures <= 20
    assert told.last_error == "in1_input: Input/output error"
    assert len(recording.series["dying.volts"].t_ns) == 100


def test_a_sensor_that_comes_back_is_at_full_pace_again() -> None:
    clock = Clock()
    flaky = Fake("flaky", clock)
    loop = SampleLoop({"flaky": flaky}, 100, clock)
    flaky.answer = SamplerError("gone")
    run(loop, clock, 5)
    flaky.answer = None
    run(loop, clock, 3)
    assert loop.recording().counters["flaky"].successes >= 200


def test_a_samplers_own_bug_is_a_failure_with_its_name() -> None:
    clock = Clock()
    buggy, healthy = Fake("buggy", clock), Fake("healthy", clock)
    buggy.answer = ZeroDivisionError("division by zero")
    loop = SampleLoop({"buggy": buggy, "healthy": healthy}, 100, clock)
    run(loop, clock, 0.02)
    counters = loop.recording().counters
    assert counters["buggy"].last_error == "ZeroDivisionError: division by zero"
    assert counters["healthy"].failures == 0


def test_a_silent_channel_is_counted_and_leaves_no_false_reading() -> None:
    clock = Clock()
    half = Fake("half", clock)
    loop = SampleLoop({"half": half}, 10, clock)
    half.silent = True
    run(loop, clock, 1)
    recording = loop.recording()
    assert recording.counters["half"].lost_readings == 10
    assert set(recording.series) == {"half.volts"}


def test_what_went_wrong_is_told_by_sensor_with_figures() -> None:
    clock = Clock()
    half, gone, resting = Fake("half", clock), Fake("gone", clock), Fake("resting", clock)
    loop = SampleLoop({"half": half, "gone": gone, "resting": resting}, 10, clock)
    run(loop, clock, 1)
    assert troubles(loop.recording().counters) == {}
    half.silent, half.silence = True, "its current flows back"
    resting.silent = True
    gone.answer = SamplerError("in1_input: Input/output error")
    run(loop, clock, 0.4)
    assert troubles(loop.recording().counters) == {
        "half": "4 readings were left out: its current flows back",
        "gone": "4 of 14 reads failed: in1_input: Input/output error",
    }


def test_a_slow_sensor_gets_at_most_half_of_the_time() -> None:
    clock = Clock()
    slow, quick = Fake("slow", clock, cost_ns=S // 20), Fake("quick", clock)
    loop = SampleLoop({"slow": slow, "quick": quick}, 100, clock)
    run(loop, clock, 10)
    counters = loop.recording().counters
    assert counters["slow"].duration_ns <= 5.1 * S
    assert counters["quick"].successes > 100


def test_stamps_are_the_middle_of_the_read() -> None:
    clock = Clock()
    slow = Fake("slow", clock, cost_ns=1000)
    loop = SampleLoop({"slow": slow}, 10, clock)
    begin = clock.now_ns
    loop.read_due(begin)
    assert list(loop.recording().series["slow.volts"].t_ns) == [begin + 500]


def test_memory_is_bounded_by_keeping_every_second_reading() -> None:
    clock = Clock()
    loop = SampleLoop({"fake": Fake("fake", clock)}, 100, clock, capacity=64)
    run(loop, clock, 30)
    series = loop.recording().series["fake.volts"]
    assert 32 <= len(series.t_ns) <= 64
    assert series.t_ns[-1] - series.t_ns[0] > 28 * S
    gaps = {b - a for a, b in zip(series.t_ns, series.t_ns[1:], strict=False)}
    assert max(gaps) <= 2 * min(gaps)
    assert loop.recording().counters["fake"].thinned >= 5


def test_the_last_reading_reaches_the_end() -> None:
    clock = Clock()
    loop = SampleLoop({"slow": Fake("slow", clock, max_hz=0.1)}, 100, clock)
    loop.read_due(clock.now_ns)
    clock.now_ns += 3 * S
    loop.read_last()
    assert loop.recording().series["slow.volts"].t_ns[-1] == clock.now_ns


def test_absent_samplers_are_recorded_with_their_reason_and_all_are_closed() -> None:
    clock = Clock()
    fake = Fake("fake", clock)
    loop = SampleLoop({"fake": fake, "rapl": Absent("root only")}, 10, clock)
    loop.close()
    assert loop.recording().absent == {"rapl": "root only"} and fake.closed == 1


def test_nothing_to_sample_is_no_busy_loop() -> None:
    clock = Clock()
    loop = SampleLoop({"rapl": Absent("root only")}, 100, clock)
    loop.read_due(clock.now_ns)
    assert loop.next_due_ns >= clock.now_ns + S


# Registering


def test_a_name_taken_twice_raises() -> None:
    taken = next(iter(all_samplers()))
    with pytest.raises(ValueError, match="registered twice"):

        @sampler(taken, unit="V")
        class Second(Fake):
            pass


def test_a_sampler_of_another_package_is_found_by_its_entry_point(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As a Joulescope, a PPK2 or a Monsoon would be added."""
    # A module that is first imported here would be forgotten with the patched registry.
    known = dict(all_samplers())
    monkeypatch.setattr("assay.agent.samplers.base._REGISTRY", known)

    class Entry:
        def __init__(self, value: str) -> None:
            self.value = value

        def load(self) -> type[Sampler]:
            if self.value == "ppk2:Ppk2":
                raise ImportError("No module named 'ppk2'")

            def probe(_cls: object, _sysroot: Path) -> Absent:
                raise LookupError("no device")

            found = type("Joulescope", (Fake,), {"probe": classmethod(probe)})
            return sampler("joulescope", unit="W")(found)

    def installed(*, group: str) -> list[Entry]:
        assert group == "assay.samplers"
        return [Entry("joulescope:Joulescope"), Entry("ppk2:Ppk2")]

    monkeypatch.setattr("importlib.metadata.entry_points", installed)
    found = all_samplers()
    assert "joulescope" in found and "ina3221" in found
    assert "ppk2:Ppk2 left out: No module named 'ppk2'" in capsys.readouterr().err
    # What its probe raises is its own trouble.
    assert probe_all(tmp_path)["joulescope"] == Absent("LookupError: no device")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_label_becomes_a_name_a_trace_can_hold(label: str) -> None:
    name = clean_name(label)
    assert 1 <= len(name) <= 80 and clean_name(name) == name


@settings(deadline=None)
@given(st.lists(st.sampled_from(["gpu", "gpu_2", "cpu", "gpu 2"]), max_size=12))
def test_channel_names_are_unique(labels: list[str]) -> None:
    names = unique_names(labels)
    assert len(names) == len(labels) == len(set(names))


# The file


def test_a_recording_survives_its_file(tmp_path: Path) -> None:
    meter = Meter(PowerTier.BOARD_SENSOR, "module", total=True, quantum=0.04, wrap_j=9.0)
    recording = Recording(
        {
            "ina3221.total": Series([1, 2, -(2**62)], [0.5, -1.5, 1e300], "power", "W", meter),
            "thermal.cpu": Series(array("q", [7]), array("d", [40.5]), "temperature", "C"),
        },
        {"ina3221": SamplerCounters(3, 1, 0, 99, 0, "in1_input: Ein-/Ausgabefehler")},
        {"rapl": "root only"},
    )
    recording.write(tmp_path / "samples")
    found = read_recording(tmp_path / "samples")
    assert found.counters == recording.counters and found.absent == recording.absent
    assert found.series["ina3221.total"].meter == meter
    for key, series in recording.series.items():
        assert list(found.series[key].t_ns) == list(series.t_ns)
        assert list(found.series[key].value) == list(series.value)
    assert list(of_quantity(found.series, "temperature")) == ["thermal.cpu"]
    assert [path.name for path in tmp_path.iterdir()] == ["samples"]


@pytest.mark.parametrize("cut", [0, 1, 10, -1, -9])
def test_a_truncated_recording_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "samples"
    Recording({"a.b": Series([1, 2], [1.0, 2.0])}).write(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError):
        read_recording(path)


@pytest.mark.parametrize("header", [b"{}", b"[]", b'{"version": 2}', b'{"version": 1}', b"\xff"])
def test_a_foreign_file_is_refused(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "samples"
    path.write_bytes(header + b"\n")
    with pytest.raises(ValueError):
        read_recording(path)
