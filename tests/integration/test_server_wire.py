"""The protocol against a real controller: enrolment, leases, results and artifacts over mTLS."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from assay.controller.blobs.service import TRANSFERS_PER_DEVICE
from assay.controller.home import Home
from assay.controller.identity.certificates import check_request
from assay.controller.identity.enrol import create_token
from assay.controller.identity.pki import Authority
from assay.controller.publishing.envelopes import Envelopes
from assay.controller.records import DeviceState, RoundState, SweepState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core import channel, digest, dsse, statement
from assay.core.cas import ContentStore
from assay.core.channel import BLOB_CHUNK_BYTES, call, dial_enrolment, split_address
from assay.core.dsse import Envelope, Signature
from assay.core.errors import (
    AlreadyExists,
    AssayError,
    BadMessage,
    CorruptArtifact,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Unauthenticated,
    Unreachable,
    VersionMismatch,
)
from assay.core.model import MEDIA_NPZ, ArtifactRef, Round
from assay.core.statement import NamedArtifact, Statement
from assay.core.token import JoinToken
from assay.v1 import blobs_pb2, enrolment_pb2, enrolment_pb2_grpc, fleet_pb2
from tests.plane import queued, ref, reported, result, sweep
from tests.plane_client import (
    Board,
    ControllerProcess,
    Key,
    controller_process,
    enrol,
    raw_channel,
    status_name,
)

_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    with controller_process(Home(tmp_path_factory.mktemp("plane") / "home")) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def store(controller: ControllerProcess) -> Iterator[Store]:
    opened = open_store(controller.home)
    yield opened
    opened.close()


@pytest.fixture
def address(controller: ControllerProcess) -> str:
    return controller.serving().enrolment_address


@pytest.fixture
def new_token(controller: ControllerProcess, store: Store) -> Callable[..., JoinToken]:
    return lambda **options: create_token(controller.home, store, **options)


@pytest.fixture
def new_board(address: str, new_token: Callable[..., JoinToken]) -> Iterator[Callable[[], Board]]:
    made: list[Board] = []

    def new() -> Board:
        key, name = Key(), f"board-{next(_NUMBERS)}"
        made.append(Board(enrol(address, new_token(), name, key), key))
        return made[-1]

    yield new
    for one in made:
        one.__exit__()


@pytest.fixture
def board(new_board: Callable[[], Board]) -> Board:
    return new_board()


def add_work(store: Store, board: Board, rounds: int = 1) -> str:
    """A sweep for this board alone; its id."""
    sweep_id = f"s-{board.name}"
    waiting = [
        queued(f"{board.name}-r{i}", sweep_id=sweep_id, device_id=board.device_id, index=i)
        for i in range(rounds)
    ]
    store.add_sweep(sweep(sweep_id), [], waiting)
    return sweep_id


def a_large_envelope(of: ArtifactRef, comment: str) -> bytes:
    """Three of its kind fill an answer; nobody here looks at its signature."""
    payload = statement.encode(Statement((NamedArtifact(of),), "2026-01-01T00:00:00Z", comment))
    small = dsse.encode(Envelope(statement.PAYLOAD_TYPE, payload, (Signature(b"x", "k"),)))
    return json.dumps({**json.loads(small), "room": "x" * 1_000_000}).encode()


def states(store: Store, sweep_id: str) -> list[RoundState]:
    return [r.state for r in store.rounds(sweep_id)]


class TestEnrolment:
    def test_a_token_buys_an_identity(
        self, address: str, new_token: Callable[..., JoinToken], store: Store
    ) -> None:
        key = Key()
        enrolled = enrol(address, new_token(), "newcomer", key)
        device = store.device("newcomer")
        assert device.device_id == enrolled.device_id
        certificate = x509.load_pem_x509_certificate(enrolled.certificate_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == [f"assay://device/{enrolled.device_id}"]
        assert device.certificate_not_after_ns == int(
            certificate.not_valid_after_utc.timestamp() * 1e9
        )
        with Board(enrolled, key) as board:
            assert board.sync().proto == 1

    def test_the_same_key_gets_the_same_identity_even_from_a_spent_token(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        token, key = new_token(), Key()
        first = enrol(address, token, "twice", key)
        again = enrol(address, token, "another-name", key)
        assert (again.device_id, again.name) == (first.device_id, "twice")

    def test_a_name_taken_by_another_key_is_refused(
        self, address: str, new_token: Callable[..., JoinToken], board: Board
    ) -> None:
        with pytest.raises(AlreadyExists, match=f"{board.name!r} is taken by another key"):
            enrol(address, new_token(), board.name, Key())

    @pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "x" * 64, "a/../b"])
    def test_a_bad_name_is_refused(
        self, address: str, new_token: Callable[..., JoinToken], name: str
    ) -> None:
        with pytest.raises(BadMessage, match="no device name"):
            enrol(address, new_token(), name, Key())

    def test_a_wrong_secret_is_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        forged = replace(new_token(), secret="0" * 32)
        with pytest.raises(Unauthenticated, match="unknown here"):
            enrol(address, forged, "forger", Key())

    def test_a_spent_token_is_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        token = new_token(uses=1)
        enrol(address, token, f"spender-{next(_NUMBERS)}", Key())
        with pytest.raises(Unauthenticated, match="used up"):
            enrol(address, token, "late", Key())

    def test_an_expired_token_is_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        yesterday_ns = time.time_ns() - 86_400 * 10**9
        with pytest.raises(Unauthenticated, match="expired"):
            enrol(address, new_token(now_ns=yesterday_ns, lifetime_s=60), "late", Key())

    def test_a_revoked_token_is_refused(
        self, address: str, new_token: Callable[..., JoinToken], store: Store
    ) -> None:
        token = new_token()
        store.revoke_token(token.token_id)
        with pytest.raises(Unauthenticated, match="revoked"):
            enrol(address, token, "late", Key())

    def test_one_use_enrols_one_of_many_that_race(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        token = new_token(uses=1)
        outcomes: list[object] = []

        def race(index: int) -> None:
            try:
                outcomes.append(enrol(address, token, f"racer-{index}", Key()))
            except AssayError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=race, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        won = [o for o in outcomes if isinstance(o, enrolment_pb2.EnrolResponse)]
        assert len(won) == 1
        assert sum(isinstance(o, Unauthenticated) for o in outcomes) == 7

    def test_a_controller_with_another_ca_is_not_spoken_to(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        foreign = replace(new_token(), ca_sha256="0" * 64)
        with pytest.raises(Unauthenticated, match="not the controller that made this token"):
            enrol(address, foreign, "careful", Key())

    def test_a_request_that_is_no_request_is_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        with pytest.raises(BadMessage, match="cannot be read"):
            enrol(address, new_token(), "garbage", Key(), csr_pem=b"not a request")

    def test_a_request_signed_by_another_key_is_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        request = x509.load_pem_x509_csr(Key().request())
        der = bytearray(request.public_bytes(serialization.Encoding.DER))
        der[-3] ^= 0x55  # inside the signature
        pem = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
        with pytest.raises(BadMessage, match=r"not signed by the key|cannot be read"):
            enrol(address, new_token(), "swapped", Key(), csr_pem=pem)

    def test_other_kinds_of_keys_are_refused(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        for key in (
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
        ):
            pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
            with pytest.raises(BadMessage, match="P-256"):
                enrol(address, new_token(), "odd", Key(), csr_pem=pem)

    def test_a_bad_request_costs_no_use(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        token = new_token(uses=1)
        with pytest.raises(BadMessage):
            enrol(address, token, "BAD", Key())
        assert enrol(address, token, f"good-{next(_NUMBERS)}", Key()).device_id


class TestRenewal:
    def test_a_good_certificate_is_renewed_over_the_fleet_port(
        self, address: str, new_token: Callable[..., JoinToken], store: Store
    ) -> None:
        key, name = Key(), f"renewer-{next(_NUMBERS)}"
        enrolled = enrol(address, new_token(), name, key)
        with Board(enrolled, key) as board:
            request = fleet_pb2.RenewCertificateRequest(csr_pem=key.request())
            renewed = call(board.fleet.RenewCertificate, request, timeout_s=10)
            foreign = fleet_pb2.RenewCertificateRequest(csr_pem=Key().request())
            with pytest.raises(PermissionDenied, match="another key"):
                call(board.fleet.RenewCertificate, foreign, timeout_s=10)
        assert renewed.certificate_pem != enrolled.certificate_pem
        enrolled.certificate_pem = renewed.certificate_pem
        with Board(enrolled, key) as board:
            assert board.sync().proto == 1
        assert store.device(name).device_id == enrolled.device_id

    def test_a_certificate_that_ended_months_ago_renews_itself(
        self, controller: ControllerProcess, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        key, name = Key(), f"sleeper-{next(_NUMBERS)}"
        enrolled = enrol(address, new_token(), name, key)
        enrolled.certificate_pem = issue_at(controller, key, enrolled.device_id, days_ago=150)
        with Board(enrolled, key) as board, pytest.raises(Unreachable):
            board.sync()
        renewed = renew(address, enrolled, key)
        assert renewed.device_id == enrolled.device_id
        with Board(renewed, key) as board:
            assert board.sync().proto == 1

    def test_after_a_year_a_token_is_needed_and_the_identity_stays(
        self, controller: ControllerProcess, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        key, name = Key(), f"sleeper-{next(_NUMBERS)}"
        enrolled = enrol(address, new_token(), name, key)
        enrolled.certificate_pem = issue_at(controller, key, enrolled.device_id, days_ago=365)
        with pytest.raises(PermissionDenied, match="with a join token"):
            renew(address, enrolled, key)
        assert enrol(address, new_token(), name, key).device_id == enrolled.device_id

    def test_a_certificate_without_its_key_buys_nothing(
        self, address: str, new_token: Callable[..., JoinToken]
    ) -> None:
        enrolled = enrol(address, new_token(), f"victim-{next(_NUMBERS)}", Key())
        with pytest.raises(Unauthenticated, match="not signed by the key"):
            renew(address, enrolled, Key())

    def test_a_certificate_of_another_ca_buys_nothing(
        self, address: str, new_token: Callable[..., JoinToken], tmp_path: Path
    ) -> None:
        key = Key()
        enrolled = enrol(address, new_token(), f"victim-{next(_NUMBERS)}", key)
        foreign = Authority(tmp_path / "pki", dt.datetime.now(dt.UTC))
        enrolled.certificate_pem, _ = foreign.issue_device(
            check_request(key.request()), enrolled.device_id, "x", dt.datetime.now(dt.UTC)
        )
        with pytest.raises(Unauthenticated, match="no certificate of this controller"):
            renew(address, enrolled, key)

    def test_a_revoked_device_renews_nothing(
        self, address: str, new_token: Callable[..., JoinToken], store: Store
    ) -> None:
        key, name = Key(), f"outcast-{next(_NUMBERS)}"
        enrolled = enrol(address, new_token(), name, key)
        store.update_device(replace(store.device(name), state=DeviceState.REVOKED))
        with pytest.raises(PermissionDenied, match="revoked"):
            renew(address, enrolled, key)


class TestIdentity:
    def test_without_a_certificate_the_fleet_and_blob_ports_are_closed(
        self, controller: ControllerProcess, board: Board
    ) -> None:
        credentials = grpc.ssl_channel_credentials(board.credentials.ca_bundle_pem)
        serving = controller.serving()
        for address, method in (
            (serving.fleet_address, "/assay.v1.Fleet/Sync"),
            (serving.blobs_address, "/assay.v1.Blobs/FindMissing"),
        ):
            with raw_channel(address, credentials) as channel, pytest.raises(Unreachable):
                call(channel.unary_unary(method, bytes, bytes), b"", timeout_s=3)

    def test_a_certificate_of_another_ca_is_refused(
        self, controller: ControllerProcess, board: Board, tmp_path: Path
    ) -> None:
        foreign = Authority(tmp_path / "pki", dt.datetime.now(dt.UTC))
        forged = forged_board(board, foreign, controller)
        with pytest.raises(Unreachable):
            forged.sync()

    def test_a_device_the_store_does_not_know_is_refused(
        self, controller: ControllerProcess, board: Board
    ) -> None:
        ours = Authority(controller.home.pki, dt.datetime.now(dt.UTC))
        with pytest.raises(Unauthenticated, match="does not know device d-ghost"):
            forged_board(board, ours, controller).sync()

    def test_a_device_cannot_pose_as_the_controller(
        self, controller: ControllerProcess, board: Board
    ) -> None:
        credentials = board.credentials
        server = grpc.server(None, options=[("grpc.so_reuseport", 0)])  # type: ignore[arg-type]
        posing = grpc.ssl_server_credentials([(credentials.key_pem, credentials.certificate_pem)])
        port = server.add_secure_port("127.0.0.1:0", posing)
        server.start()
        try:
            trusting = grpc.ssl_channel_credentials(credentials.ca_bundle_pem)
            with raw_channel(f"127.0.0.1:{port}", trusting) as channel:
                stub = enrolment_pb2_grpc.EnrolmentStub(channel)
                with pytest.raises(Unreachable):
                    call(stub.Enrol, enrolment_pb2.EnrolRequest(), timeout_s=3)
        finally:
            server.stop(0)

    def test_a_revoked_device_is_cut_at_its_next_call(self, board: Board, store: Store) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        device = store.device(board.name)
        store.update_device(replace(device, state=DeviceState.REVOKED))
        calls: list[Callable[[], object]] = [
            board.sync,
            lambda: board.report(result(granted)),
            lambda: board.read(granted.runs[0].artifact.digest),
            lambda: board.write(trace(b"x"), b"x"),
        ]
        for refused in calls:
            with pytest.raises(PermissionDenied, match="revoked"):
                refused()

    def test_a_revoked_device_is_cut_while_it_waits(self, board: Board, store: Store) -> None:
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                board.sync(wait_s=1.5)
            except AssayError as error:
                outcome.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        device = store.device(board.name)
        store.update_device(replace(device, state=DeviceState.REVOKED))
        waiting.join()
        assert [type(error) for error in outcome] == [PermissionDenied]

    def test_a_revoked_key_cannot_enrol_again(
        self, address: str, new_token: Callable[..., JoinToken], store: Store
    ) -> None:
        key, name = Key(), f"outcast-{next(_NUMBERS)}"
        enrol(address, new_token(), name, key)
        store.update_device(replace(store.device(name), state=DeviceState.REVOKED))
        with pytest.raises(PermissionDenied, match="enrol it with a new key"):
            enrol(address, new_token(), name, key)

    def test_two_boards_under_one_identity_are_both_shut_out(
        self, board: Board, store: Store
    ) -> None:
        for boot_id in ("one", "two", "one"):
            board.sync(boot_id=boot_id)
        with pytest.raises(PermissionDenied, match="two boards"):
            board.sync(boot_id="two")
        assert store.device(board.name).state is DeviceState.QUARANTINED
        with pytest.raises(PermissionDenied, match="quarantined"):
            board.sync(boot_id="one")

    def test_a_board_that_only_restarts_is_no_clone(self, board: Board) -> None:
        for boot_id in ("one", "one", "two", "three", "three"):
            board.sync(boot_id=boot_id)


class TestSync:
    def test_facts_and_last_seen_reach_the_store(self, board: Board, store: Store) -> None:
        before_ns = time.time_ns()
        board.sync(boot_id="seen")
        deadline = time.monotonic() + 10
        while (device := store.device(board.name)).facts is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert device.facts.boot_id == "seen"
        assert device.last_seen_ns is not None
        assert device.last_seen_ns >= before_ns

    def test_a_round_is_granted_and_granted_again_until_it_is_accepted(
        self, board: Board, store: Store
    ) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        assert granted.fence == 1
        assert granted.lease_ns > 0
        # The reply was lost: the device still reports nothing.
        assert board.assigned() == [granted]
        assert board.assigned([granted]) == [granted]

    def test_a_device_that_takes_nothing_new_gets_nothing_new(
        self, board: Board, store: Store
    ) -> None:
        add_work(store, board)
        assert board.assigned(accepting=False) == []
        assert len(board.assigned()) == 1

    def test_a_waiting_device_hears_of_new_work_at_once(self, board: Board, store: Store) -> None:
        got: list[Round] = []
        waiting = threading.Thread(target=lambda: got.extend(board.assigned(wait_s=20)))
        waiting.start()
        wait_until_held(waiting)
        add_work(store, board)
        waiting.join(10)
        assert [r.fence for r in got] == [1]

    def test_a_wait_ends_empty_when_nothing_comes(self, board: Board) -> None:
        response = board.sync(wait_s=0.3)
        assert list(response.assignments) == []
        assert response.next_sync_in.ToNanoseconds() > 0

    def test_a_newer_call_ends_the_older_one(self, board: Board) -> None:
        older = threading.Thread(target=lambda: board.sync(wait_s=25))
        older.start()
        wait_until_held(older)
        board.sync()
        older.join(10)
        assert not older.is_alive()

    def test_a_cancelled_round_is_missing_from_the_reply_and_ends_once_it_is_let_go(
        self, board: Board, store: Store
    ) -> None:
        sweep_id = add_work(store, board, rounds=2)
        (granted,) = board.assigned()
        board.sync([granted])
        store.set_sweep_state(sweep_id, SweepState.CANCELLED)
        assert board.assigned([granted]) == []
        assert states(store, sweep_id) == [RoundState.LEASED, RoundState.CANCELLED]
        assert board.assigned() == []
        assert states(store, sweep_id) == [RoundState.CANCELLED, RoundState.CANCELLED]

    def test_a_device_that_waits_while_it_measures_hears_of_a_cancel(
        self, board: Board, store: Store
    ) -> None:
        sweep_id = add_work(store, board)
        (granted,) = board.assigned()
        got: list[list[Round]] = []
        waiting = threading.Thread(target=lambda: got.append(board.assigned([granted], wait_s=20)))
        waiting.start()
        wait_until_held(waiting)
        store.set_sweep_state(sweep_id, SweepState.CANCELLED)
        waiting.join(10)
        assert got == [[]]

    def test_a_round_the_device_lost_comes_back_with_a_higher_fence(
        self, board: Board, store: Store
    ) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        board.sync([granted])
        (again,) = board.assigned()  # its disk is new: it knows of nothing
        assert (again.round_id, again.fence) == (granted.round_id, granted.fence + 1)
        assert again.runs[0].attempt_id != granted.runs[0].attempt_id

    def test_a_measured_round_whose_lease_ran_out_is_not_granted_anew(
        self, board: Board, store: Store
    ) -> None:
        sweep_id = add_work(store, board)
        (granted,) = board.assigned()
        board.sync([granted])
        store.release_round(granted.round_id, granted.fence, 3, 0)
        assert board.assigned([granted], state=fleet_pb2.ATTEMPT_STATE_SPOOLED) == []
        assert board.report(result(granted, 0), result(granted, 1)) == ["STORED", "STORED"]
        assert states(store, sweep_id) == [RoundState.DONE]

    def test_no_common_version_is_refused_by_name(self, board: Board) -> None:
        with pytest.raises(VersionMismatch, match="versions 2 to 3, this controller 1"):
            board.sync(proto=(2, 3))

    def test_the_next_round_comes_when_the_last_is_recorded(
        self, board: Board, store: Store
    ) -> None:
        sweep_id = add_work(store, board, rounds=2)
        (first,) = board.assigned()
        board.report(result(first, 0), result(first, 1))
        (second,) = board.assigned()
        assert second.index == 1
        board.report(result(second, 0), result(second, 1))
        assert board.assigned() == []
        deadline = time.monotonic() + 20
        while store.sweep(sweep_id).state is not SweepState.DONE:
            assert time.monotonic() < deadline, "the controller never said that the sweep is done"
            time.sleep(0.1)


class TestResults:
    def test_a_replay_is_counted_once(self, board: Board, store: Store) -> None:
        sweep_id = add_work(store, board)
        (granted,) = board.assigned()
        assert board.report(result(granted)) == ["STORED"]
        assert board.report(result(granted)) == ["ALREADY_STORED"]
        (held,) = store.results(sweep_id=sweep_id)
        assert held.sha256 == reported(result(granted))[2]

    def test_another_body_is_a_conflict(self, board: Board, store: Store) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        board.report(result(granted))
        assert board.report(result(granted, note="other")) == ["CONFLICT"]
        attempts = [c.attempt_id for c in store.conflicts()]
        assert granted.runs[0].attempt_id in attempts

    def test_a_zombie_with_an_old_fence_is_superseded(self, board: Board, store: Store) -> None:
        sweep_id = add_work(store, board)
        (old,) = board.assigned()
        board.sync([old])
        board.assigned()  # lost and granted anew
        assert board.report(result(old)) == ["STORED_SUPERSEDED"]
        assert store.results(sweep_id=sweep_id) == []

    def test_another_devices_attempt_is_rejected(
        self, new_board: Callable[[], Board], store: Store
    ) -> None:
        mine, theirs = new_board(), new_board()
        add_work(store, mine)
        (granted,) = mine.assigned()
        assert theirs.report(result(granted)) == ["REJECTED"]
        assert mine.report(result(granted)) == ["STORED"]

    def test_a_wrong_hash_is_rejected_with_the_reason(self, board: Board, store: Store) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        attempt_id, seq, _, body = reported(result(granted))
        (ack,) = board.report_raw([(attempt_id, seq, "0" * 64, body)]).acks
        assert ack.status == fleet_pb2.RECORD_STATUS_REJECTED
        assert "hash" in ack.detail

    def test_acks_come_in_the_order_of_the_report(self, board: Board, store: Store) -> None:
        add_work(store, board)
        (granted,) = board.assigned()
        entries = [reported(result(granted, seq=seq)) for seq in range(1, 201)]
        acks = board.report_raw(entries).acks
        assert [ack.seq for ack in acks] == list(range(1, 201))
        assert {ack.status for ack in acks} == {fleet_pb2.RECORD_STATUS_STORED}

    def test_more_than_the_limit_is_refused_whole(self, board: Board, store: Store) -> None:
        sweep_id = add_work(store, board)
        (granted,) = board.assigned()
        with pytest.raises(BadMessage, match="201 results"):
            board.report_raw([reported(result(granted, seq=seq)) for seq in range(1, 202)])
        large = result(granted, note="x" * 600_000)
        with pytest.raises(BadMessage, match="bytes of results"):
            board.report(large, replace(large, seq=2))
        assert store.results(sweep_id=sweep_id) == []

    def test_many_devices_at_once_are_all_recorded(
        self, new_board: Callable[[], Board], store: Store
    ) -> None:
        boards = [new_board() for _ in range(6)]
        granted = []
        for one in boards:
            add_work(store, one)
            granted += one.assigned()
        statuses: list[str] = []

        def send(one: Board, round_: Round) -> None:
            for seq in range(1, 11):
                statuses.extend(one.report(result(round_, seq=seq)))

        threads = [
            threading.Thread(target=send, args=pair) for pair in zip(boards, granted, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == ["STORED"] * 60

    def test_while_much_waits_to_be_recorded_devices_are_asked_to_stay_away(
        self, new_board: Callable[[], Board], store: Store, controller: ControllerProcess
    ) -> None:
        boards = [new_board() for _ in range(3)]
        for one in boards:
            add_work(store, one)
        entries = [
            (one, [reported(result(round_, seq=seq)) for seq in range(1 + start, 201 + start)])
            for one in boards
            for round_ in one.assigned()
            for start in (0, 200, 400)
        ]
        first = entries.pop()
        other = sqlite3.connect(controller.home.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(len(entries) + 1) as threads:
            asked = [threads.submit(first[0].report_raw, first[1][:1])]
            time.sleep(0.2)  # until its commit waits for the database, and gathers no more
            asked += [threads.submit(one.report_raw, some) for one, some in entries]
            time.sleep(0.4)
            other.execute("ROLLBACK")
            other.close()
            replies = [done.result(30) for done in asked]
        assert {status_name(ack) for reply in replies for ack in reply.acks} == {"STORED"}
        assert max(reply.retry_after.ToNanoseconds() for reply in replies) > 0
        assert not first[0].report_raw(first[1][1:2]).HasField("retry_after")


class TestBlobs:
    @pytest.fixture
    def content(self, controller: ControllerProcess) -> ContentStore:
        return ContentStore(controller.home.artifacts)

    def test_a_device_reads_what_its_lease_names(
        self, board: Board, store: Store, content: ContentStore
    ) -> None:
        content.add_bytes(b"model fp32", "model/onnx")
        add_work(store, board)
        with pytest.raises(PermissionDenied, match="no lease"):
            board.read(ref("model fp32").digest)
        board.assigned()
        assert board.read(ref("model fp32").digest) == b"model fp32"

    def test_a_read_resumes_from_an_offset(
        self, board: Board, store: Store, content: ContentStore
    ) -> None:
        content.add_bytes(b"model fp32", "model/onnx")
        add_work(store, board)
        board.assigned()
        wanted = ref("model fp32").digest
        assert board.read(wanted, 6) == b"fp32"
        assert board.read(wanted, 10) == b""
        for beyond in (11, -1):
            with pytest.raises(OutOfRange, match="10 bytes"):
                board.read(wanted, beyond)

    def test_large_files_come_in_chunks(
        self, board: Board, store: Store, content: ContentStore
    ) -> None:
        data = b"0123456789abcdef" * (160 * 1024) + b"end"
        artifact = content.add_bytes(data, "model/onnx")
        round_ = queued(f"{board.name}-r", sweep_id="s-large", device_id=board.device_id)
        run = replace(round_.runs[0], artifact=artifact)
        store.add_sweep(sweep("s-large"), [], [replace(round_, runs=(run,))])
        board.assigned()
        request = blobs_pb2.ReadRequest(digest=artifact.digest)
        chunks = [message.data for message in board.blobs.Read(request, timeout=20)]
        assert b"".join(chunks) == data
        assert max(map(len, chunks)) == BLOB_CHUNK_BYTES

    def test_readers_that_stall_hold_up_nobody_else(
        self,
        new_board: Callable[[], Board],
        store: Store,
        content: ContentStore,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Else gRPC widens a reader's window until the whole file is with it, read or not.
        narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 64 << 10))
        options = (*channel.CHANNEL_OPTIONS, *narrow)
        monkeypatch.setattr(channel, "CHANNEL_OPTIONS", options)
        large = content.add_bytes(b"0123456789abcdef" * (1 << 20), "model/onnx")
        boards = [new_board() for _ in range(4)]
        for one in boards:
            round_ = queued(f"{one.name}-r", sweep_id=f"s-{one.name}", device_id=one.device_id)
            run = replace(round_.runs[0], artifact=large)
            store.add_sweep(sweep(f"s-{one.name}"), [], [replace(round_, runs=(run,))])
            one.assigned()
        request = blobs_pb2.ReadRequest(digest=large.digest)
        stalled = [
            one.blobs.Read(request, timeout=60)
            for one in boards[:3]
            for _ in range(TRANSFERS_PER_DEVICE)
        ]
        for transfer in stalled:
            next(transfer)
        assert len(boards[3].read(large.digest)) == large.size_bytes
        with pytest.raises(Unreachable, match="transfers under way"):
            boards[0].read(large.digest)
        for transfer in stalled:
            transfer.cancel()

    def test_another_devices_artifact_is_refused(
        self, new_board: Callable[[], Board], store: Store, content: ContentStore
    ) -> None:
        content.add_bytes(b"model int8", "model/onnx")
        mine, theirs = new_board(), new_board()
        add_work(store, mine)
        mine.assigned()
        assert mine.read(ref("model int8").digest) == b"model int8"
        with pytest.raises(PermissionDenied):
            theirs.read(ref("model int8").digest)

    def test_signatures_are_told_for_what_is_leased_alone_and_all_of_them(
        self, board: Board, store: Store, controller: ControllerProcess
    ) -> None:
        leased, other = ref("model fp32"), ref("model of somebody else")
        kept = Envelopes(controller.home.signatures)
        for number in range(4):
            kept.add(a_large_envelope(leased, str(number)))
        kept.add(a_large_envelope(other, "other"))
        add_work(store, board)

        def ask(*digests: str, after: str = "") -> blobs_pb2.SignaturesResponse:
            request = blobs_pb2.SignaturesRequest(digests=digests, after=after)
            return call(board.blobs.Signatures, request, timeout_s=20)

        with pytest.raises(PermissionDenied, match="no lease"):
            ask(leased.digest)
        board.assigned()
        for wanted in ([other.digest], [leased.digest, other.digest]):
            with pytest.raises(PermissionDenied, match=f"names artifact {other.digest}"):
                ask(*wanted)
        with pytest.raises(BadMessage, match="at most 1000"):
            ask(*[leased.digest] * 1_001)
        first = ask(leased.digest)
        assert (len(first.envelopes), first.more) == (3, True)
        last = digest.hex_of(digest.of_bytes(first.envelopes[-1]))
        second = ask(leased.digest, after=last)
        assert (len(second.envelopes), second.HasField("more"), second.more) == (1, True, False)
        assert len({*first.envelopes, *second.envelopes}) == 4

    def test_a_leased_artifact_that_is_gone_is_not_found(
        self, board: Board, store: Store, content: ContentStore
    ) -> None:
        add_work(store, board)
        board.assigned()
        content.remove(ref("digits").digest)
        with pytest.raises(NotFound):
            board.read(ref("digits").digest)

    @pytest.mark.parametrize("name", ["../../pki/ca.key", "sha256:XYZ", ""])
    def test_what_is_no_digest_is_refused(self, board: Board, name: str) -> None:
        with pytest.raises(BadMessage, match="sha256:<64 hex"):
            board.read(name)

    def test_a_trace_is_stored_once(self, board: Board, content: ContentStore) -> None:
        sent = trace(b"raw samples of a run")
        assert not board.write(sent, b"raw samples ", b"of a run").already_held
        assert board.write(sent, b"").already_held
        assert content.path(sent.digest).read_bytes() == b"raw samples of a run"

    def test_a_trace_that_is_not_what_it_claims_leaves_nothing(
        self, board: Board, content: ContentStore, controller: ControllerProcess
    ) -> None:
        sent = trace(b"claimed content")
        for body in (b"another content", b"short", b"claimed content and more"):
            with pytest.raises(CorruptArtifact):
                board.write(sent, body)
        assert not content.has(sent.digest)
        assert list((controller.home.artifacts / "incoming").glob("*")) == []

    def test_devices_send_traces_and_nothing_else(self, board: Board) -> None:
        with pytest.raises(BadMessage, match="devices send traces"):
            board.write(ref("a model"), b"a model")
        with pytest.raises(BadMessage, match="1 to"):
            board.write(replace(trace(b"x"), size_bytes=1 << 40), b"x")

    def test_missing_digests_are_told(self, board: Board, content: ContentStore) -> None:
        held = content.add_bytes(b"held", MEDIA_NPZ)
        wanted = [held.digest, ref("not here").digest]
        request = blobs_pb2.FindMissingRequest(digests=wanted)
        response = call(board.blobs.FindMissing, request, timeout_s=10)
        assert list(response.digests) == [wanted[1]]


def trace(data: bytes) -> ArtifactRef:
    return ArtifactRef(digest.of_bytes(data), len(data), MEDIA_NPZ)


def forged_board(board: Board, authority: Authority, controller: ControllerProcess) -> Board:
    """A board whose certificate ``authority`` gave to a device nobody enrolled."""
    key = Key()
    pem, _ = authority.issue_device(
        check_request(key.request()), "d-ghost", "ghost", dt.datetime.now(dt.UTC)
    )
    serving = controller.serving()
    enrolled = enrolment_pb2.EnrolResponse(
        device_id="d-ghost",
        name="ghost",
        certificate_pem=pem,
        ca_bundle_pem=board.credentials.ca_bundle_pem,
        fleet_address=serving.fleet_address,
        blobs_address=serving.blobs_address,
    )
    return Board(enrolled, key)


def issue_at(controller: ControllerProcess, key: Key, device_id: str, *, days_ago: int) -> bytes:
    """A certificate of this controller's that ended ``days_ago``."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(days=30 + days_ago)
    pem, _ = Authority(controller.home.pki, now).issue_device(
        check_request(key.request()), device_id, "sleeper", now
    )
    return pem


def renew(
    address: str, enrolled: enrolment_pb2.EnrolResponse, key: Key
) -> enrolment_pb2.EnrolResponse:
    """``Enrolment.Renew`` with the certificate in ``enrolled``."""
    request = enrolment_pb2.RenewRequest(
        certificate_pem=enrolled.certificate_pem, csr_pem=key.request()
    )
    with dial_enrolment(address, enrolled.ca_bundle_pem) as channel:
        return call(enrolment_pb2_grpc.EnrolmentStub(channel).Renew, request, timeout_s=10)


def wait_until_held(thread: threading.Thread) -> None:
    """Gives a call the time to reach the controller and be held there."""
    thread.join(0.5)
    assert thread.is_alive(), "the call was answered at once"


def test_addresses_of_the_services_are_told(
    address: str, new_token: Callable[..., JoinToken], controller: ControllerProcess
) -> None:
    enrolled = enrol(address, new_token(), f"told-{next(_NUMBERS)}", Key())
    serving = controller.serving()
    assert split_address(enrolled.fleet_address)[1] == serving.fleet_port
    assert split_address(enrolled.blobs_address)[1] == serving.blobs_port
