"""nginx with one worker and sendfile, and a client that verifies what it writes to disk."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay.controller.identity.pki import ServerIdentity
from assay.core.channel import Credentials
from tests.agent_process import children

_CHUNK_BYTES = 1 << 20

_CONFIGURATION = """\
worker_processes 1; daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off; sendfile on; root {root};
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen unix:{folder}/unused.sock; listen 127.0.0.1:{plain}; }}
    server {{
        listen 127.0.0.1:{secure} ssl;
        ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;
        ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; ssl_verify_depth 3;
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    """Where it listens, and the processes that are it."""

    plain: int
    secure: int
    pids: list[int]


@contextmanager
def nginx(
    folder: Path, root: Path, identity: ServerIdentity, ports: tuple[int, int]
) -> Iterator[Nginx]:
    """Serves ``root`` on both ports."""
    folder.mkdir()
    (folder / "server.pem").write_bytes(identity.chain_pem)
    (folder / "server.key").write_bytes(identity.key_pem)
    (folder / "ca.pem").write_bytes(identity.ca_pem)
    plain, secure = ports
    text = _CONFIGURATION.format(folder=folder, root=root, plain=plain, secure=secure)
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        while not (workers := children(process.pid)):
            if process.poll() is not None:
                raise SystemExit(f"error: nginx did not start: {folder / 'error.log'} says why")
            time.sleep(0.05)
        yield Nginx(plain, secure, [process.pid, *workers])
    finally:
        process.terminate()
        process.wait(10)


def fetch(port: int, path: str, target: Path, sha256: str, own: Path | None) -> None:
    """Gets a file, writes it, flushes it and checks it; ``own`` is a folder with ``key``, ``cert``
    and ``ca`` for TLS."""
    connection: http.client.HTTPConnection
    if own is None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
    else:
        context = ssl.create_default_context(cafile=str(own / "ca"))
        context.check_hostname = False
        context.load_cert_chain(own / "cert", own / "key")
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
    connection.request("GET", path)
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"error: nginx says {response.status} to {path}")
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK_BYTES))
    with target.open("wb") as file:
        while got := response.readinto(buffer):
            digest.update(buffer[:got])
            file.write(buffer[:got])
        file.flush()
        os.fsync(file.fileno())
    connection.close()
    if digest.hexdigest() != sha256:
        raise SystemExit("error: what arrived is not what was sent")


def write_credentials(folder: Path, own: Credentials) -> Path:
    """A folder for :func:`fetch`."""
    folder.mkdir()
    (folder / "key").write_bytes(own.key_pem)
    (folder / "cert").write_bytes(own.certificate_pem)
    (folder / "ca").write_bytes(own.ca_bundle_pem)
    return folder
