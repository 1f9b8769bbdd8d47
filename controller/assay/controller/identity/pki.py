"""The controller's own certificate authority: ECDSA P-256, one directory, files readable by their
owner alone. With :mod:`assay.controller.identity.certificates` the only user of ``cryptography``.

A server certificate carries :data:`assay.core.channel.SERVER_NAME`, a device certificate the URI
``assay://device/<id>``.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import os
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from assay.controller.identity.certificates import (
    SERVER_DAYS,
    DeviceCertificate,
    DeviceRequest,
    Issuer,
    authority_certificate,
    device_certificate,
    general_name,
    read_device,
    server_certificate,
)
from assay.core.channel import SERVER_NAME
from assay.core.errors import CheckFailed

_NAMES_ALWAYS = (SERVER_NAME, "localhost", "127.0.0.1", "::1")

_DER = serialization.Encoding.DER
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What the gRPC servers show: PEM; the chain ends with the CA, so that a join token's pin can
    be checked on first contact."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    ca_pem: bytes


class Authority:
    """The CA in ``directory``: opened where it is there, else created."""

    def __init__(self, directory: Path, now: dt.datetime) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        with self._locked():
            if not self._ca_path.exists():
                _create_ca(self._ca_key_path, self._ca_path, now)
        certificate = x509.load_pem_x509_certificate(self._ca_path.read_bytes())
        self._issuer = Issuer(certificate, _load_key(self._ca_key_path))

    @property
    def certificate_pem(self) -> bytes:
        """What devices trust."""
        return self._issuer.certificate.public_bytes(_PEM)

    @property
    def sha256(self) -> str:
        """The pin that join tokens carry: hex over the certificate's DER."""
        return hashlib.sha256(self._issuer.certificate.public_bytes(_DER)).hexdigest()

    @property
    def not_after(self) -> dt.datetime:
        """When the CA ends."""
        return self._issuer.certificate.not_valid_after_utc

    @property
    def server_not_after(self) -> dt.datetime | None:
        """When the server's certificate ends; None before the first ``serve``."""
        if not self._server_path.exists():
            return None
        return _split_server(self._server_path)[1].not_valid_after_utc

    def server_identity(self, names: Sequence[str], now: dt.datetime) -> ServerIdentity:
        """The server's certificate, made anew when a name is missing or a third of its life is
        left. ``names`` (host names and IP addresses) are added to the ones it always carries."""
        wanted = tuple(dict.fromkeys((*_NAMES_ALWAYS, socket.gethostname(), *names)))
        with self._locked():
            if not self._server_path.exists() or not self._still_good(wanted, now):
                key = ec.generate_private_key(ec.SECP256R1())
                certificate = server_certificate(self._issuer, key.public_key(), wanted, now)
                # One file, so that key and certificate always belong together.
                both = _key_pem(key) + certificate.public_bytes(_PEM)
                _write_private(self._server_path, both)
        return self.current_server_identity()

    def current_server_identity(self) -> ServerIdentity:
        """What :meth:`server_identity` made last; for another process of the same controller."""
        key_pem, certificate = _split_server(self._server_path)
        chain = certificate.public_bytes(_PEM) + self.certificate_pem
        return ServerIdentity(key_pem, chain, self.certificate_pem)

    def issue_device(
        self, request: DeviceRequest, device_id: str, name: str, now: dt.datetime
    ) -> tuple[bytes, dt.datetime]:
        """A client certificate (PEM) for ``device_id``, and when it ends."""
        made = device_certificate(self._issuer, request.public_key, device_id, name, now)
        return made.public_bytes(_PEM), made.not_valid_after_utc

    def read_device(self, certificate_pem: bytes) -> DeviceCertificate:
        """What a device's certificate says, expired or not; :class:`Unauthenticated` unless this
        CA signed it."""
        return read_device(self._issuer.certificate, certificate_pem)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two programs that start at once must not each make a CA."""
        with (self._directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @property
    def _ca_path(self) -> Path:
        return self._directory / "ca.crt"

    @property
    def _ca_key_path(self) -> Path:
        return self._directory / "ca.key"

    @property
    def _server_path(self) -> Path:
        return self._directory / "server.pem"

    def _still_good(self, wanted: Collection[str], now: dt.datetime) -> bool:
        _, certificate = _split_server(self._server_path)
        if certificate.not_valid_after_utc - now < dt.timedelta(days=SERVER_DAYS / 3):
            return False
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {general_name(name) for name in wanted} <= set(held)


def _create_ca(key_path: Path, path: Path, now: dt.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority_certificate(key, now)
    # The certificate last: where it is there, so is its key.
    _write_private(key_path, _key_pem(key))
    _write_private(path, certificate.public_bytes(_PEM))


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _split_server(path: Path) -> tuple[bytes, x509.Certificate]:
    key_pem, mark, certificate_pem = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    return key_pem, x509.load_pem_x509_certificate(mark + certificate_pem)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise CheckFailed(
            f"{path}: the CA's key cannot be read ({error}); restore it from a backup of this "
            "directory: without it no device can be enrolled"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CheckFailed(f"{path} does not hold an ECDSA key")
    return key


def _write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    partial = path.with_suffix(path.suffix + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
