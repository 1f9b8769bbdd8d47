"""Binding ports: what to say when one is taken."""

from __future__ import annotations

import errno
import socket
from typing import Any

import grpc

from assay.controller.identity.pki import ServerIdentity
from assay.core.channel import join_address
from assay.core.errors import PortInUse, UsageError


def server_credentials(identity: ServerIdentity, *, ask_client: bool) -> grpc.ServerCredentials:
    """TLS for a server; with ``ask_client`` only certificates of our own CA get in."""
    return grpc.ssl_server_credentials(
        [(identity.key_pem, identity.chain_pem)],
        root_certificates=identity.ca_pem if ask_client else None,
        require_client_auth=ask_client,
    )


def listen(
    server: Any, host: str, port: int, credentials: grpc.ServerCredentials, *, option: str
) -> int:
    """Makes a gRPC server (sync or aio) listen; returns the port, chosen freely where it was 0.

    :class:`PortInUse` names the port and the command-line ``option`` that changes it.
    """
    check_free(host, port, option=option)
    address = join_address(host, port)
    try:
        bound = int(server.add_secure_port(address, credentials))
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise _taken(host, port, option)
    return bound


def check_free(host: str, port: int, *, option: str) -> None:
    """Raises :class:`PortInUse` where ``port`` is taken, :class:`UsageError` where ``host`` is no
    address of this machine."""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _taken(host, port, option) from None
        raise UsageError(
            f"cannot listen on {join_address(host, port)}: {error.strerror or error}; give an "
            f"address of this machine with --host and a port you may use with {option}"
        ) from error


def is_free(host: str, port: int) -> bool:
    """Whether ``port`` could be listened on."""
    try:
        check_free(host, port, option="")
    except PortInUse:
        return False
    return True


def _taken(host: str, port: int, option: str) -> PortInUse:
    return PortInUse(
        f"port {port} on {host} is in use by another program; stop it, or choose another port "
        f"with {option} (0 takes any free one)"
    )
