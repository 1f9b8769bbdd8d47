"""The controller's own certificate authority: ECDSA P-256, one directory, files readable by their
owner alone. With :mod:`assay.controller.identity.certificates` the only user of ``cryptography``.

A server certificate carries :data:`assay.core.channel.SERVER_NAME`, a device certificate the URI
``assay://device/<id>``, an operator's ``assay://operator/<name>/<certificate id>``.

While a CA is being replaced (:meth:`Authority.rotate`) there are two: the new one signs devices and
operators, the former one goes on signing the server, since it is all that devices trust which have
not renewed yet; both are trusted.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import hashlib
import os
import secrets
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from assay.controller.identity.certificates import (
    BACKDATED_SERVER,
    SERVER_DAYS,
    DeviceCertificate,
    DeviceRequest,
    Issuer,
    device_certificate,
    general_name,
    operator_certificate,
    read_device,
    server_certificate,
)
from assay.controller.identity.keyfiles import (
    ca_number,
    create_ca,
    key_pem,
    load_issuer,
    new_key,
    next_path,
    split_server,
    write_private,
)
from assay.core.channel import SERVER_NAME
from assay.core.errors import AlreadyExists, NotFound

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


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """What an operator carries away: key, certificate and CA bundle in one PEM file."""

    identity_pem: bytes = field(repr=False)
    certificate_id: str
    not_after: dt.datetime


class Authority:
    """The CA in ``directory``: opened where it is there, else created."""

    def __init__(self, directory: Path, now: dt.datetime) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        with self._locked():
            self._finish_interrupted()
            if not self._ca_path.exists():
                create_ca(self._ca_key_path, self._ca_path, now)
        self._load()

    @property
    def certificate_pem(self) -> bytes:
        """What devices trust: the CA, and the former one while it is being replaced."""
        return b"".join(issuer.certificate.public_bytes(_PEM) for issuer in self._issuers)

    @property
    def sha256(self) -> str:
        """The pin that join tokens carry: hex over the DER of the CA that signs the server."""
        return hashlib.sha256(self._server_issuer.certificate.public_bytes(_DER)).hexdigest()

    @property
    def not_after(self) -> dt.datetime:
        """When the CA ends."""
        return self._issuer.certificate.not_valid_after_utc

    @property
    def certificates(self) -> list[tuple[str, x509.Certificate]]:
        """Every certificate of the controller's own, with what it is."""
        named = list(zip(("CA", "former CA"), self._issuers, strict=False))
        found = [(what, issuer.certificate) for what, issuer in named]
        if self._server_path.exists():
            found.append(("server", split_server(self._server_path)[1]))
        return found

    @property
    def rotated_at(self) -> dt.datetime | None:
        """Since when the CA is being replaced; None where it is not."""
        if self._former is None:
            return None
        return self._issuer.certificate.not_valid_before_utc + BACKDATED_SERVER

    def rotate(self, now: dt.datetime) -> None:
        """Begins to replace the CA; no controller may be running. :class:`AlreadyExists` where
        that has begun already."""
        with self._locked():
            if self._former is not None:
                raise AlreadyExists("the CA is being replaced already; finish that first")
            number = ca_number(self._issuer.certificate) + 1
            next_key, next_ca = next_path(self._ca_key_path), next_path(self._ca_path)
            create_ca(next_key, next_ca, now, number)
            write_private(self._former_key_path, self._ca_key_path.read_bytes())
            write_private(self._former_path, self._ca_path.read_bytes())
            os.replace(next_key, self._ca_key_path)
            os.replace(next_ca, self._ca_path)
        self._load()

    def finish_rotation(self) -> None:
        """The former CA is trusted no more, and the server's certificate is made anew at the next
        start. :class:`NotFound` where none is being replaced."""
        with self._locked():
            if self._former is None:
                raise NotFound("no CA is being replaced; `assay pki rotate` begins that")
            self._former_path.unlink()
            self._former_key_path.unlink()
        self._load()

    @property
    def server_not_after(self) -> dt.datetime | None:
        """When the server's certificate ends; None before the first ``serve``."""
        if not self._server_path.exists():
            return None
        return split_server(self._server_path)[1].not_valid_after_utc

    def server_identity(self, names: Sequence[str], now: dt.datetime) -> ServerIdentity:
        """The server's certificate, made anew when a name is missing or a third of its life is
        left. ``names`` (host names and IP addresses) are added to the ones it always carries."""
        wanted = tuple(dict.fromkeys((*_NAMES_ALWAYS, socket.gethostname(), *names)))
        with self._locked():
            if not self._server_path.exists() or not self._still_good(wanted, now):
                key = new_key()
                certificate = server_certificate(self._server_issuer, key.public_key(), wanted, now)
                # One file, so that key and certificate always belong together.
                both = key_pem(key) + certificate.public_bytes(_PEM)
                write_private(self._server_path, both)
        return self.current_server_identity()

    def current_server_identity(self) -> ServerIdentity:
        """What :meth:`server_identity` made last; for another process of the same controller."""
        key_pem, certificate = split_server(self._server_path)
        chain = certificate.public_bytes(_PEM) + self._server_issuer.certificate.public_bytes(_PEM)
        return ServerIdentity(key_pem, chain, self.certificate_pem)

    def issue_device(
        self, request: DeviceRequest, device_id: str, name: str, now: dt.datetime
    ) -> tuple[bytes, dt.datetime]:
        """A client certificate (PEM) for ``device_id``, and when it ends."""
        made = device_certificate(self._issuer, request.public_key, device_id, name, now)
        return made.public_bytes(_PEM), made.not_valid_after_utc

    def issue_operator(self, name: str, days: int, now: dt.datetime) -> OperatorIdentity:
        """A key and a certificate for an operator, good for ``days``."""
        key, certificate_id = new_key(), secrets.token_hex(8)
        end = now.replace(microsecond=0) + dt.timedelta(days=days)
        made = operator_certificate(self._issuer, key.public_key(), name, certificate_id, end)
        pem = key_pem(key) + made.public_bytes(_PEM) + self.certificate_pem
        return OperatorIdentity(pem, certificate_id, end)

    def read_device(self, certificate_pem: bytes) -> DeviceCertificate:
        """What a device's certificate says, expired or not; :class:`Unauthenticated` unless this
        CA (or the former one) signed it."""
        return read_device([issuer.certificate for issuer in self._issuers], certificate_pem)

    @property
    def _issuers(self) -> list[Issuer]:
        return [self._issuer] if self._former is None else [self._issuer, self._former]

    @property
    def _server_issuer(self) -> Issuer:
        return self._former or self._issuer

    def _load(self) -> None:
        self._issuer = load_issuer(self._ca_path, self._ca_key_path)
        self._former: Issuer | None = None
        if self._former_path.exists():
            self._former = load_issuer(self._former_path, self._former_key_path)

    def _finish_interrupted(self) -> None:
        """A rotation that was killed between its two last steps has its key in place already."""
        if next_path(self._ca_path).exists() and not next_path(self._ca_key_path).exists():
            os.replace(next_path(self._ca_path), self._ca_path)

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
    def _former_path(self) -> Path:
        return self._directory / "former-ca.crt"

    @property
    def _former_key_path(self) -> Path:
        return self._directory / "former-ca.key"

    @property
    def _server_path(self) -> Path:
        return self._directory / "server.pem"

    def _still_good(self, wanted: Collection[str], now: dt.datetime) -> bool:
        _, certificate = split_server(self._server_path)
        if certificate.not_valid_after_utc - now < dt.timedelta(days=SERVER_DAYS / 3):
            return False
        if certificate.issuer != self._server_issuer.certificate.subject:
            return False
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {general_name(name) for name in wanted} <= set(held)
