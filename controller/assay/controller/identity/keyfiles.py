"""Keys and certificates as files that only their owner can read."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from assay.controller.identity.certificates import Issuer, authority_certificate
from assay.core.errors import CheckFailed

_PEM = serialization.Encoding.PEM


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new key of the one kind that Assay uses."""
    return ec.generate_private_key(ec.SECP256R1())


def create_ca(key_path: Path, path: Path, now: dt.datetime, number: int = 1) -> None:
    """A CA's key and certificate; where the certificate is there, so is its key."""
    key = new_key()
    certificate = authority_certificate(key, now, number)
    # The certificate last: where it is there, so is its key.
    write_private(key_path, key_pem(key))
    write_private(path, certificate.public_bytes(_PEM))


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS 8."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def split_server(path: Path) -> tuple[bytes, x509.Certificate]:
    """The key (PEM) and the first certificate of one file."""
    key_pem, mark, certificate_pem = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    return key_pem, x509.load_pem_x509_certificate(mark + certificate_pem)


def ca_number(certificate: x509.Certificate) -> int:
    """Which of the controller's CAs this is, from its name."""
    digits = certificate.subject.rfc4514_string().removeprefix("CN=Assay CA").strip()
    return int(digits) if digits.isdecimal() else 1


def next_path(path: Path) -> Path:
    """Where what will replace ``path`` is written first."""
    return path.with_name(f"next-{path.name}")


def load_issuer(path: Path, key_path: Path) -> Issuer:
    """A CA; :class:`CheckFailed` where its key cannot be used."""
    return Issuer(x509.load_pem_x509_certificate(path.read_bytes()), _load_key(key_path))


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


def write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    partial = path.with_suffix(path.suffix + ".new")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
