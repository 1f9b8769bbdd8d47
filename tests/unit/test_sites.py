"""A site whose line is gone keeps its leases; whoever is silent elsewhere does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from assay.controller.home import Home
from assay.controller.metrics.tally import Tally
from assay.controller.planning.scheduler import DELIVERY_NS, SILENT_NS, cut_off
from assay.controller.records import RoundState
from assay.controller.server.clockwork import Clockwork
from assay.controller.server.presence import Presence
from assay.controller.store import open_store
from assay.controller.store.base import Store
from tests.plane import S, device, queued, sweep

GONE = SILENT_NS + 1


class TestCutOff:
    def away(self, **silences_ns: int) -> set[str]:
        """Devices are named by their site and a number; ``x`` is no site."""
        sites = {name: name[0] if name[0] != "x" else "" for name in silences_ns}
        return set(cut_off(silences_ns, sites))

    def test_a_site_of_which_most_fell_silent_lately(self) -> None:
        talking = {f"b{n}": 0 for n in range(9)}
        assert self.away(a1=GONE, a2=GONE, a3=GONE, a4=0, **talking) == {"a1", "a2", "a3", "a4"}

    def test_one_where_more_still_talk_or_few_are(self) -> None:
        assert self.away(a1=GONE, a2=GONE, a3=GONE, a4=0, a5=0, a6=0) == set()
        assert self.away(a1=GONE, a2=GONE) == set()

    def test_what_was_long_gone_or_is_at_no_site_does_not_count(self) -> None:
        assert self.away(a1=3600 * S, a2=3600 * S, a3=GONE) == set()
        assert self.away(x1=GONE, x2=GONE, x3=GONE) == set()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(Home(tmp_path / "home"))
    names = [f"cabin{n}" for n in range(3)] + [f"lab{n}" for n in range(6)]
    for name in names:
        opened.add_device(device(name, labels={"site": name[:-1]}))
    rounds = [queued(f"r-{name}", device_id=f"id-{name}") for name in names]
    opened.add_sweep(sweep(), [], rounds)
    yield opened
    opened.close()


def test_leases_stay_at_a_site_that_fell_silent_and_end_elsewhere(store: Store) -> None:
    clock = [0]
    presence = Presence(store)
    work = Clockwork(store, presence, Tally(), lambda: clock[0])
    for name in ("cabin0", "lab0"):
        assert store.lease_round(f"id-{name}", 10 * S, 0) is not None
    for at in store.devices():
        presence.note(at.device_id, None, 0, 0)
    # The cabin's line is down, and one device of the lab is off.
    clock[0] = DELIVERY_NS + GONE
    for n in range(1, 6):
        presence.note(f"id-lab{n}", None, 0, clock[0])
    with structlog.testing.capture_logs() as logs:
        work.tick()
        work.tick()
    leased = [r.round_id for r in store.rounds("s1", [RoundState.LEASED])]
    assert leased == ["r-cabin0"]
    (said,) = [entry for entry in logs if "out of reach" in entry["event"]]
    assert said["sites"] == ["cabin"] and said["devices"] == 3
    # It is back: what ran out ends now.
    for n in range(3):
        presence.note(f"id-cabin{n}", None, 0, clock[0])
    work.tick()
    assert store.rounds("s1", [RoundState.LEASED]) == []
