"""A publisher's own key: made and used where its owner wants, never on the controller's account."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from assay.core.dsse import Envelope, Signature, signed_bytes
from assay.core.errors import AlreadyExists, CheckFailed, NotFound
from assay.core.publishers import is_usable, keyid_of

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
KINDS: dict[str, Callable[[], PrivateKey]] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
}
_PEM = serialization.Encoding.PEM


def public_path(path: Path) -> Path:
    """Where the public half of the key at ``path`` lies."""
    return path.with_name(path.name + ".pub")


def make_key(path: Path, kind: str, passphrase: str) -> str:
    """Writes a new key to ``path`` (PKCS 8, mode 0600, encrypted where there is a passphrase) and
    its public half beside it; its id. :class:`AlreadyExists` where either is there."""
    key = KINDS[kind]()
    sealed: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        sealed = serialization.BestAvailableEncryption(passphrase.encode())
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, sealed)
    for target in (path, public_path(path)):
        if target.exists():
            raise AlreadyExists(f"{target} exists; name another file")
    _write(path, private, 0o600)
    _write(public_path(path), public, 0o644)
    return keyid_of(key.public_key())


def load_key(path: Path, passphrase: Callable[[], str]) -> PrivateKey:
    """The private key at ``path``; the passphrase is asked for only where it has one.

    :class:`CheckFailed` where it is no usable key, or readable by others.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path} is not there; `assay publish keygen {path}` makes one") from None
    except OSError as error:
        raise CheckFailed(f"{path} cannot be read: {error.strerror}") from None
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CheckFailed(f"{path} can be read by others: chmod 600 {path}")
    key = _parsed(path, data, passphrase)
    if not is_usable(key.public_key()):
        raise CheckFailed(f"{path}: a publisher's key is Ed25519 or ECDSA on P-256")
    return key


def sign(key: PrivateKey, payload_type: str, payload: bytes) -> Envelope:
    """An envelope with one signature."""
    message = signed_bytes(payload_type, payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        value = key.sign(message)
    else:
        value = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return Envelope(payload_type, payload, (Signature(value, keyid_of(key.public_key())),))


def _parsed(path: Path, data: bytes, passphrase: Callable[[], str]) -> PrivateKey:
    try:
        try:
            key = serialization.load_pem_private_key(data, None)
        except TypeError:  # it has a passphrase
            key = serialization.load_pem_private_key(data, passphrase().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CheckFailed(f"{path} holds no private key, or the passphrase is wrong") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise CheckFailed(f"{path}: a publisher's key is Ed25519 or ECDSA on P-256")
    return key


def _write(path: Path, data: bytes, mode: int) -> None:
    # Exclusive: no other key is ever replaced.
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
