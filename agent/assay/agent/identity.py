"""Who this device is to its controller, as enrolment left it on disk."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

from assay.agent.home import AgentHome, write_atomically
from assay.core.channel import Credentials
from assay.core.errors import CheckFailed, NotFound


@dataclass(frozen=True, slots=True)
class Identity:
    """A device's name, its certificate (PEM) and where its controller listens.

    ``not_after_unix_s`` is when the certificate ends, ``enrolled_at`` the address first dialled.
    """

    device_id: str
    name: str
    certificate_pem: str
    ca_bundle_pem: str
    fleet_address: str
    blobs_address: str
    enrolled_at: str
    not_after_unix_s: int

    @classmethod
    def load(cls, home: AgentHome) -> Identity:
        """The identity in ``home``; :class:`NotFound` before enrolment, :class:`CheckFailed` where
        the file cannot be used."""
        try:
            raw = json.loads(home.identity.read_bytes())
            return cls(**raw)
        except FileNotFoundError:
            raise NotFound(
                f"this device has not been enrolled ({home.identity} is not there): run "
                "`assay-agent enrol --controller HOST:PORT` with a token from `assay token create`"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise CheckFailed(
                f"{home.identity} cannot be used ({error}): remove it and enrol this device again"
            ) from error

    def store(self, home: AgentHome) -> None:
        """Writes it to ``home``, whole or not at all."""
        write_atomically(home.identity, json.dumps(asdict(self), indent=1).encode())

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
        if now_unix_s < self.not_after_unix_s:
            return ""
        day = time.strftime("%Y-%m-%d", time.gmtime(self.not_after_unix_s))
        return f"this device's certificate ended on {day} by its clock: enrol it again"
