"""The wire both sides agree on: addresses, retries, and errors that survive the trip."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from assay.core import errors
from assay.core.channel import (
    CHANNEL_OPTIONS,
    SERVER_OPTIONS,
    Backoff,
    call,
    error_of,
    join_address,
    pinned_ca,
    reachable_address,
    split_address,
    status_of,
)
from assay.core.errors import AssayError, Unreachable, UsageError, VersionMismatch


class Failed(grpc.RpcError):
    """A failed call as grpc shows it."""

    def __init__(
        self, status: grpc.StatusCode, details: str | None, trailing: object = None
    ) -> None:
        self._values = status, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._values[0]

    def details(self) -> str | None:
        return self._values[1]

    def trailing_metadata(self) -> object:
        return self._values[2]


def every_class() -> list[type[AssayError]]:
    found: list[type[AssayError]] = [AssayError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.code)
def test_every_error_comes_out_as_it_went_in(cls: type[AssayError]) -> None:
    raised = errors.SpecError("f", ["wrong"]) if cls is errors.SpecError else cls("what and where")
    status, message, trailing = status_of(raised)
    rebuilt = error_of(Failed(status, message, trailing))
    wanted = UsageError if cls is errors.SpecError else cls
    assert type(rebuilt) is wanted
    assert str(rebuilt) == str(raised)


def test_every_code_of_the_table_belongs_to_a_class() -> None:
    assert {cls.code for cls in every_class()} == set(errors.TABLE)


@pytest.mark.parametrize("name", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"])
def test_what_did_not_come_from_a_controller_is_worth_another_try(name: str) -> None:
    rebuilt = error_of(Failed(grpc.StatusCode[name], "shed"))
    assert type(rebuilt) is Unreachable
    assert rebuilt.meaning.retry
    assert name in str(rebuilt)


def test_a_call_the_controller_does_not_know_asks_for_an_upgrade() -> None:
    rebuilt = error_of(Failed(grpc.StatusCode.UNIMPLEMENTED, None))
    assert type(rebuilt) is VersionMismatch


def test_a_code_of_a_newer_controller_is_still_an_error() -> None:
    failed = Failed(grpc.StatusCode.ABORTED, "news", (("assay-code", "invented_later"),))
    assert type(error_of(failed)) is AssayError


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("bench:7400", ("bench", 7400)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:65535", ("::1", 65535)),
        (":7401", ("", 7401)),
    ],
)
def test_addresses_come_apart_and_together(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["bench", "bench:", "bench:x", "bench:0", "bench:65536", ""])
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="host:port"):
        split_address(text)


def test_an_address_without_a_host_is_the_host_that_was_dialled() -> None:
    assert reachable_address(":7401", "bench.example:7400") == "bench.example:7401"
    assert reachable_address("other:7401", "bench.example:7400") == "other:7401"
    assert reachable_address(":7401", "[fe80::1]:7400") == "[fe80::1]:7401"


def test_waits_grow_up_to_a_ceiling_and_start_over() -> None:
    backoff = Backoff(first_s=0.5, most_s=8.0, rng=random.Random(3))
    waits = [backoff.next_s() for _ in range(200)]
    assert waits[0] == 0.5
    assert max(waits[:3]) <= 2.0
    assert 4.0 < max(waits) <= 8.0
    assert min(waits) >= 0.25
    backoff.succeeded()
    assert backoff.next_s() == 0.5


def test_two_devices_do_not_wait_alike() -> None:
    one, other = Backoff(rng=random.Random(1)), Backoff(rng=random.Random(2))
    assert [one.next_s() for _ in range(5)] != [other.next_s() for _ in range(5)]


def test_a_quiet_device_sends_no_pings() -> None:
    for options in (dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)):
        assert options["grpc.keepalive_permit_without_calls"] == 0


def test_a_fleet_that_comes_back_at_once_is_more_than_what_is_shed_unless_told() -> None:
    options = dict(SERVER_OPTIONS)
    # gRPC sheds at random from the first on, and all from the second (1,000 and 3,000 unless told).
    soft = options["grpc.server.max_pending_requests"]
    assert 10_000 < soft < options["grpc.server.max_pending_requests_hard_limit"]


def test_a_dead_path_is_noticed_within_half_a_minute() -> None:
    options = dict(CHANNEL_OPTIONS)
    for answer in ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms"):
        assert options["grpc.keepalive_time_ms"] + options[answer] < 30_000


@pytest.fixture
def captive_portal() -> Iterator[int]:
    """A port where something answers every connection with HTML."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(1000)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>login")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_captive_portal_is_not_taken_for_a_controller(captive_portal: int) -> None:
    with pytest.raises(Unreachable, match="no controller answers"):
        pinned_ca("127.0.0.1", captive_portal, "0" * 64)
    target = f"127.0.0.1:{captive_portal}"
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        sync = channel.unary_unary("/assay.v1.Fleet/Sync", bytes, bytes)
        with pytest.raises(Unreachable):
            call(sync, b"", timeout_s=2)


def test_nobody_at_the_address_is_unreachable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(Unreachable, match="check the address"):
            pinned_ca("127.0.0.1", reserved.getsockname()[1], "0" * 64, timeout_s=2)


def test_a_call_raises_the_class_the_server_raised() -> None:
    def refuse(_request: bytes, context: grpc.ServicerContext) -> bytes:
        status, message, trailing = status_of(errors.DiskFull("no room in the inn"))
        context.set_trailing_metadata(trailing)
        context.abort(status, message)

    handler = grpc.method_handlers_generic_handler(
        "t.T", {"Go": grpc.unary_unary_rpc_method_handler(refuse)}
    )
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        options = [("grpc.enable_http_proxy", 0)]
        with (
            grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
            pytest.raises(errors.DiskFull, match="no room in the inn"),
        ):
            call(channel.unary_unary("/t.T/Go"), b"", timeout_s=5)
        server.stop(0).wait()
