"""Publishers' keys, and whether one of them signed. Imports cryptography: an idle agent does not
import this module.

Two kinds, as DSSE signers commonly have them: Ed25519, and ECDSA on P-256 over SHA-256 with the
signature in DER.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from assay.core import statement
from assay.core.dsse import Envelope, signed_bytes
from assay.core.errors import BadMessage, CheckFailed, UnsignedArtifact
from assay.core.statement import Statement

PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
MARK = b"-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class Publisher:
    """A trusted key; ``keyid`` is the sha256 (hex) of its SubjectPublicKeyInfo."""

    keyid: str
    key: PublicKey


def load_publisher(path: Path) -> Publisher:
    """The public key (PEM) in a file; :class:`CheckFailed` where it is none of the two kinds."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckFailed(f"{path}: the publisher's key cannot be read: {error.strerror}") from None
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CheckFailed(
            f"{path} holds no public key (PEM): copy the .pub file of `assay publish keygen`"
        ) from None
    if not is_usable(key):
        raise CheckFailed(f"{path}: a publisher's key is Ed25519 or ECDSA on P-256")
    assert isinstance(key, ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey)
    return Publisher(keyid_of(key), key)


def is_usable(key: object) -> bool:
    """Whether a public key is of one of the two kinds."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return isinstance(key.curve, ec.SECP256R1)
    return isinstance(key, ed25519.Ed25519PublicKey)


def keyid_of(key: PublicKey) -> str:
    """What names a key: sha256 of its SubjectPublicKeyInfo (DER), as
    ``openssl pkey -pubin -outform DER | sha256sum`` prints."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def checked(envelope: Envelope, trusted: Iterable[Publisher]) -> tuple[Statement, Publisher]:
    """What an envelope states, and who of the trusted vouches for it. Nothing of the payload is
    read before its signature holds.

    :class:`UnsignedArtifact` where no trusted key signed these bytes; :class:`BadMessage` where one
    signed something that is no statement about artifacts.
    """
    publishers = list(trusted)
    message = signed_bytes(envelope.payload_type, envelope.payload)
    for publisher in publishers:
        if any(_holds(publisher.key, each.value, message) for each in envelope.signatures):
            if envelope.payload_type != statement.PAYLOAD_TYPE:
                raise BadMessage(f"what is signed is {envelope.payload_type}, no list of artifacts")
            return statement.decode(envelope.payload), publisher
    raise UnsignedArtifact(_why_not(envelope, publishers))


def _holds(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _why_not(envelope: Envelope, trusted: list[Publisher]) -> str:
    known = {publisher.keyid for publisher in trusted}
    named = [each.keyid for each in envelope.signatures]
    for keyid in named:
        if keyid in known:
            return f"the signature by key {keyid[:12]} is wrong: something was changed since"
    who = ", ".join(keyid[:12] or "without a name" for keyid in named)
    return f"it is signed by key {who}, which is not trusted here"
