"""Whether it is this machine's clock that keeps a controller from being believed.

To gRPC a server's certificate that has ended, by the clock here, is a connection like any other
that failed. One TLS handshake of the standard library's tells it apart.
"""

from __future__ import annotations

import socket
import ssl
import time

from assay.core.channel import SERVER_NAME, split_address
from assay.core.errors import ClockWrong

# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL.
_NOT_YET_VALID, _HAS_EXPIRED = 9, 10
_WHAT = {_NOT_YET_VALID: "does not hold yet", _HAS_EXPIRED: "has ended"}


def clock_trouble(address: str, ca_pem: str, timeout_s: float = 2.0) -> ClockWrong | None:
    """What to say where the controller at ``address`` shows a certificate that one of ``ca_pem``
    signed and this clock refuses; None where it is something else, or nobody answers. Sends a
    handshake and nothing more; takes twice ``timeout_s`` at most."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=ca_pem)
        with (
            socket.create_connection(split_address(address), timeout=timeout_s) as plain,
            context.wrap_socket(plain, server_hostname=SERVER_NAME),
        ):
            return None
    except ssl.SSLCertVerificationError as error:
        what = _WHAT.get(error.verify_code)
    except (OSError, ValueError):
        return None
    if what is None:
        return None
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return ClockWrong(
        f"the controller's certificate {what} by this device's clock, which says {now} UTC: set "
        "the clock (timedatectl set-ntp true); if it is right, start the controller again, which "
        "renews its certificate"
    )
