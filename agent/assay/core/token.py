"""Join tokens: what an operator copies to a new board, once.

``assay1.<id>.<secret>.<ca>``: the id names the token for people and for revoking, the secret (128
random bits, hex) buys a certificate, and ``ca`` is the sha256 of the controller's CA certificate
(DER, hex), so that the very first contact is already pinned to the right controller.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from assay.core.errors import BadMessage

_PATTERN = re.compile(r"assay1\.([0-9a-f]{8})\.([0-9a-f]{32})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A parsed join token; ``str()`` is what the operator copies, ``repr()`` hides the secret."""

    token_id: str
    secret: str = field(repr=False)
    ca_sha256: str

    @classmethod
    def generate(cls, ca_sha256: str) -> JoinToken:
        """A fresh token for the controller whose CA certificate has this sha256 (hex of DER)."""
        return cls(secrets.token_hex(4), secrets.token_hex(16), ca_sha256)

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """The token that ``text`` spells; :class:`BadMessage` where it is none."""
        found = _PATTERN.fullmatch(text.strip())
        if found is None:
            raise BadMessage(
                "this is not a whole join token (assay1.<id>.<secret>.<ca>); copy all of the line "
                "that `assay token create` printed"
            )
        return cls(*found.groups())

    @property
    def secret_sha256(self) -> str:
        """What the controller keeps instead of the secret (hex)."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def __str__(self) -> str:
        return f"assay1.{self.token_id}.{self.secret}.{self.ca_sha256}"
