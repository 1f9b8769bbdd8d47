"""What a hostile device, or somebody without any certificate, tries on a real controller."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from assay.controller.home import Home
from assay.controller.identity.enrol import create_token
from assay.controller.records import RoundState
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.cas import ContentStore
from assay.core.channel import call, dial_enrolment, stream
from assay.core.errors import AssayError, BadMessage, PermissionDenied, Unreachable
from assay.core.model import MEDIA_ONNX
from assay.v1 import blobs_pb2, device_pb2, enrolment_pb2, enrolment_pb2_grpc, fleet_pb2
from tests.agent_process import eventually
from tests.plane import queued, reported, result, sweep
from tests.plane_client import Board, ControllerProcess, Key, controller_process, enrol

# Needs no root, but more time than `make test` has.
pytestmark = pytest.mark.system

_NUMBERS = itertools.count()
_MIB = 1 << 20
_SILENT = 300


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    with controller_process(Home(tmp_path_factory.mktemp("hostile") / "home")) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def store(controller: ControllerProcess) -> Iterator[Store]:
    opened = open_store(controller.home)
    yield opened
    opened.close()


@pytest.fixture
def new_board(controller: ControllerProcess, store: Store) -> Iterator[Callable[[], Board]]:
    with ExitStack() as stack:

        def new() -> Board:
            key, name = Key(), f"board-{next(_NUMBERS)}"
            token = create_token(controller.home, store)
            enrolled = enrol(controller.serving().enrolment_address, token, name, key)
            return stack.enter_context(Board(enrolled, key))

        yield new


@pytest.fixture
def board(new_board: Callable[[], Board]) -> Board:
    return new_board()


def give_work(store: Store, board: Board, *artifacts: object) -> None:
    """A round for this board, of runs with these artifacts where they are given."""
    waiting = queued(f"{board.name}-r", device_id=board.device_id, sweep_id=f"s-{board.name}")
    if artifacts:
        runs = tuple(
            replace(run, artifact=ref, golden=None)  # type: ignore[arg-type]
            for run, ref in zip(waiting.runs, artifacts, strict=False)
        )
        waiting = replace(waiting, runs=runs)
    store.add_sweep(sweep(f"s-{board.name}"), [], [waiting])


def facts(**changes: object) -> device_pb2.DeviceFacts:
    made = device_pb2.DeviceFacts(board="b", device_class="x86_64", boot_id="boot-1")
    made.cpu.model = "c"
    made.MergeFrom(device_pb2.DeviceFacts(**changes))  # type: ignore[arg-type]
    return made


def say(board: Board, said: device_pb2.DeviceFacts) -> None:
    """A Sync with these facts."""
    request = fleet_pb2.SyncRequest(proto_min=1, proto_max=1, device=said)
    call(board.fleet.Sync, request, timeout_s=10)


class TestFacts:
    @pytest.mark.parametrize("said", ["x" * 200, 'rpi5",up="1', "rpi5\n", "a b"])
    def test_a_class_that_is_no_plain_word_is_refused(self, board: Board, said: str) -> None:
        with pytest.raises(BadMessage, match=r"device.device_class"):
            say(board, facts(device_class=said))
        say(board, facts())

    def test_more_than_a_board_can_have_to_say_is_refused(self, board: Board) -> None:
        with pytest.raises(BadMessage, match="bytes of facts"):
            say(board, facts(board="x" * 100_000))
        said = facts()
        for index in range(1_000):
            said.samplers.add(name=f"s{index}", unit="watts")
        with pytest.raises(BadMessage, match=r"device.samplers: 1000 of them"):
            say(board, said)
        say(board, facts())

    def test_what_a_device_says_cannot_move_a_cursor(
        self, controller: ControllerProcess, store: Store, board: Board
    ) -> None:
        said = facts(
            kernel="6.1\x1b]0;owned\x07", os="Debian\nforged\x9b2J", capabilities=["\x1b[2J"]
        )
        said.cpu.flags.append("\x1b[2J")
        say(board, said)
        eventually(lambda: store.device(board.name).facts, "the device's facts")
        kept = store.device(board.name).facts
        assert kept is not None
        assert (kept.kernel, kept.os) == ("6.1\ufffd]0;owned\ufffd", "Debian\ufffdforged\ufffd2J")
        assert (kept.cpu.flags, kept.capabilities) == (("\ufffd[2J",), ("\ufffd[2J",))


class TestResults:
    def test_an_attempt_holds_no_more_than_so_many_bytes(self, store: Store, board: Board) -> None:
        give_work(store, board)
        (granted,) = board.assigned()
        large = [result(granted, seq=seq, note="x" * 3_900_000) for seq in range(1, 7)]
        statuses = [board.report(each)[0] for each in large]
        assert statuses == ["STORED"] * 4 + ["REJECTED"] * 2
        ack = board.report_raw([reported(large[-1])]).acks[0]
        assert "results already" in ack.detail
        # Its other attempt is not held up, and the round ends.
        assert board.report(result(granted, 1)) == ["STORED"]
        assert store.round(granted.round_id).state is RoundState.DONE

    def test_only_so_many_conflicts_of_an_attempt_are_kept(
        self, store: Store, board: Board
    ) -> None:
        give_work(store, board)
        (granted,) = board.assigned()
        before = len(store.conflicts())
        bodies = [result(granted, note=f"another {index}") for index in range(150)]
        statuses = board.report(*bodies)
        assert statuses == ["STORED"] + ["CONFLICT"] * 149
        assert 0 < len(store.conflicts()) - before <= 20


class TestArtifacts:
    def test_a_patch_to_what_was_never_leased_is_refused(
        self, controller: ControllerProcess, store: Store, new_board: Callable[[], Board]
    ) -> None:
        blobs = ContentStore(controller.home.artifacts)
        secret = bytes(range(256)) * 400
        base = blobs.add_bytes(secret, MEDIA_ONNX)
        target = blobs.add_bytes(secret[:-1] + b"!", MEDIA_ONNX)
        owner, curious = new_board(), new_board()
        give_work(store, owner, base, target)
        give_work(store, curious, target)
        assert owner.assigned() and curious.assigned()
        wish = blobs_pb2.OfferRequest(
            digest=target.digest,
            encodings=[blobs_pb2.ENCODING_ZSTD_PATCH],
            bases=[base.digest],
            memory_bytes=1 << 30,
        )
        offer = call(owner.blobs.Offer, wish, timeout_s=20)
        assert offer.encoding == blobs_pb2.ENCODING_ZSTD_PATCH
        assert call(curious.blobs.Offer, wish, timeout_s=20).base == ""
        read = blobs_pb2.ReadRequest(
            digest=target.digest, encoding=offer.encoding, base=base.digest
        )
        assert list(stream(owner.blobs.Read, read, timeout_s=20))
        with pytest.raises(PermissionDenied, match=base.digest):
            list(stream(curious.blobs.Read, read, timeout_s=20))

    def test_too_much_asked_at_once_is_refused(self, board: Board) -> None:
        asked = blobs_pb2.FindMissingRequest(digests=[f"sha256:{n:064x}" for n in range(1_001)])
        with pytest.raises(BadMessage, match="at most 1000"):
            call(board.blobs.FindMissing, asked, timeout_s=10)


class TestStrangers:
    def test_silent_connections_hold_up_no_enrolment(
        self, controller: ControllerProcess, new_board: Callable[[], Board]
    ) -> None:
        host, _, port = controller.serving().enrolment_address.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with ExitStack() as stack:
            for index in range(_SILENT):
                plain = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
                if index % 10 == 0:
                    stack.enter_context(context.wrap_socket(plain))
                elif index % 10 == 1:
                    plain.sendall(b"\x16\x03\x01")  # the start of a handshake that never goes on
            board = new_board()
            assert board.sync().proto == 1

    def test_a_silent_connection_is_hung_up(self, controller: ControllerProcess) -> None:
        from assay.controller.server.process import ENROLMENT_OPTIONS

        options = dict(ENROLMENT_OPTIONS)
        assert options["grpc.server_handshake_timeout_ms"] <= 20_000
        assert options["grpc.max_connection_idle_ms"] <= 120_000
        assert options["grpc.max_connection_age_ms"] <= 600_000

    def test_a_message_beyond_the_limit_ends_its_call_alone(
        self, controller: ControllerProcess, board: Board
    ) -> None:
        address = controller.serving().enrolment_address
        trusted = board.credentials.ca_bundle_pem
        options = [("grpc.ssl_target_name_override", "controller.assay.internal")]
        credentials = grpc.ssl_channel_credentials(trusted)
        huge = enrolment_pb2.EnrolRequest(token="x", csr_pem=bytes(8 * _MIB), name="x")
        with (
            grpc.secure_channel(address, credentials, options=options) as channel,
            pytest.raises(Unreachable, match="RESOURCE_EXHAUSTED"),
        ):
            call(enrolment_pb2_grpc.EnrolmentStub(channel).Enrol, huge, timeout_s=20)
        assert board.sync().proto == 1

    @pytest.mark.parametrize("garbage", [b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b""])
    def test_bytes_that_are_no_message_end_their_call_alone(
        self, controller: ControllerProcess, board: Board, garbage: bytes
    ) -> None:
        with dial_enrolment(
            controller.serving().enrolment_address, board.credentials.ca_bundle_pem
        ) as channel:
            raw: Any = channel.unary_unary("/assay.v1.Enrolment/Enrol")
            with pytest.raises(AssayError):
                call(raw, garbage, timeout_s=10)
        assert board.sync().proto == 1

    def test_nobody_forges_a_line_of_the_log(
        self, controller: ControllerProcess, store: Store, board: Board
    ) -> None:
        forged = "x\n2026-01-01T00:00:00Z [error] forged \x1b[2J\x1b]0;owned\x07\r"
        address = controller.serving().enrolment_address
        with dial_enrolment(address, board.credentials.ca_bundle_pem) as channel:
            for token in (str(create_token(controller.home, store)), forged):
                request = enrolment_pb2.EnrolRequest(
                    token=token, csr_pem=Key().request(forged[:40]), name=forged
                )
                with pytest.raises(AssayError):
                    call(enrolment_pb2_grpc.EnrolmentStub(channel).Enrol, request, timeout_s=10)
        with pytest.raises(BadMessage):
            board.read(forged)
        give_work(store, board)
        (granted,) = board.assigned()
        board.report(result(granted, note=forged))
        board.report_raw([(forged, 1, forged, b"")])
        time.sleep(0.1)
        log = controller.log.read_bytes()
        assert b"\x1b" not in log and b"\x07" not in log and b"\r" not in log
        assert not re.search(rb"^2026-01-01T00:00:00Z", log, re.MULTILINE)


def test_it_may_hold_as_many_connections_as_the_system_lets_it(
    controller: ControllerProcess,
) -> None:
    limits = Path(f"/proc/{controller.serving().pid}/limits").read_text()
    found = re.search(r"^Max open files\s+(\d+)\s+(\d+)", limits, re.MULTILINE)
    assert found is not None and found[1] == found[2]
