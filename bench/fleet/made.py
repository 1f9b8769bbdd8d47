"""A fleet that has enrolled: as many devices in a controller's home, and their certificates.

All share one key pair, which no real fleet would: what the wire costs does not depend on it.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from assay.controller.home import Home
from assay.controller.identity.certificates import DeviceRequest
from assay.controller.identity.pki import Authority
from assay.controller.store import open_store
from assay.core.channel import Credentials
from tests.plane import device


def enrol_fleet(home: Home, file: Path, count: int, first: int = 0) -> None:
    """Adds ``count`` devices, numbered from ``first`` on, to the store of ``home`` and writes their
    credentials to ``file``."""
    home.create()
    now = dt.datetime.now(dt.UTC)
    authority = Authority(home.pki, now)
    key = ec.generate_private_key(ec.SECP256R1())
    store = open_store(home)
    certificates = []
    for index in range(first, first + count):
        record = device(f"d{index:05}")
        store.add_device(record)
        request = DeviceRequest(record.key_sha256, key.public_key())
        pem, _ = authority.issue_device(request, record.device_id, record.name, now)
        certificates.append(pem.decode())
    store.close()
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    text = {
        "key": key_pem.decode(),
        "ca": authority.certificate_pem.decode(),
        "certificates": certificates,
    }
    file.write_text(json.dumps(text))


def credentials(file: Path, first: int, count: int) -> list[Credentials]:
    """Those of the devices from ``first`` on."""
    read = json.loads(file.read_text())
    key, ca = read["key"].encode(), read["ca"].encode()
    chosen = read["certificates"][first : first + count]
    return [Credentials(key, certificate.encode(), ca) for certificate in chosen]
