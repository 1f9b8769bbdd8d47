"""A controller as a real process, and a device as small as the protocol allows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from assay.controller.home import Home
from assay.controller.server.running import ServingController, running_controller
from assay.core import convert
from assay.core.channel import (
    Credentials,
    call,
    dial,
    dial_enrolment,
    pinned_ca,
    split_address,
    stream,
)
from assay.core.model import ArtifactRef, Result, Round
from assay.core.token import JoinToken
from assay.v1 import (
    artifact_pb2,
    blobs_pb2,
    blobs_pb2_grpc,
    device_pb2,
    enrolment_pb2,
    enrolment_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
)
from tests.plane import facts, reported

_PATIENCE_S = 30.0
ANY_PORTS = [f"--{name}-port=0" for name in ("enrol", "fleet", "blobs")]


@dataclass(slots=True)
class ControllerProcess:
    """``assay controller serve`` on ``home``; ``launcher`` replaces ``-m assay.controller``."""

    home: Home
    log: Path
    launcher: Sequence[str] = ("-m", "assay.controller")
    arguments: Sequence[str] = (*ANY_PORTS, "--no-metrics", "--no-live")
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> ServingController:
        """Starts it and waits until it listens."""
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *self.launcher, "controller", "serve", *self.arguments],
                env={**os.environ, "ASSAY_HOME": str(self.home.root), **self.environment},
                stdout=file,
                stderr=file,
            )
        deadline = time.monotonic() + _PATIENCE_S
        while (found := running_controller(self.home)) is None or found.pid != self.process.pid:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"controller did not start:\n{self.log.read_text()}")
            time.sleep(0.02)
        return found

    def serving(self) -> ServingController:
        """Where it listens now."""
        found = running_controller(self.home)
        assert found is not None
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and waits for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE_S)

    def wait(self) -> int:
        """Waits until it ends by itself."""
        assert self.process is not None
        return self.process.wait(_PATIENCE_S)


@contextlib.contextmanager
def controller_process(home: Home, **options: object) -> Iterator[ControllerProcess]:
    """A controller that is not started yet and is gone after the block."""
    home.create()
    log = home.root.parent / "controller.log"
    made = ControllerProcess(home, log, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


class Key:
    """A device's key pair."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    @property
    def pem(self) -> bytes:
        """The private key."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def request(self, name: str = "board") -> bytes:
        """A certificate request, PEM."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def enrol(
    address: str, token: JoinToken, name: str, key: Key, csr_pem: bytes | None = None
) -> enrolment_pb2.EnrolResponse:
    """Enrols as an agent would: the CA by the token's pin, then the call."""
    host, port = split_address(address)
    ca_pem = pinned_ca(host, port, token.ca_sha256)
    request = enrolment_pb2.EnrolRequest(
        token=str(token), csr_pem=key.request() if csr_pem is None else csr_pem, name=name
    )
    with dial_enrolment(address, ca_pem) as channel:
        return call(enrolment_pb2_grpc.EnrolmentStub(channel).Enrol, request, timeout_s=10)


class Board:
    """A device's side of the wire; close it by leaving the block."""

    def __init__(self, enrolled: enrolment_pb2.EnrolResponse, key: Key) -> None:
        self.device_id = enrolled.device_id
        self.name = enrolled.name
        self.credentials = Credentials(key.pem, enrolled.certificate_pem, enrolled.ca_bundle_pem)
        self._fleet = dial(enrolled.fleet_address, self.credentials)
        self._blobs = dial(enrolled.blobs_address, self.credentials)
        self.fleet = fleet_pb2_grpc.FleetStub(self._fleet)
        self.blobs = blobs_pb2_grpc.BlobsStub(self._blobs)

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._fleet.close()
        self._blobs.close()

    def sync(
        self,
        held: Sequence[Round] = (),
        *,
        state: fleet_pb2.AttemptState.ValueType = fleet_pb2.ATTEMPT_STATE_MEASURING,
        wait_s: float = 0,
        accepting: bool = True,
        boot_id: str = "boot-1",
        proto: tuple[int, int] = (1, 1),
    ) -> fleet_pb2.SyncResponse:
        """One Sync that reports every attempt of ``held``."""
        request = fleet_pb2.SyncRequest(
            proto_min=proto[0],
            proto_max=proto[1],
            device=cast(device_pb2.DeviceFacts, convert.to_proto(facts(boot_id))),
            attempts=[
                fleet_pb2.HeldAttempt(
                    attempt_id=run.attempt_id,
                    round_id=round_.round_id,
                    fence=round_.fence,
                    state=state,
                )
                for round_ in held
                for run in round_.runs
            ],
            accepting=accepting,
        )
        request.wait.FromNanoseconds(int(wait_s * 1e9))
        return call(self.fleet.Sync, request, timeout_s=wait_s + 20)

    def assigned(self, held: Sequence[Round] = (), **options: object) -> list[Round]:
        """The rounds a Sync assigns."""
        response = self.sync(held, **options)  # type: ignore[arg-type]
        return [convert.from_proto(message, Round) for message in response.assignments]

    def report(self, *results: Result) -> list[str]:
        """Reports results; the status names without their prefix."""
        return [status_name(ack) for ack in self.report_raw([reported(r) for r in results]).acks]

    def report_raw(
        self, entries: Sequence[tuple[str, int, str, bytes]]
    ) -> fleet_pb2.ReportResultsResponse:
        """Reports spool entries as they are."""
        request = fleet_pb2.ReportResultsRequest(
            results=[
                fleet_pb2.SpooledResult(attempt_id=a, seq=seq, sha256=sha256, body=body)
                for a, seq, sha256, body in entries
            ]
        )
        return call(self.fleet.ReportResults, request, timeout_s=20)

    def read(self, digest: str, offset: int = 0) -> bytes:
        """An artifact from an offset."""
        request = blobs_pb2.ReadRequest(digest=digest, offset=offset)
        return b"".join(m.data for m in stream(self.blobs.Read, request, timeout_s=20))

    def write(self, ref: ArtifactRef, *chunks: bytes) -> blobs_pb2.WriteResponse:
        """Sends a trace."""
        first = artifact_pb2.ArtifactRef(
            digest=ref.digest, size_bytes=ref.size_bytes, media_type=ref.media_type
        )
        messages = [blobs_pb2.WriteRequest(artifact=first, data=chunks[0])]
        messages += [blobs_pb2.WriteRequest(data=chunk) for chunk in chunks[1:]]
        return call(self.blobs.Write, iter(messages), timeout_s=20)


def status_name(ack: fleet_pb2.RecordAck) -> str:
    """``STORED`` for ``RECORD_STATUS_STORED``."""
    return fleet_pb2.RecordStatus.Name(ack.status).removeprefix("RECORD_STATUS_")


def raw_channel(address: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    """A channel with credentials no honest device has."""
    options = [
        ("grpc.ssl_target_name_override", "controller.assay.internal"),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.secure_channel(address, credentials, options=options)
