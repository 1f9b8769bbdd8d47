"""`assay token`, `assay device`, `assay doctor` and `assay store check` on a store of their own."""

from __future__ import annotations

import datetime as dt
import errno
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from assay.controller.cli import assay
from assay.controller.cli.doctor import examine
from assay.controller.home import Home
from assay.controller.identity.pki import Authority
from assay.controller.records import DeviceState, SweepState
from assay.controller.store import soundness
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.digest import of_file
from assay.core.errors import AlreadyExists, BadMessage, CheckFailed, NotFound, UsageError
from assay.core.model import MEDIA_NPZ, MEDIA_ONNX
from assay.core.token import JoinToken
from tests.factories import SHAPES, unlike
from tests.plane import dataset, device, facts, queued, reported, result, sweep, variant
from tests.stored import stored_sweep


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    monkeypatch.setenv("ASSAY_HOME", str(made.root))
    return made


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(assay, arguments)


def rows(*arguments: str) -> list[dict[str, Any]]:
    done = invoke(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class TestToken:
    def test_create_prints_the_token_alone_to_stdout(self, store: Store, home: Home) -> None:
        done = invoke("token", "create", "--uses", "3", "--expires", "2h", "--note", "lab")
        token = JoinToken.parse(done.stdout)
        assert done.stdout == f"{token}\n"
        assert "3 devices" in done.stderr
        (record,) = store.tokens()
        assert record.secret_sha256 == token.secret_sha256
        assert record.expires_ns - record.created_ns == 7_200 * 10**9
        assert (record.uses_left, record.note) == (3, "lab")
        assert token.ca_sha256 == Authority(home.pki, dt.datetime.now(dt.UTC)).sha256

    def test_the_secret_is_nowhere_in_the_home(self, store: Store, home: Home) -> None:
        token = JoinToken.parse(invoke("token", "create").stdout)
        for path in home.root.rglob("*"):
            assert not path.is_file() or token.secret.encode() not in path.read_bytes()

    def test_list_tells_the_state(self, home: Home) -> None:
        token = JoinToken.parse(invoke("token", "create").stdout)
        assert [row["state"] for row in rows("token", "list")] == ["good"]
        assert invoke("token", "revoke", token.token_id).exit_code == 0
        assert [row["state"] for row in rows("token", "list")] == ["revoked"]

    def test_an_unknown_token_is_named(self, home: Home) -> None:
        assert isinstance(invoke("token", "revoke", "nope").exception, NotFound)

    @pytest.mark.parametrize("text", ["soon", "1", "0h", "-1h", "1w"])
    def test_a_lifetime_needs_its_unit(self, home: Home, text: str) -> None:
        done = invoke("token", "create", "--expires", text)
        assert done.exit_code == 2
        assert "write 90m, 24h or 7d" in done.output


class TestDevice:
    @pytest.fixture(autouse=True)
    def fleet(self, store: Store) -> None:
        store.add_device(device(facts=facts(), last_seen_ns=10**18))
        store.add_device(device("second"))

    def test_list_shows_who_is_there(self) -> None:
        bench, second = rows("device", "list")
        assert (bench["name"], bench["class"], bench["state"]) == ("bench", "x86_64", "active")
        assert bench["runtimes"] == ["onnxruntime 1.23"]
        assert (second["seen"], second["board"]) == ("never", None)

    def test_show_tells_every_fact(self) -> None:
        told = {row["fact"]: row["value"] for row in rows("device", "show", "bench")}
        assert told["cpu model"] == "Test CPU"
        assert told["runtime onnxruntime"] == "1.23 (CPUExecutionProvider)"
        assert told["boot_id"] == "boot-1"

    def test_show_names_who_is_not_there(self) -> None:
        assert isinstance(invoke("device", "show", "ghost").exception, NotFound)

    def test_revoke_shuts_out(self, store: Store) -> None:
        assert invoke("device", "revoke", "bench").exit_code == 0
        assert store.device("bench").state is DeviceState.REVOKED

    def test_release_is_for_the_quarantined(self, store: Store) -> None:
        assert isinstance(invoke("device", "release", "second").exception, UsageError)
        store.update_device(device("second", state=DeviceState.QUARANTINED))
        assert invoke("device", "release", "second").exit_code == 0
        assert store.device("second").state is DeviceState.ACTIVE

    def test_labels_are_set_and_dropped(self, store: Store) -> None:
        invoke("device", "label", "bench", "room=lab", "rack=a=1")
        assert store.device("bench").labels == {"room": "lab", "rack": "a=1"}
        invoke("device", "label", "bench", "rack-", "room=hall")
        assert store.device("bench").labels == {"room": "hall"}

    @pytest.mark.parametrize("label", ["room", "=x", "-"])
    def test_what_is_no_label_is_refused(self, store: Store, label: str) -> None:
        done = invoke("device", "label", "bench", "--", label)
        assert isinstance(done.exception, UsageError), done.output
        assert store.device("bench").labels == {}

    def test_rename_keeps_the_identity(self, store: Store) -> None:
        invoke("device", "rename", "bench", "desk")
        assert store.device("desk").device_id == "id-bench"

    def test_a_name_must_be_free_and_well_formed(self) -> None:
        assert isinstance(invoke("device", "rename", "bench", "second").exception, AlreadyExists)
        assert isinstance(invoke("device", "rename", "bench", "A B").exception, BadMessage)


class TestDoctor:
    NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def broken(self, home: Home, *, now: dt.datetime = NOW, thorough: bool = False) -> list[str]:
        found = list(examine(home, now, thorough=thorough))
        assert found
        return [f.check for f in found if not f.ok]

    def test_a_new_home_is_sound(self, home: Home) -> None:
        assert self.broken(home) == []
        assert invoke("doctor").exit_code == 0

    def test_a_home_in_use_is_sound(self, home: Home, store: Store) -> None:
        Authority(home.pki, self.NOW).server_identity([], self.NOW)
        ContentStore(home.artifacts).add_bytes(b"samples", MEDIA_NPZ)
        assert self.broken(home, thorough=True) == []

    def test_a_damaged_database_is_found(self, home: Home, store: Store) -> None:
        store.add_device(device())
        store.close()
        with home.database.open("r+b") as file:
            file.seek(4096 * 3)
            file.write(b"\xff" * 8192)
        assert "store" in self.broken(home)
        done = invoke("doctor")
        assert isinstance(done.exception, CheckFailed)
        assert "BROKEN" in done.output

    def test_a_row_that_refers_to_nothing_is_found(self, home: Home, store: Store) -> None:
        store.close()
        with sqlite3.connect(home.database) as connection:
            connection.execute("INSERT INTO conflicts VALUES ('a', 1, 'h', 'ghost', 1)")
        connection.close()
        assert self.broken(home) == ["store"]

    def test_conflicting_results_are_told(self, home: Home, store: Store) -> None:
        store.add_device(device())
        store.add_sweep(sweep(), [], [queued()])
        granted = store.lease_round("id-bench", 100, 0)
        assert granted is not None
        for note in ("one", "other"):
            store.record("id-bench", [reported(result(granted, note=note))], 1)
        assert self.broken(home) == ["conflicts"]

    def test_certificates_near_their_end_are_told(self, home: Home) -> None:
        Authority(home.pki, self.NOW).server_identity([], self.NOW)
        late = self.NOW + dt.timedelta(days=800)
        assert self.broken(home, now=late) == ["certificates"]

    def test_keys_others_can_read_are_told(self, home: Home) -> None:
        Authority(home.create().pki, self.NOW)
        (home.pki / "ca.key").chmod(0o644)
        assert self.broken(home) == ["keys"]

    def test_an_artifact_that_changed_is_found_by_reading_it(self, home: Home) -> None:
        content = ContentStore(home.artifacts)
        ref = content.add_bytes(b"samples", MEDIA_NPZ)
        content.path(ref.digest).write_bytes(b"changed")
        assert self.broken(home) == []
        assert self.broken(home, thorough=True) == ["artifacts"]

    def test_a_home_that_others_can_write_is_told(self, home: Home) -> None:
        home.create().root.chmod(0o777)
        assert self.broken(home) == ["home"]


class TestReport:
    def test_unlike_conditions_are_compared_only_with_force_and_named(
        self, home: Home, tmp_path: Path
    ) -> None:
        stored_sweep(home, tmp_path, shapes=SHAPES[:2], spoil=False, changed=unlike).close()
        kept, forced = invoke("report", "demo"), invoke("report", "demo", "--force")
        assert "Measured apart" in kept.stdout and "Compared although" not in kept.stdout
        assert "Compared although conditions differ" in forced.stdout
        assert "governor: " in forced.stdout and "Measured apart" not in forced.stdout
        for name in ("r.md", "r.html"):
            assert invoke("report", "demo", "--force", "-o", str(tmp_path / name)).exit_code == 0
            assert "ompared although" in (tmp_path / name).read_text()


class TestStoreCheck:
    """`assay store check` beside an open store, as beside a controller."""

    def rows(self, *arguments: str) -> dict[str, str]:
        done = invoke("store", "check", "--format", "json", *arguments)
        rows = json.loads(done.stdout)
        broken = [row["check"] for row in rows if row["state"] != "ok"]
        assert (isinstance(done.exception, CheckFailed), done.exit_code == 0) == (
            bool(broken),
            not broken,
        )
        return {row["check"]: row["detail"] for row in rows if row["check"] in broken}

    @pytest.fixture
    def content(self, home: Home, store: Store) -> ContentStore:
        made = ContentStore(home.artifacts)
        for text in ("fp32 model/onnx", "golden fp32", "x", "fp32", "int8"):
            made.add_bytes(text.encode(), MEDIA_NPZ)
        store.add_variant(variant())
        store.add_dataset(dataset())
        return made

    def test_what_is_whole_is_whole(self, content: ContentStore) -> None:
        assert self.rows() == {}

    def test_files_that_are_named_and_not_there_are_found(self, content: ContentStore) -> None:
        content.remove(dataset().splits["test"].digest)
        content.remove(variant().files[MEDIA_ONNX].artifact.digest)
        found = self.rows("--quick")
        assert list(found) == ["named files"]
        assert "(dataset digits)" in found["named files"]
        assert "(variant fp32)" in found["named files"]

    def test_files_of_open_rounds_are_asked_for(self, content: ContentStore, store: Store) -> None:
        store.add_device(device())
        store.add_sweep(sweep(), [], [queued()])
        assert "(sweep " in self.rows()["named files"]
        store.set_sweep_state("s1", SweepState.CANCELLED)
        assert self.rows() == {}

    def test_a_file_that_changed_is_found(self, content: ContentStore) -> None:
        content.path(dataset().splits["test"].digest).write_bytes(b"changed")
        assert list(self.rows()) == ["artifacts"]
        assert self.rows("--quick") == {}

    @pytest.mark.parametrize("gone", [True, False])
    def test_a_file_that_is_collected_meanwhile_is_not_broken_one_that_cannot_be_read_is(
        self, content: ContentStore, monkeypatch: pytest.MonkeyPatch, gone: bool
    ) -> None:
        extra = content.path(content.add_bytes(b"nobody names it", MEDIA_NPZ).digest)

        def reading(path: Path) -> str:
            if path != extra:
                return of_file(path)
            raise FileNotFoundError(path) if gone else OSError(errno.EIO, "a bad block")

        monkeypatch.setattr(soundness, "of_file", reading)
        assert list(self.rows()) == ([] if gone else ["artifacts"])

    def test_a_damaged_database_is_found(self, home: Home, store: Store) -> None:
        store.close()
        with sqlite3.connect(home.database) as connection:
            connection.execute("INSERT INTO conflicts VALUES ('a', 1, 'h', 'ghost', 1)")
        connection.close()
        assert "refers to a missing row" in self.rows()["store"]

    def test_a_home_without_a_store_is_named(self, home: Home) -> None:
        assert isinstance(invoke("store", "check").exception, NotFound)
