"""The wire both sides agree on: TLS, keepalive, limits, retries, and errors as gRPC statuses.

The client's half: :func:`pinned_ca` on first contact, :func:`dial_enrolment` and :func:`dial` for
channels, :func:`call` to make a call that raises the error class the server raised, and
:class:`Backoff` between attempts. The server's half: :data:`SERVER_OPTIONS` and
:func:`status_of`. Nothing here is asynchronous; channels are safe to share between threads.
"""

from __future__ import annotations

import hashlib
import ipaddress
import random
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from assay.core import errors
from assay.core.errors import AssayError, Unauthenticated, Unreachable, VersionMismatch

R = TypeVar("R")

PROTO = 1
"""The protocol version this code speaks; see ``SyncRequest.proto_min`` and ``proto_max``."""

SERVER_NAME = "controller.assay.internal"
"""The name every controller's certificate carries. Clients check for it whatever address they
dial, so that NAT, port forwarding and changed addresses do not matter; the CA is the controller's
own, so the name says no less than a host name would."""

MAX_MESSAGE_BYTES = 4 << 20
MAX_LISTING_BYTES = 256 << 20
"""What an answer of Admin may hold: thousands of devices, each with what it says of itself."""
MAX_RESULTS_PER_REPORT = 200
MAX_REPORT_BYTES = 1 << 20
BLOB_CHUNK_BYTES = 1 << 20

CODE_KEY = "assay-code"
"""Trailing metadata that carries the code of :data:`assay.core.errors.TABLE`."""

# Pings go only while a call is open: they find a NAT that forgot us in under 30 s, and a device
# that measures (no call open) sends and receives no packet. Newer gRPC waits for the answer as long
# as ping_timeout says (60 s unless set), older for keepalive_timeout.
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.ping_timeout_ms", 14_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    # Despite its name: the least time an attempt to connect is given. With less, a controller that
    # many come back to at once is never done with a handshake before its device gives up.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.ssl_target_name_override", SERVER_NAME),
    # One connection per channel object, so that two identities never share one.
    ("grpc.use_local_subchannel_pool", 1),
)

# The reconnect trap: gRPC core sheds calls it has not accepted yet with CANCELLED or INTERNAL
# once about 1,000 wait; a fleet that comes back after a restart is more than that.
SERVER_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A second server on the same port must fail instead of sharing the connections.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device shows and trusts: PEM bytes; the key stays on the device."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    ca_bundle_pem: bytes


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` in two (IPv6 hosts in brackets); :class:`UsageError` where it is neither."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise errors.UsageError(f"{address!r} is not an address: write host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of :func:`split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_address(address: str, dialled: str) -> str:
    """``address`` as the controller named it; where it left the host out (it listens on every
    interface and cannot know its name) the host of ``dialled``, the address that worked."""
    host, port = split_address(address)
    return join_address(host or split_address(dialled)[0], port)


def pinned_ca(host: str, port: int, ca_sha256: str, timeout_s: float = 10.0) -> bytes:
    """The CA certificate (PEM) the server shows, if its sha256 is the one the join token names.

    :class:`Unauthenticated` where the chain holds no such certificate: someone else answered.
    :class:`Unreachable` where nobody does. Nothing is sent beyond the TLS handshake.
    """
    for certificate in _shown_chain(host, port, timeout_s):
        if hashlib.sha256(certificate).hexdigest() == ca_sha256:
            return ssl.DER_cert_to_PEM_cert(certificate).encode()
    raise Unauthenticated(
        f"the server at {join_address(host, port)} is not the controller that made this token: "
        "its certificates do not have the token's fingerprint; check the address, or get a new "
        "token if the controller was set up anew"
    )


def dial_enrolment(address: str, ca_pem: bytes) -> grpc.Channel:
    """A channel to the Enrolment service: the server is authenticated, the client has no identity
    yet. Lazy: connects on the first call. The caller closes it."""
    return _channel(address, grpc.ssl_channel_credentials(root_certificates=ca_pem))


def dial(
    address: str, credentials: Credentials, *, most_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.Channel:
    """A mutually authenticated channel to Fleet, Blobs or Admin, for answers of ``most_bytes``.
    Lazy; the caller closes it."""
    return _channel(
        address,
        grpc.ssl_channel_credentials(
            root_certificates=credentials.ca_bundle_pem,
            private_key=credentials.key_pem,
            certificate_chain=credentials.certificate_pem,
        ),
        with_most_bytes(CHANNEL_OPTIONS, received=most_bytes),
    )


def with_most_bytes(
    options: Sequence[tuple[str, Any]],
    *,
    sent: int = MAX_MESSAGE_BYTES,
    received: int = MAX_MESSAGE_BYTES,
) -> tuple[tuple[str, Any], ...]:
    """The same options with other limits of a message."""
    limits = {
        "grpc.max_send_message_length": sent,
        "grpc.max_receive_message_length": received,
    }
    return tuple({**dict(options), **limits}.items())


def call(rpc: Callable[..., R], request: Any, *, timeout_s: float) -> R:
    """One unary call (``call(stub.Sync, request, timeout_s=40)``); raises :class:`AssayError`."""
    try:
        return rpc(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise error_of(error) from error


def stream(rpc: Callable[..., Iterator[R]], request: Any, *, timeout_s: float) -> Iterator[R]:
    """One server-streaming call; raises :class:`AssayError` while it is iterated."""
    try:
        yield from rpc(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise error_of(error) from error


def error_of(error: grpc.RpcError) -> AssayError:
    """The error the server raised, rebuilt from the code in the trailing metadata.

    Without one the status did not come from a controller but from the network, from gRPC itself
    or from something in between (a shed call is CANCELLED or INTERNAL, a captive portal UNKNOWN):
    that is :class:`Unreachable`, which is worth another try.
    """
    status: grpc.StatusCode = error.code()
    message = error.details() or status.name
    code = code_in(error)
    if code:
        return _CLASSES.get(code, AssayError)(message)
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return VersionMismatch(f"the controller does not know this call; upgrade it ({message})")
    return Unreachable(f"{status.name}: {message}")


def code_in(error: grpc.RpcError) -> str:
    """The code that the server named; empty where it was not the server that ended the call."""
    trailing: Any = error.trailing_metadata()
    for key, value in trailing or ():
        if key == CODE_KEY:
            return value.decode() if isinstance(value, bytes) else str(value)
    return ""


def status_of(error: AssayError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """``error`` as a gRPC status, its message, and the trailing metadata with its code."""
    return grpc.StatusCode[error.meaning.grpc_status], str(error), ((CODE_KEY, error.code),)


@dataclass(slots=True)
class Backoff:
    """Waits between attempts: exponential with full jitter, so that a fleet does not march in
    step. ``rng`` is given so that tests own the dice."""

    first_s: float = 0.5
    most_s: float = 30.0
    rng: random.Random = field(default_factory=random.Random)
    _failures: int = 0

    def next_s(self) -> float:
        """How long to wait after one more failure."""
        ceiling = min(self.most_s, self.first_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self.rng.uniform(self.first_s / 2, ceiling) if ceiling > self.first_s else ceiling

    def succeeded(self) -> None:
        """Starts over."""
        self._failures = 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _channel(
    address: str,
    credentials: grpc.ChannelCredentials,
    options: tuple[tuple[str, Any], ...] = CHANNEL_OPTIONS,
) -> grpc.Channel:
    if is_loopback(split_address(address)[0]):
        # A proxy named in the environment has no business between two processes of one machine.
        options = (*options, ("grpc.enable_http_proxy", 0))
    return grpc.secure_channel(address, credentials, options=options)


def _shown_chain(host: str, port: int, timeout_s: float) -> list[bytes]:
    """The certificates (DER) the server sends, unverified: the caller compares their hashes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=SERVER_NAME) as tls,
        ):
            return _unverified_chain(tls)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(
            f"no controller answers at {join_address(host, port)}: {error}; check the address, "
            "and that `assay controller serve` runs there"
        ) from error


def _unverified_chain(tls: ssl.SSLSocket) -> list[bytes]:
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:  # Python 3.13 and later
        return list(public())
    inner = tls._sslobj  # type: ignore[attr-defined]
    der = 2  # _ssl.ENCODING_DER; the chain has no public accessor before 3.13
    return [certificate.public_bytes(der) for certificate in inner.get_unverified_chain() or ()]


def _classes() -> dict[str, type[AssayError]]:
    found: dict[str, type[AssayError]] = {}
    pending: list[type[AssayError]] = [AssayError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    # A list of problems does not travel; the message does.
    return found | {errors.SpecError.code: errors.UsageError}


_CLASSES = _classes()
