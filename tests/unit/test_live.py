"""The live page: what it shows, what it sends again, and whom it lets in."""

from __future__ import annotations

import base64
import json
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.live.access import Access, access_for, viewer_token, viewer_token_path
from assay.controller.live.server import LiveServer
from assay.controller.live.source import StateReader
from assay.controller.live.state import snapshot, sweep_row
from assay.controller.metrics.discovery import targets
from assay.controller.metrics.exposition_fleet import view_of
from assay.controller.metrics.vitals import Vitals
from assay.controller.planning.progress import measure_progress
from assay.controller.records import DeviceState, SweepState
from assay.core.cas import ContentStore
from assay.core.errors import PortInUse
from tests.factories import SHAPES, T0_NS, FakeStore, make_device, make_facts, make_sweep

NOW_NS = T0_NS + 610 * 10**9


def vitals(**changes: Any) -> Vitals:
    held = Vitals(NOW_NS, 0, 55.0, 4e9, 2e10, 2, 100, False, True, "measuring")
    return replace(held, **changes)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> ContentStore:
    return ContentStore(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def store(blobs: ContentStore, tmp_path_factory: pytest.TempPathFactory) -> FakeStore:
    scratch = tmp_path_factory.mktemp("scratch")
    return FakeStore(make_sweep(shapes=SHAPES[:4], blobs=blobs, scratch=scratch, samples=300))


@pytest.fixture(scope="module")
def live(store: FakeStore, blobs: ContentStore) -> Iterator[LiveServer]:
    seen = {"id-pi-bench-1": vitals()}
    with LiveServer(lambda: store, blobs, lambda: seen, "127.0.0.1", 0, Access()) as server:  # type: ignore[arg-type, return-value]
        yield server


def get(url: str, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def page(live: LiveServer, path: str) -> tuple[int, str, Any]:
    return get(f"http://127.0.0.1:{live.port}{path}")


def test_the_first_page_holds_fleet_sweeps_and_newest_results(live: LiveServer) -> None:
    status, body, headers = page(live, "/")
    assert status == 200
    assert 'id="device-pi-bench-1"' in body and "55 °C" in body
    assert 'href="/sweep/demo"' in body and 'href="/report/demo"' in body
    assert 'id="result-' in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_sweep_says_what_its_report_says(live: LiveServer) -> None:
    status, body, _ = page(live, "/sweep/demo")
    assert status == 200 and "Fastest" in body
    status, report, _ = page(live, "/report/demo")
    assert status == 200 and "<title>demo – Assay report</title>" in report


@pytest.mark.parametrize(
    ("left_s", "said"),
    [(3, "10 s"), (96.4, "100 s"), (125, "2 min"), (3590, "1 h 0 min"), (12_000, "3 h 20 min")],
)
def test_time_left_has_no_digits_it_does_not_know(left_s: float, said: str) -> None:
    data = make_sweep()
    progress = measure_progress(data.sweep, data.rounds, data.results)
    progress = replace(progress, state=SweepState.RUNNING, left_ns=round(left_s * 1e9))
    view = view_of(data.sweep, data.rounds, data.results)
    assert sweep_row(replace(view, progress=progress))["left"] == f"about {said} left"


def test_a_result_shows_every_sample(live: LiveServer, store: FakeStore) -> None:
    record = store.results()[0]
    status, body, _ = page(live, f"/result/{urllib.request.quote(record.attempt_id, safe='')}")
    assert status == 200
    assert body.count('class="bar"') > 5 and "300 samples" in body


@pytest.mark.parametrize("path", ["/nope", "/sweep/nope", "/result/nope", "/report/nope", "/../x"])
def test_what_is_not_there_is_404(live: LiveServer, path: str) -> None:
    status, body, _ = page(live, path)
    assert status == 404 and "Not found" in body


def test_it_offers_nothing_but_reading(live: LiveServer) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{live.port}/", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request, timeout=5)


def test_events_begin_with_everything(live: LiveServer) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{live.port}/events", timeout=10) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.readline() == b"event: change\n"
        change = json.loads(stream.readline().removeprefix(b"data: "))
    assert "device-pi-bench-1" in change["tables"]["devices"]["rows"]
    # The fixture's clock stands long ago: what was heard then is missed now.
    assert change["counts"]["missing"] == "1"


def test_only_what_changed_is_sent_again() -> None:
    held = FakeStore(make_sweep(shapes=SHAPES[:2], spoil=False))
    seen = {"id-pi-bench-1": vitals()}
    reader = StateReader(held, lambda: seen)  # type: ignore[arg-type]
    before = snapshot(reader.read(NOW_NS))
    assert snapshot(reader.read(NOW_NS)).changes(before) is None
    seen["id-pi-bench-1"] = vitals(temperature_c=71.0, doing="")
    change = snapshot(reader.read(NOW_NS)).changes(before)
    assert change is not None
    assert list(change["tables"]) == ["devices"]
    assert "71 °C" in change["tables"]["devices"]["rows"]["device-pi-bench-1"]
    assert change["counts"] == {"busy": "0"}


def test_a_sweep_that_has_ended_is_read_once() -> None:
    held = FakeStore(make_sweep(shapes=SHAPES[:2], spoil=False))
    reader = StateReader(held, dict)  # type: ignore[arg-type]
    for _ in range(3):
        reader.read(NOW_NS)
    assert held.reads == ["s1"]


def test_hostile_names_stay_text() -> None:
    data = make_sweep(shapes=SHAPES[:1], spoil=False, devices=[make_device("<img src=x>")])
    data = replace(data, sweep=replace(data.sweep, name='"><script>1</script>'))
    shown = snapshot(StateReader(FakeStore(data), dict).read(NOW_NS))  # type: ignore[arg-type]
    text = "".join(html for rows in shown.tables.values() for html in rows.values())
    assert "<script" not in text and "<img" not in text


def test_a_thousand_devices_are_painted_within_a_second() -> None:
    data = make_sweep(shapes=SHAPES[:1], spoil=False)
    devices = {f"id-d{i}": make_device(f"d{i}") for i in range(1000)}
    held = FakeStore(replace(data, devices={**data.devices, **devices}))
    seen = {key: vitals() for key in devices}
    started = time.process_time()
    shown = snapshot(StateReader(held, lambda: seen).read(NOW_NS))  # type: ignore[arg-type]
    assert len(shown.tables["devices"]) == 1001
    assert time.process_time() - started < 1.0


# who may look


def test_on_loopback_everybody_of_this_machine_may_look(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").create()
    assert access_for(home, "127.0.0.1") == access_for(home, "::1") == Access()
    assert access_for(home, "192.0.2.7").token == viewer_token(home)
    assert access_for(home, "0.0.0.0").certificate is not None
    assert stat.S_IMODE(viewer_token_path(home).stat().st_mode) == 0o600
    assert len(viewer_token(home)) >= 32


def test_over_tls_the_token_is_asked_for(
    tmp_path: Path, store: FakeStore, blobs: ContentStore
) -> None:
    home = Home(tmp_path / "home").create()
    Authority(home.pki, datetime.now(UTC)).server_identity(["127.0.0.1"], datetime.now(UTC))
    access = access_for(home, "127.0.0.1", tls=True)
    context = ssl.create_default_context(cafile=str(home.pki / "ca.crt"))
    with LiveServer(lambda: store, blobs, dict, "127.0.0.1", 0, access) as server:  # type: ignore[arg-type, return-value]
        url = f"https://127.0.0.1:{server.port}/sd/agents"
        assert get(url, context)[0] == 401
        assert get(url, context, Authorization="Bearer wrong")[0] == 401
        assert get(url, context, Authorization="Basic !")[0] == 401
        token = viewer_token(home)
        assert get(url, context, Authorization=f"Bearer {token}")[0] == 200
        basic = base64.b64encode(f"viewer:{token}".encode()).decode()
        assert get(url, context, Authorization=f"Basic {basic}")[0] == 200


def test_a_taken_port_is_named(live: LiveServer, store: FakeStore, blobs: ContentStore) -> None:
    with pytest.raises(PortInUse, match="--live-port"):
        LiveServer(lambda: store, blobs, dict, "127.0.0.1", live.port, Access())  # type: ignore[arg-type, return-value]


# http_sd


def test_agents_that_say_where_their_page_is_are_found() -> None:
    def there(name: str, *capabilities: str, state: DeviceState = DeviceState.ACTIVE) -> Any:
        facts = make_facts(capabilities=capabilities)
        return make_device(name, facts=facts, state=state)

    found = targets(
        [
            there("b", "cpu:neon", "metrics=192.0.2.4:9300"),
            there("a", "metrics=[2001:db8::1]:9300"),
            there("nat"),
            there("odd", "metrics=nowhere"),
            there("gone", "metrics=192.0.2.9:9300", state=DeviceState.REVOKED),
            make_device("new", facts=None),
        ]
    )
    assert found == [
        {
            "targets": ["[2001:db8::1]:9300"],
            "labels": {"device": "a", "device_class": "rpi5"},
        },
        {"targets": ["192.0.2.4:9300"], "labels": {"device": "b", "device_class": "rpi5"}},
    ]


def test_a_running_sweep_is_read_again() -> None:
    data = make_sweep(shapes=SHAPES[:1], spoil=False)
    running = replace(data, sweep=replace(data.sweep, state=SweepState.RUNNING))
    held = FakeStore(running)
    reader = StateReader(held, dict)  # type: ignore[arg-type]
    reader.read(NOW_NS)
    held.put(replace(running, results=running.results[:-1]))
    assert len(reader.read(NOW_NS).sweeps[0].progress.latest) == 3
    assert held.reads == ["s1", "s1"]
