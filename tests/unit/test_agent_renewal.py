"""A certificate is renewed in time, and the old one goes only when the new one has got through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from assay.agent.home import AgentHome
from assay.agent.plane.identity import Identity
from assay.agent.plane.quiet import QuietWindow, Stopping
from assay.agent.plane.renewal import Renewal, ask_by_child
from assay.core.errors import CheckFailed, NotFound
from tests.unit.test_session import FakeClock

S = 1_000_000_000
DAY_S = 86_400
OLD = Identity("d1", "bench", "old", "", "f:1", "b:1", "c:1", 30 * DAY_S, 0)
NEW = replace(OLD, certificate_pem="new", not_before_unix_s=20 * DAY_S, not_after_unix_s=50 * DAY_S)


@dataclass
class Bench:
    home: AgentHome
    clock: FakeClock = field(default_factory=lambda: FakeClock(wall_ns=0))
    asked: int = 0
    granted: bool = True
    used: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home.create()
        OLD.store(self.home)
        self.renewal = self.open()

    def open(self) -> Renewal:
        return Renewal(
            home=self.home,
            identity=Identity.load(self.home),
            use=lambda identity: self.used.append(identity.certificate_pem),
            ask=self.ask,
            clock=self.clock,
        )

    def ask(self) -> bool:
        self.asked += 1
        if self.granted:
            NEW.store_next(self.home)
        return self.granted

    @property
    def kept(self) -> str:
        return Identity.load(self.home).certificate_pem

    def at_day(self, day: float) -> None:
        self.clock.wall_ns = int(day * DAY_S) * S


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(AgentHome(tmp_path / "home"))


def test_it_is_due_when_two_thirds_are_over(bench: Bench) -> None:
    bench.at_day(19.9)
    bench.renewal.after_step(True)
    assert bench.asked == 0
    bench.at_day(20)
    bench.renewal.after_step(None)
    assert bench.asked == 0
    bench.renewal.after_step(True)
    assert bench.asked == 1


def test_a_certificate_is_kept_until_the_new_one_has_synced(bench: Bench) -> None:
    bench.at_day(21)
    bench.renewal.after_step(True)
    assert (bench.used, bench.kept) == (["new"], "old")
    bench.renewal.after_step(True)
    assert (bench.used, bench.kept) == (["new"], "new")
    assert not bench.home.next_identity.exists()
    bench.renewal.after_step(True)
    assert bench.asked == 1


def test_a_new_certificate_that_does_not_get_through_gives_way_to_the_old(bench: Bench) -> None:
    bench.at_day(21)
    bench.renewal.after_step(True)
    bench.renewal.after_step(False)
    assert (bench.used, bench.kept) == (["new", "old"], "old")
    assert not bench.home.next_identity.exists()
    bench.renewal.after_step(True)
    assert bench.asked == 1
    bench.clock.now_ns += 3600 * S
    bench.renewal.after_step(True)
    assert bench.asked == 2


def test_a_refusal_is_repeated_after_an_hour(bench: Bench) -> None:
    bench.at_day(21)
    bench.granted = False
    for _ in range(5):
        bench.renewal.after_step(True)
    assert bench.asked == 1
    bench.clock.now_ns += 3600 * S
    bench.renewal.after_step(True)
    assert (bench.asked, bench.used, bench.kept) == (2, [], "old")


def test_an_agent_killed_in_between_tries_the_new_one_at_its_next_start(bench: Bench) -> None:
    NEW.store_next(bench.home)
    again = bench.open()
    again.start()
    assert (bench.used, bench.kept) == (["new"], "old")
    again.after_step(True)
    assert bench.kept == "new"


def test_half_a_file_is_not_tried(bench: Bench) -> None:
    bench.home.next_identity.write_text("{")
    bench.open().start()
    assert bench.used == []


def test_a_clock_that_is_wrong_does_not_shut_the_device_out_for_good(bench: Bench) -> None:
    for _ in range(19):
        bench.renewal.after_step(False)
    assert bench.asked == 0
    bench.renewal.after_step(False)
    assert bench.asked == 1


def test_an_identity_of_an_earlier_version_is_thirty_days_old_at_its_end(bench: Bench) -> None:
    text = bench.home.identity.read_text()
    bench.home.identity.write_text(text.replace(',\n "not_before_unix_s": 0', ""))
    assert Identity.load(bench.home) == OLD


@pytest.mark.parametrize("trouble", [NotFound, CheckFailed])
def test_the_child_says_why_it_failed(tmp_path: Path, trouble: type[Exception]) -> None:
    home = AgentHome(tmp_path / "home").create()
    if trouble is CheckFailed:
        home.identity.write_text("{}")
    with capture_logs() as said:
        assert not ask_by_child(home, QuietWindow())
    assert said[0]["event"] == "certificate could not be renewed"
    assert ("not been enrolled" if trouble is NotFound else "cannot be used") in said[0]["reason"]


def test_nothing_is_asked_once_the_agent_ends(bench: Bench) -> None:
    window = QuietWindow()
    window.stop()
    with pytest.raises(Stopping):
        ask_by_child(bench.home, window)
