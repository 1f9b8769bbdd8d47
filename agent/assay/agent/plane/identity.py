"""Who this device is to its controller, as enrolment left it on disk."""

from __future__ import annotations

import hashlib
import json
import ssl
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.agent.home import AgentHome, write_atomically
from assay.core.channel import Credentials
from assay.core.errors import CheckFailed, NotFound

_DAY_S = 86_400
_LIFE_S = 30 * _DAY_S  # of a certificate whose beginning was not written down


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's name, its certificate (PEM) and where its controller listens.

    ``not_before_unix_s`` and ``not_after_unix_s`` are the certificate's, ``enrolled_at`` is the
    address first dialled.
    """

    device_id: str
    name: str
    certificate_pem: str
    ca_bundle_pem: str
    fleet_address: str
    blobs_address: str
    enrolled_at: str
    not_after_unix_s: int
    not_before_unix_s: int = 0

    @classmethod
    def load(cls, home: AgentHome) -> Identity:
        """The identity in ``home``; :class:`NotFound` before enrolment, :class:`CheckFailed` where
        the file cannot be used."""
        try:
            return _read(home.identity)
        except FileNotFoundError:
            raise NotFound(
                f"this device has not been enrolled ({home.identity} is not there): run "
                "`assay-agent enrol --controller HOST:PORT` with a token from `assay token create`"
            ) from None

    @classmethod
    def load_next(cls, home: AgentHome) -> Identity | None:
        """A renewed identity that has not synced yet, if there is one that can be used."""
        try:
            return _read(home.next_identity)
        except (FileNotFoundError, CheckFailed):
            return None

    def store(self, home: AgentHome) -> None:
        """Writes it to ``home``, whole or not at all."""
        write_atomically(home.identity, self._text())

    def store_next(self, home: AgentHome) -> None:
        """Writes it beside the one in use, until it has synced."""
        write_atomically(home.next_identity, self._text())

    def expired(self, now_unix_s: float) -> bool:
        """Whether the certificate has ended, by this device's clock."""
        return now_unix_s >= self.not_after_unix_s

    def renewal_due(self, now_unix_s: float) -> bool:
        """Whether two thirds of the certificate's life are over."""
        begin = self.not_before_unix_s or self.not_after_unix_s - _LIFE_S
        return now_unix_s >= begin + (self.not_after_unix_s - begin) * 2 / 3

    def trusts(self, ca_sha256: str) -> bool:
        """Whether the CA of that hash (of its DER, hex) is one of those this device trusts."""
        begin = "-----BEGIN CERTIFICATE-----"
        each = self.ca_bundle_pem.split(begin)[1:]
        ders = [ssl.PEM_cert_to_DER_cert((begin + one).strip()) for one in each]
        return ca_sha256 in {hashlib.sha256(der).hexdigest() for der in ders}

    def credentials(self, home: AgentHome) -> Credentials:
        """What the device shows and trusts; :class:`CheckFailed` where its key is missing."""
        try:
            key = home.key.read_bytes()
        except OSError as error:
            raise CheckFailed(
                f"{home.key} cannot be read ({error.strerror}): remove {home.identity} and enrol "
                "this device again"
            ) from error
        return Credentials(key, self.certificate_pem.encode(), self.ca_bundle_pem.encode())

    def expiry_note(self, now_unix_s: float) -> str:
        """What to say of the certificate's end where a connection fails; may be empty."""
        if not self.expired(now_unix_s):
            return ""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.not_after_unix_s))
        return f"this device's certificate ended on {day} by its clock"

    def _text(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def _read(path: Path) -> Identity:
    try:
        return Identity(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise CheckFailed(
            f"{path} cannot be used ({error}): remove it and enrol this device again"
        ) from error
