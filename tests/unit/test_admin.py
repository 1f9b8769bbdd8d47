"""Administration: what fits a device's state, who may do what, and the log of who did."""

from __future__ import annotations

import datetime as dt
import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from assay.controller.admin.access import load_identity, opened_office
from assay.controller.admin.base import DeviceChange, DeviceVerb
from assay.controller.admin.changes import changed
from assay.controller.admin.journal import Caller
from assay.controller.admin.office import Office
from assay.controller.admin.rotation import begin, finish_rotation
from assay.controller.admin.views import SweepFile
from assay.controller.admin.wire import change_message, change_of
from assay.controller.cli import assay
from assay.controller.home import Home
from assay.controller.identity.enrol import Enroller, create_token
from assay.controller.identity.pki import Authority
from assay.controller.planning.sweeps import tend
from assay.controller.records import (
    DeviceRecord,
    DeviceState,
    Duty,
    OperatorRecord,
    Role,
    RoundState,
    SweepRecord,
    SweepState,
)
from assay.controller.server.door import Door
from assay.controller.server.running import sole_controller
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.errors import (
    AlreadyExists,
    BadMessage,
    CheckFailed,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    UsageError,
)
from assay.v1 import admin_pb2
from tests.plane import S, device, queued, reported, result, sweep
from tests.plane_client import Key

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOW_NS = int(NOW.timestamp()) * S


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = Home(tmp_path / "home")
    monkeypatch.setenv("ASSAY_HOME", str(made.root))
    return made


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    opened = open_store(home)
    opened.add_device(device())
    opened.add_sweep(sweep(), [], [queued()])
    yield opened
    opened.close()


def office(home: Home, store: Store, role: Role = Role.OPERATOR) -> Office:
    return Office(home, store, Caller("anna", role, "192.0.2.1"), lambda: NOW_NS)


def rows(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(assay, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


class TestChanges:
    @pytest.mark.parametrize(
        ("verb", "state"),
        [
            (DeviceVerb.APPROVE, DeviceState.PENDING),
            (DeviceVerb.RELEASE, DeviceState.QUARANTINED),
        ],
    )
    def test_a_state_is_left_only_by_its_own_verb(
        self, verb: DeviceVerb, state: DeviceState
    ) -> None:
        assert changed(device(state=state), DeviceChange(verb)).state is DeviceState.ACTIVE
        for other in set(DeviceState) - {state}:
            with pytest.raises(UsageError, match=f"not {state.value}"):
                changed(device(state=other), DeviceChange(verb))

    @pytest.mark.parametrize("verb", [DeviceVerb.CORDON, DeviceVerb.DRAIN])
    def test_a_device_goes_off_duty_for_a_reason_and_comes_back(self, verb: DeviceVerb) -> None:
        off = changed(device(), DeviceChange(verb, reason="new fan"))
        assert (off.duty is Duty.ON, off.duty_reason) == (False, "new fan")
        back = changed(off, DeviceChange(DeviceVerb.UNCORDON))
        assert back == device()
        with pytest.raises(UsageError, match="on duty already"):
            changed(back, DeviceChange(DeviceVerb.UNCORDON))

    def test_a_label_needs_a_key(self) -> None:
        with pytest.raises(BadMessage):
            changed(device(), DeviceChange(DeviceVerb.LABEL, labels={"": "x"}))

    @pytest.mark.parametrize("verb", list(DeviceVerb))
    def test_a_change_survives_the_wire(self, verb: DeviceVerb) -> None:
        change = DeviceChange(verb, "why", {"a": "b"}, ("c",), "name")
        assert change_of(change_message("bench", change)) == change

    @pytest.mark.parametrize("number", [0, 99])
    def test_a_verb_of_a_newer_version_is_refused(self, number: int) -> None:
        message = admin_pb2.ChangeDeviceRequest(name="x")
        message.verb = number  # type: ignore[assignment]
        with pytest.raises(BadMessage):
            change_of(message)


class TestRoles:
    def test_a_viewer_lists_and_changes_nothing(self, home: Home, store: Store) -> None:
        viewer = office(home, store, Role.VIEWER)
        assert [d.name for d in viewer.devices()] == ["bench"]
        assert viewer.device("bench").name == "bench"
        assert [s.sweep_id for s in viewer.sweeps()] == ["s1"]
        assert (viewer.tokens(), viewer.operators(), viewer.certificates()) == ([], [], [])
        refused = [
            lambda: viewer.create_token(note="", uses=1, lifetime_s=1, approval=False),
            lambda: viewer.revoke_token("t"),
            lambda: viewer.change_device("bench", DeviceChange(DeviceVerb.REVOKE)),
            lambda: viewer.plan_sweep(SweepFile("lab.toml", "")),
            lambda: viewer.run_sweep(SweepFile("lab.toml", "")),
            lambda: viewer.resume_sweep("s1"),
            lambda: viewer.cancel_sweep("s1"),
            lambda: viewer.prioritise_sweep("s1", 1),
            lambda: viewer.add_operator("eve", Role.OPERATOR, 1),
            lambda: viewer.revoke_operator("anna"),
        ]
        for action in refused:
            with pytest.raises(PermissionDenied, match="an operator can"):
                action()  # type: ignore[no-untyped-call]
        assert store.device("bench").state is DeviceState.ACTIVE
        assert store.operators() == []
        assert store.sweep("s1").state is SweepState.RUNNING

    def test_every_call_is_logged_with_what_came_of_it(self, home: Home, store: Store) -> None:
        boss = office(home, store)
        boss.devices()
        boss.change_device("bench", DeviceChange(DeviceVerb.CORDON, reason="new fan"))
        with pytest.raises(NotFound):
            boss.revoke_token("ghost")
        with pytest.raises(PermissionDenied):
            office(home, store, Role.VIEWER).cancel_sweep("s1")
        told = [(e.role, e.action, e.subject, e.outcome) for e in store.audit(10)]
        assert told == [
            (Role.OPERATOR, "device list", "", "ok"),
            (Role.OPERATOR, "device cordon", "bench new fan", "ok"),
            (Role.OPERATOR, "token revoke", "ghost", "not_found"),
            (Role.VIEWER, "sweep cancel", "s1", "permission_denied"),
        ]
        assert {(e.actor, e.origin, e.at_ns) for e in store.audit(10)} == {
            ("anna", "192.0.2.1", NOW_NS)
        }

    def test_a_change_is_in_the_log_before_it_is_made(
        self, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[tuple[str, str]]] = []

        def fail(*_: object) -> None:
            seen.append([(entry.action, entry.outcome) for entry in store.audit(10)])
            raise RuntimeError("a bug")

        monkeypatch.setattr(store, "set_sweep_priority", fail)
        with pytest.raises(RuntimeError):
            office(home, store).prioritise_sweep("s1", 1)
        assert seen == [[("sweep prioritise", "begun")]]
        (entry,) = store.audit(10)
        assert (entry.outcome, entry.subject) == ("internal", "s1 1")

    def test_what_fails_unexpectedly_is_in_the_log_too(
        self, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(store), "devices", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            office(home, store).devices()
        assert [(e.action, e.outcome) for e in store.audit(10)] == [("device list", "internal")]

    @pytest.mark.parametrize("limit", [0, -1])
    def test_the_log_is_not_read_without_end(self, home: Home, store: Store, limit: int) -> None:
        with pytest.raises(UsageError, match="1 to 10000"):
            office(home, store, Role.VIEWER).audit(limit)

    def test_nobody_fills_the_log_with_a_long_name(self, home: Home, store: Store) -> None:
        with pytest.raises(NotFound):
            office(home, store, Role.VIEWER).rounds("x" * 1_000_000)
        (entry,) = store.audit(10)
        assert len(entry.subject) < 600 and len(entry.detail) < 600

    def test_no_secret_is_in_the_log_or_in_a_list(self, home: Home, store: Store) -> None:
        boss = office(home, store)
        token = boss.create_token(note="lab", uses=2, lifetime_s=60, approval=True)
        secret = token.split(".")[2]
        assert not any(secret in str(entry) for entry in store.audit(10))
        (listed,) = boss.tokens()
        assert (listed.secret_sha256, listed.approval, listed.uses_left) == ("", True, 2)

    def test_what_is_done_is_not_cancelled_any_more(self, home: Home, store: Store) -> None:
        store.set_sweep_state("s1", SweepState.DONE)
        with pytest.raises(UsageError, match="is done"):
            office(home, store).cancel_sweep("s1")
        assert store.sweep("s1").state is SweepState.DONE

    def test_a_result_is_found_by_the_beginning_of_its_attempt(
        self, home: Home, store: Store
    ) -> None:
        granted = store.lease_round("id-bench", 100 * S, 1)
        assert granted is not None
        both = [result(granted, position) for position in (0, 1)]
        viewer, first = office(home, store, Role.VIEWER), both[0].attempt_id
        store.record("id-bench", [reported(both[0])], 2)
        assert viewer.result(first[:-1]) == store.result(first)
        store.record("id-bench", [reported(both[1])], 2)
        assert viewer.result(first) == store.result(first)
        with pytest.raises(UsageError, match="could be any of"):
            viewer.result(first[:-1])
        with pytest.raises(NotFound):
            viewer.result("ghost")
        assert [e.action for e in store.audit(10)] == ["result show"] * 4

    def test_a_priority_has_bounds(self, home: Home, store: Store) -> None:
        office(home, store).prioritise_sweep("s1", -1000)
        with pytest.raises(UsageError):
            office(home, store).prioritise_sweep("s1", 1001)
        assert store.sweep("s1").priority == -1000


class TestMeanwhile:
    """Two who change one device at once: neither undoes what the other did."""

    def test_a_device_that_is_revoked_stays_so(
        self, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = store.device

        def revoked_once_read(name: str) -> DeviceRecord:
            found = read(name)
            monkeypatch.setattr(store, "device", read)
            office(home, store).change_device("bench", DeviceChange(DeviceVerb.REVOKE))
            return found

        monkeypatch.setattr(store, "device", revoked_once_read)
        change = DeviceChange(DeviceVerb.LABEL, labels={"room": "lab"})
        after = office(home, store).change_device("bench", change)
        assert after == store.device("bench")
        assert (after.state, after.labels) == (DeviceState.REVOKED, {"room": "lab"})

    def test_a_sweep_that_is_cancelled_as_it_ends_stays_cancelled(
        self, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        granted = store.lease_round("id-bench", 100 * S, 1)
        assert granted is not None
        store.finish_round(granted.round_id, granted.fence, RoundState.DONE, 2)
        read = store.sweeps

        def cancelled_once_read() -> list[SweepRecord]:
            found = read()
            office(home, store).cancel_sweep("s1")
            return found

        monkeypatch.setattr(store, "sweeps", cancelled_once_read)
        tend(store)
        assert store.sweep("s1").state is SweepState.CANCELLED

    def test_a_renewal_does_not_let_in_who_was_revoked_meanwhile(
        self, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = Key()
        token = create_token(home, store, now_ns=NOW_NS)
        enroller = Enroller(store, Authority(home.pki, NOW), lambda: NOW_NS)
        made = enroller.enrol(str(token), key.request(), "board")
        issue = enroller.authority.issue_device

        def revoked_while_signing(*arguments: Any) -> Any:
            office(home, store).change_device("board", DeviceChange(DeviceVerb.REVOKE))
            return issue(*arguments)

        monkeypatch.setattr(enroller.authority, "issue_device", revoked_while_signing)
        later = replace(enroller, now_ns=lambda: NOW_NS + S)
        with pytest.raises(PermissionDenied, match="revoked"):
            later.renew(made.device_id, key.request())
        assert store.device("board").state is DeviceState.REVOKED


class TestDoor:
    GOOD = OperatorRecord("anna", Role.VIEWER, "c1", 1, 2 * 10**18)

    def caller(self, store: Store, *names: str) -> Caller:
        return Door(store, lambda: NOW_NS).caller("ipv4:192.0.2.1:5000", list(names))

    def test_an_operators_certificate_is_known(self, store: Store) -> None:
        store.put_operator(self.GOOD)
        found = self.caller(store, "assay://operator/anna/c1")
        assert found == Caller("anna", Role.VIEWER, "192.0.2.1")

    @pytest.mark.parametrize(
        ("names", "known", "why"),
        [
            ((), GOOD, "names no operator"),
            (("assay://device/id-bench",), GOOD, "names no operator"),
            (("assay://operator/anna/c1", "assay://operator/b/c"), GOOD, "names no operator"),
            (("assay://operator/ghost/c1",), GOOD, "does not know"),
            (("assay://operator/anna/c0",), GOOD, "newer certificate"),
            (("assay://operator/anna/c1",), replace(GOOD, revoked=True), "revoked"),
            (("assay://operator/anna/c1",), replace(GOOD, not_after_ns=NOW_NS), "has ended"),
        ],
    )
    def test_everybody_else_is_turned_away_and_logged(
        self, store: Store, names: tuple[str, ...], known: OperatorRecord, why: str
    ) -> None:
        store.put_operator(known)
        with pytest.raises(Unauthenticated, match=why):
            self.caller(store, *names)
        (entry,) = store.audit(10)
        assert (entry.outcome, entry.origin) == ("unauthenticated", "192.0.2.1")

    def test_who_knocks_without_end_fills_no_disk(self, store: Store) -> None:
        now_ns = NOW_NS
        door = Door(store, lambda: now_ns)

        def knock(name: str) -> None:
            with pytest.raises(Unauthenticated):
                door.caller("ipv4:192.0.2.1:5000", [f"assay://device/{name}"])

        for _ in range(50):
            knock("a")
        knock("b")
        now_ns += 60 * S
        knock("a")
        knock("a")
        told = [(entry.actor.rpartition("/")[2], entry.detail) for entry in store.audit(100)]
        assert [actor for actor, _ in told] == ["a", "b", "a"]
        assert told[2][1].endswith("(and 49 times since the last entry)")


class TestIdentityFile:
    def test_it_is_private_complete_and_never_overwritten(
        self, home: Home, store: Store, tmp_path: Path
    ) -> None:
        path = tmp_path / "anna.pem"
        arguments = ["operator", "add", "anna", "--role", "operator", "-o", str(path)]
        assert CliRunner().invoke(assay, arguments).exit_code == 0
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        identity = load_identity(path)
        assert b"PRIVATE KEY" in identity.key_pem
        authority = Authority(home.pki, NOW)
        assert identity.ca_bundle_pem == authority.certificate_pem
        assert isinstance(CliRunner().invoke(assay, arguments).exception, UsageError)
        assert [(r["name"], r["role"]) for r in rows("operator", "list")] == [("anna", "operator")]
        assert CliRunner().invoke(assay, ["operator", "revoke", "anna"]).exit_code == 0
        assert [r["state"] for r in rows("operator", "list")] == ["revoked"]

    @pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nx"])
    def test_what_is_no_identity_is_said(self, tmp_path: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "x").write_bytes(content)
        with pytest.raises(UsageError, match=r"no identity|cannot be read"):
            load_identity(tmp_path / "x")

    def test_an_address_needs_an_identity(self) -> None:
        with (
            pytest.raises(UsageError, match="assay operator add"),
            opened_office("192.0.2.1:7403", ""),
        ):
            pass


class TestCommands:
    def test_changes_on_the_home_are_logged_and_looking_is_not(
        self, home: Home, store: Store
    ) -> None:
        rows("device", "list")
        CliRunner().invoke(assay, ["device", "drain", "bench", "--reason", "move"])
        CliRunner().invoke(assay, ["sweep", "prioritise", "sweep s1", "7"])
        CliRunner().invoke(assay, ["sweep", "cancel", "ghost"])
        told = [(r["action"], r["subject"], r["origin"], r["outcome"]) for r in rows("audit")]
        assert told == [
            ("device drain", "bench move", "home", "ok"),
            ("sweep prioritise", "sweep s1 7", "home", "ok"),
            ("sweep cancel", "ghost", "home", "not_found"),
        ]
        assert rows("device", "list")[0]["duty"] == "draining"
        assert store.sweep("s1").priority == 7

    def test_approval_is_for_those_who_wait(self, home: Home, store: Store) -> None:
        store.add_device(device("newcomer", state=DeviceState.PENDING))
        assert CliRunner().invoke(assay, ["device", "approve", "newcomer"]).exit_code == 0
        assert store.device("newcomer").state is DeviceState.ACTIVE
        again = CliRunner().invoke(assay, ["device", "approve", "newcomer"])
        assert isinstance(again.exception, UsageError)


class TestRotation:
    LIFE = dt.timedelta(days=30)

    def test_the_former_ca_stays_until_nobody_needs_it(self, home: Home, store: Store) -> None:
        before = Authority(home.create().pki, NOW)
        pin = before.sha256
        later = NOW + dt.timedelta(days=400)
        ends = later + dt.timedelta(days=10)
        store.update_device(device(certificate_not_after_ns=int(ends.timestamp()) * S))
        begin(home, later)
        with pytest.raises(AlreadyExists, match="replaced already"):
            begin(home, later)
        assert Authority(home.pki, later).sha256 == pin
        with pytest.raises(CheckFailed, match="1 still need the former CA: bench"):
            finish_rotation(home, store, later, False)
        renewed = later + dt.timedelta(days=1) + self.LIFE
        store.update_device(device(certificate_not_after_ns=int(renewed.timestamp()) * S))
        assert [r["certificate"] for r in rows("pki", "show")] == ["CA", "former CA"]
        finish_rotation(home, store, later, False)
        assert Authority(home.pki, later).sha256 != pin
        assert [r["certificate"] for r in rows("pki", "show")] == ["CA"]
        with pytest.raises(NotFound, match="no CA is being replaced"):
            finish_rotation(home, store, later, False)

    def test_an_operator_of_the_former_ca_is_counted(self, home: Home, store: Store) -> None:
        Authority(home.create().pki, NOW)
        store.update_device(device(state=DeviceState.REVOKED))
        store.put_operator(OperatorRecord("anna", Role.VIEWER, "c", NOW_NS, 10**18))
        later = NOW + dt.timedelta(days=1)
        begin(home, later)
        with pytest.raises(CheckFailed, match="operator anna"):
            finish_rotation(home, store, later, False)
        finish_rotation(home, store, later, True)

    def test_it_is_not_done_under_a_running_controller(self, home: Home) -> None:
        with (
            sole_controller(home.create()),
            pytest.raises(AlreadyExists, match="another controller"),
        ):
            begin(home, NOW)
