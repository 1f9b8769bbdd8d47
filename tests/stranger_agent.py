"""Another agent in one file, written from docs/protocol.md and the .proto files alone.

It knows gRPC, the generated stubs, ``cryptography`` and the standard library, and nothing of the
agent and the controller beside it. It does what the protocol asks of a device, but measures
nothing: :func:`measure` makes its figures up. Put something real there, and it is an agent.

    python stranger_agent.py HOST:PORT TOKEN NAME HOME
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import socket
import ssl
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from assay.v1 import (
    artifact_pb2,
    blobs_pb2,
    blobs_pb2_grpc,
    device_pb2,
    enrolment_pb2,
    enrolment_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    job_pb2,
    result_pb2,
)

T = TypeVar("T")

SERVER_NAME = "controller.assay.internal"
OPTIONS = [
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.ping_timeout_ms", 14_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.enable_http_proxy", 0),
]
PEM = serialization.Encoding.PEM
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
FINAL = {"unauthenticated", "permission_denied", "version_mismatch"}
AGAIN = {"", "unreachable", "internal", "disk_full"}
FORGET = {
    fleet_pb2.RECORD_STATUS_STORED,
    fleet_pb2.RECORD_STATUS_ALREADY_STORED,
    fleet_pb2.RECORD_STATUS_STORED_SUPERSEDED,
}


class Stranger:
    """A device whose state lies below ``home``. One thread."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("spool", "rejected", "artifacts", "traces"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self.round: job_pb2.Round | None = None
        self.lease_ends = 0.0
        self.recorded: set[str] = set()
        self.resumed_at: list[int] = []

    # first contact, certificates

    def join(self, address: str, token: str, name: str) -> None:
        """Buys a certificate with a token; may be repeated."""
        ca_pem = pinned_ca(address, token.rpartition(".")[2])
        request = enrolment_pb2.EnrolRequest(token=token, csr_pem=self._csr(), name=name)
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca_pem), OPTIONS) as channel:
            enrolled = again(enrolment_pb2_grpc.EnrolmentStub(channel).Enrol, request)
        host = address.rpartition(":")[0]
        self._keep_identity(
            enrolled,
            name=enrolled.name,
            fleet=reachable(enrolled.fleet_address, host),
            blobs=reachable(enrolled.blobs_address, host),
        )

    def connect(self) -> None:
        """Dials with the certificate that is held."""
        self.identity = json.loads((self.home / "identity.json").read_text())
        key_pem = (self.home / "key.pem").read_bytes()
        ca_pem, certificate_pem = (self.identity[k].encode() for k in ("ca", "certificate"))
        credentials = grpc.ssl_channel_credentials(ca_pem, key_pem, certificate_pem)
        self._channels = [
            grpc.secure_channel(self.identity[name], credentials, OPTIONS)
            for name in ("fleet", "blobs")
        ]
        self.fleet = fleet_pb2_grpc.FleetStub(self._channels[0])
        self.blobs = blobs_pb2_grpc.BlobsStub(self._channels[1])

    def close(self) -> None:
        """Hangs up."""
        for channel in self._channels:
            channel.close()

    def renew_if_due(self, *, now: float | None = None) -> bool:
        """Asks for another certificate when two thirds of this one's life are over; the old one
        comes back where the new one does not sync."""
        held = x509.load_pem_x509_certificate(self.identity["certificate"].encode())
        begins, ends = (
            moment.timestamp() for moment in (held.not_valid_before_utc, held.not_valid_after_utc)
        )
        if (now or time.time()) < begins + (ends - begins) * 2 / 3:
            return False
        before = (self.home / "identity.json").read_bytes()
        request = fleet_pb2.RenewCertificateRequest(csr_pem=self._csr())
        renewed = again(self.fleet.RenewCertificate, request)
        kept = {name: self.identity[name] for name in ("name", "fleet", "blobs")}
        self._keep_identity(renewed, **kept)
        self.close()
        self.connect()
        try:
            self.fleet.Sync(self._sync_request(), timeout=10)
        except grpc.RpcError:
            write(self.home / "identity.json", before)
            self.close()
            self.connect()
            return False
        return True

    # the loop

    def run(self) -> None:
        """Works until the controller has nothing more to do and has everything."""
        self.connect()
        idle = 0
        while idle < 2:
            self.report()
            pause_s = self.sync()
            idle = 0 if self.round else idle + 1
            self.work()
            self.renew_if_due()
            if not self.spooled():  # otherwise there is news to tell
                time.sleep(pause_s)
        self.close()

    def sync(self, quiet_for_s: float = 0.0) -> float:
        """Says what is held, brings about what is wished; returns seconds until the next call."""
        reply = again(self.fleet.Sync, self._sync_request(quiet_for_s))
        wished = {each.round_id: each for each in reply.assignments}
        held = self.round
        if held is not None:
            wish = wished.get(held.round_id)
            if wish is None or wish.fence > held.fence:
                self.round = None  # over, cancelled, or granted anew
        if self.round is None and wished:
            self.round = next(iter(wished.values()))
            self.lease_ends = boottime() + self.round.lease_ns / 1e9
            self.recorded.clear()
            return 0.0  # so that the controller learns that it has arrived
        return float(reply.next_sync_in.ToNanoseconds()) / 1e9

    def work(self) -> None:
        """The runs of the round that are still to be made, each with its result spooled."""
        while run := self._next_run():
            if boottime() > self.lease_ends:
                self.round = None
                return
            result = self._result(run)
            if why := unreadable(run):
                fail(result, result_pb2.FAILURE_CLASS_DEVICE, "version_mismatch", why)
            elif not (self._fetched(run, result) and self._announced(run)):
                if not result.HasField("failure"):
                    return  # cancelled meanwhile
            else:
                trace = measure(run, result)
                self._name_trace(result, trace)
            self.spool(result)

    def spool(self, result: result_pb2.Result) -> fleet_pb2.SpooledResult:
        """Makes a result durable; these very bytes are sent."""
        body = result.SerializeToString()
        entry = fleet_pb2.SpooledResult(
            attempt_id=result.attempt_id,
            seq=result.seq,
            sha256=hashlib.sha256(body).hexdigest(),
            body=body,
        )
        write(self.home / "spool" / file_name(entry), entry.SerializeToString())
        return entry

    def report(self) -> list[fleet_pb2.RecordAck]:
        """Sends what is spooled, traces first, and lets go of what is acknowledged."""
        entries = self.spooled()
        for entry in entries:
            self._send_trace(result_pb2.Result.FromString(entry.body).trace)
        return [ack for batch in batches(entries) for ack in self._hand_over(batch)]

    def send(self, entries: Iterable[fleet_pb2.SpooledResult]) -> list[fleet_pb2.RecordAck]:
        """One report."""
        reply = again(self.fleet.ReportResults, fleet_pb2.ReportResultsRequest(results=entries))
        time.sleep(reply.retry_after.ToNanoseconds() / 1e9)
        return list(reply.acks)

    def spooled(self) -> list[fleet_pb2.SpooledResult]:
        """What is not acknowledged yet, oldest first."""
        files = sorted((self.home / "spool").glob("*.pb"), key=lambda path: path.stat().st_mtime)
        return [fleet_pb2.SpooledResult.FromString(path.read_bytes()) for path in files]

    # artifacts

    def fetch(self, ref: artifact_pb2.ArtifactRef) -> Path | None:
        """The file of ``ref``, resumed where it broke off; None where it was wrong twice."""
        if not DIGEST.fullmatch(ref.digest):
            return None
        whole = self.home / "artifacts" / ref.digest.removeprefix("sha256:")
        part = whole.with_suffix(".part")
        for _ in range(0 if whole.exists() else 2):
            again(lambda timeout: self._download(ref, part, timeout))
            if "sha256:" + hashlib.sha256(part.read_bytes()).hexdigest() == ref.digest:
                part.replace(whole)
                break
            part.unlink()
        return whole if whole.exists() else None

    def _download(self, ref: artifact_pb2.ArtifactRef, part: Path, timeout: float) -> None:
        with part.open("ab") as file:
            offset = file.tell()
            self.resumed_at.append(offset)
            request = blobs_pb2.ReadRequest(digest=ref.digest, offset=offset)
            chunks = self.blobs.Read(request, timeout=timeout)
            for chunk in chunks:
                file.write(chunk.data)
                if file.tell() > ref.size_bytes:
                    chunks.cancel()  # whatever this is, it is not what was promised
                    break
            file.flush()
            os.fsync(file.fileno())

    # what stays inside

    def _sync_request(self, quiet_for_s: float = 0.0) -> fleet_pb2.SyncRequest:
        request = fleet_pb2.SyncRequest(
            proto_min=1, proto_max=1, device=facts(), attempts=self._held(), accepting=True
        )
        request.quiet_for.FromNanoseconds(int(quiet_for_s * 1e9))
        return request

    def _held(self) -> Iterator[fleet_pb2.HeldAttempt]:
        spooled = [result_pb2.Result.FromString(entry.body) for entry in self.spooled()]
        for result in spooled:
            yield fleet_pb2.HeldAttempt(
                attempt_id=result.attempt_id,
                round_id=result.round_id,
                fence=result.fence,
                state=fleet_pb2.ATTEMPT_STATE_SPOOLED,
            )
        waiting = {result.attempt_id for result in spooled}
        for run in self.round.runs if self.round else ():
            done = run.attempt_id in self.recorded
            if run.attempt_id not in waiting:
                yield fleet_pb2.HeldAttempt(
                    attempt_id=run.attempt_id,
                    round_id=self.round.round_id,  # type: ignore[union-attr]
                    fence=self.round.fence,  # type: ignore[union-attr]
                    state=fleet_pb2.ATTEMPT_STATE_RECORDED
                    if done
                    else fleet_pb2.ATTEMPT_STATE_ACCEPTED,
                )

    def _next_run(self) -> job_pb2.RunSpec | None:
        made = self.recorded | {entry.attempt_id for entry in self.spooled()}
        runs = self.round.runs if self.round else ()
        return next((run for run in runs if run.attempt_id not in made), None)

    def _result(self, run: job_pb2.RunSpec) -> result_pb2.Result:
        assert self.round is not None
        result = result_pb2.Result(
            attempt_id=run.attempt_id,
            # One start for each grant: a restart forgets the round, and gets a higher fence.
            seq=self.round.fence * 1000 + 1,
            round_id=self.round.round_id,
            sweep_id=self.round.sweep_id,
            round_index=self.round.index,
            fence=self.round.fence,
            run=run,
        )
        result.energy.absent = "this agent has no power sensor"
        result.provenance.device_name = self.identity["name"]
        result.provenance.device.CopyFrom(facts())
        result.provenance.runtime_version = "1.0"
        result.provenance.started_unix_ns = time.time_ns()
        result.provenance.harness_version = "stranger 1"
        return result

    def _fetched(self, run: job_pb2.RunSpec, result: result_pb2.Result) -> bool:
        wanted = [run.artifact, run.inputs.artifact]
        wanted += [run.golden.artifact] if run.HasField("golden") else []
        for ref in wanted:
            if self.fetch(ref) is None:
                infra = result_pb2.FAILURE_CLASS_INFRA
                fail(result, infra, "corrupt_artifact", f"{ref.digest} was wrong twice")
                return False
        return True

    def _announced(self, run: job_pb2.RunSpec) -> bool:
        """Says that it falls silent to measure; False where the reply takes the run away."""
        before = self.round
        self.sync(quiet_for_s=(run.profile.warmup_max_ns + run.profile.t_max_ns) / 1e9)
        return self.round is before

    def _name_trace(self, result: result_pb2.Result, trace: bytes) -> None:
        digest = hashlib.sha256(trace).hexdigest()
        write(self.home / "traces" / digest, trace)
        result.trace.digest = f"sha256:{digest}"
        result.trace.size_bytes = len(trace)
        result.trace.media_type = "application/x-npz"

    def _send_trace(self, ref: artifact_pb2.ArtifactRef) -> None:
        path = self.home / "traces" / ref.digest.removeprefix("sha256:")
        asked = blobs_pb2.FindMissingRequest(digests=[ref.digest])
        if not path.is_file() or not again(self.blobs.FindMissing, asked).digests:
            return
        data = path.read_bytes()
        parts = [data[i : i + (1 << 20)] for i in range(0, len(data), 1 << 20)]
        messages = [blobs_pb2.WriteRequest(data=part) for part in parts]
        messages[0].artifact.CopyFrom(ref)
        again(lambda timeout: self.blobs.Write(iter(messages), timeout=timeout))

    def _hand_over(self, batch: list[fleet_pb2.SpooledResult]) -> list[fleet_pb2.RecordAck]:
        sent = {(entry.attempt_id, entry.seq): entry for entry in batch}
        acks = self.send(batch)
        for ack in acks:
            entry = sent[ack.attempt_id, ack.seq]
            spooled = self.home / "spool" / file_name(entry)
            if ack.status in FORGET:
                trace = result_pb2.Result.FromString(entry.body).trace.digest
                spooled.unlink()
                (self.home / "traces" / trace.removeprefix("sha256:")).unlink(missing_ok=True)
            else:
                spooled.replace(self.home / "rejected" / spooled.name)
                print(f"{ack.attempt_id} was not taken: {ack.detail}", file=sys.stderr)
            self.recorded.add(ack.attempt_id)
        return acks

    def _csr(self) -> bytes:
        path = self.home / "key.pem"
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            form, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            write(path, made.private_bytes(PEM, form, bare), mode=0o600)
        key: Any = serialization.load_pem_private_key(path.read_bytes(), None)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return builder.sign(key, hashes.SHA256()).public_bytes(PEM)

    def _keep_identity(self, answer: Any, **rest: str) -> None:
        identity = {
            "certificate": answer.certificate_pem.decode(),
            "ca": answer.ca_bundle_pem.decode(),
            **rest,
        }
        write(self.home / "identity.json", json.dumps(identity).encode())


def measure(run: job_pb2.RunSpec, result: result_pb2.Result) -> bytes:
    """Fills in what a run yields and returns its trace. Here: figures drawn from the run's seed."""
    rng = random.Random(run.seed)
    typical = 1_000_000 + len(run.variant_name) * 10_000
    samples = [int(rng.gauss(typical, typical / 100)) for _ in range(200)]
    ranked = sorted(samples)
    middle = float(ranked[100])
    mean = sum(samples) / len(samples)
    latency = result.latency
    latency.n, latency.duration_ns, latency.mean_ns = len(samples), sum(samples), mean
    latency.min_ns, latency.max_ns = ranked[0], ranked[-1]
    latency.p50_ns, latency.p50_low_ns, latency.p50_high_ns = middle, ranked[86], ranked[114]
    latency.p90_ns = ranked[180]
    latency.mad_ns = sorted(abs(each - middle) for each in samples)[100]
    latency.cv = (sum((each - mean) ** 2 for each in samples) / len(samples)) ** 0.5 / mean
    latency.fidelity = result_pb2.FIDELITY_EXTERNAL_BINARY
    result.verdict.kind = result_pb2.VERDICT_KIND_VALID
    result.provenance.duration_ns = sum(samples)
    if run.HasField("golden"):
        result.golden.n, result.golden.within_tolerance = 1, True
    if run.evaluate:
        result.quality.dataset, result.quality.n, result.quality.top1 = run.inputs.dataset, 10, 0.9
    result.environment.update(
        device=result.provenance.device_name,
        power_mode="none",
        governor="none",
        isolation="none",
        fidelity="external_binary",
        scenario=word(job_pb2.ScenarioKind, run.scenario.kind),
        pacing=word(job_pb2.Mode, run.scenario.mode),
        method="made up",
        dataset=run.inputs.dataset,
        harness="stranger 1",
    )
    result.factors.update(
        variant=run.variant_name,
        runtime=f"{run.runtime.name} 1.0",
        threads=str(run.runtime.threads),
        batch=str(run.scenario.samples_per_query),
    )
    return npz(version=("<i4", [1], ""), latency_ns=("<i8", samples, f"{len(samples)},"))


def facts() -> device_pb2.DeviceFacts:
    """What this board is; a sweep finds it by its class and its runtimes."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    machine = os.uname()
    return device_pb2.DeviceFacts(
        board="A stranger's board",
        device_class="stranger",
        cpu=device_pb2.CpuFacts(model="unknown", architecture=machine.machine),
        memory_total_bytes=1 << 30,
        os=machine.sysname,
        kernel=machine.release,
        boot_id=boot_id,
        agent_version="stranger 1",
        python_version=sys.version.split()[0],
        runtimes=[device_pb2.RuntimeFacts(name="onnxruntime", version="1.0", providers=["CPU"])],
    )


def unreadable(run: job_pb2.RunSpec) -> str:
    """Why this agent must not guess what a run asks for; empty where it need not."""
    for field, kinds in (("kind", job_pb2.ScenarioKind), ("mode", job_pb2.Mode)):
        number = getattr(run.scenario, field)
        if number == 0 or number not in kinds.values():
            return f"scenario.{field}: {number} is not known here"
    return ""


def fail(result: result_pb2.Result, fault: Any, code: str, why: str) -> None:
    """Makes ``result`` one of a run that gave no number."""
    result.failure.failure_class, result.failure.code, result.failure.message = fault, code, why
    result.verdict.kind = result_pb2.VERDICT_KIND_INVALID
    result.verdict.reasons.add(code=code, hard=True, detail=why)


def pinned_ca(address: str, ca_sha256: str) -> bytes:
    """The CA that the server shows, if it is the one that the token names."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=SERVER_NAME) as tls,
    ):
        # Public from Python 3.13 on.
        shown = getattr(tls, "get_unverified_chain", None)
        inner: Any = tls._sslobj  # type: ignore[attr-defined]
        chain = shown() if shown else [c.public_bytes(2) for c in inner.get_unverified_chain()]
    for certificate in chain:
        if hashlib.sha256(certificate).hexdigest() == ca_sha256:
            return ssl.DER_cert_to_PEM_cert(certificate).encode()
    raise SystemExit(f"{address} is not the controller that made this token")


def again(rpc: Callable[..., T], *request: object) -> T:
    """A call that is repeated while the answer says that it may help."""
    for failures in range(1_000):
        try:
            return rpc(*request, timeout=40)
        except grpc.RpcError as error:
            trailing: Any = error.trailing_metadata() or ()
            code = dict(trailing).get("assay-code", "")
            if code in FINAL:
                raise SystemExit(f"{code}: {error.details()}") from error
            if code not in AGAIN:
                raise
            time.sleep(random.uniform(0.25, min(30, 0.5 * 2.0 ** min(failures, 6))))
    raise SystemExit("the controller did not answer")


def batches(
    entries: list[fleet_pb2.SpooledResult],
) -> Iterator[list[fleet_pb2.SpooledResult]]:
    """At most 200 results or 1 MiB; a larger one alone."""
    batch: list[fleet_pb2.SpooledResult] = []
    for entry in entries:
        size = sum(each.ByteSize() for each in batch) + entry.ByteSize()
        if batch and (len(batch) == 200 or size > (1 << 20) - 4096):
            yield batch
            batch = []
        batch.append(entry)
    if batch:
        yield batch


def npz(**arrays: tuple[str, list[int], str]) -> bytes:
    """Arrays (element type, values, shape) as numpy's file format has them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (kind, values, shape) in arrays.items():
            head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}"
            head += " " * (-(11 + len(head)) % 64) + "\n"
            data = b"".join(each.to_bytes(int(kind[2]), "little", signed=True) for each in values)
            start = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
            archive.writestr(f"{name}.npy", start + head.encode() + data)
    return packed.getvalue()


def write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Whole and on the disk, or not at all."""
    aside = path.with_suffix(".new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def file_name(entry: fleet_pb2.SpooledResult) -> str:
    """Names a spool entry; what the controller says is never a path."""
    return hashlib.sha256(f"{entry.attempt_id} {entry.seq}".encode()).hexdigest() + ".pb"


def reachable(address: str, dialled_host: str) -> str:
    """An address without a host means the one that was dialled."""
    host, _, port = address.rpartition(":")
    return f"{host or dialled_host}:{port}"


def word(kinds: Any, number: int) -> str:
    """``single_stream`` for SCENARIO_KIND_SINGLE_STREAM: what sets it apart from number 0."""
    prefix = str(kinds.Name(0)).removesuffix("UNSPECIFIED")
    return str(kinds.Name(number)).removeprefix(prefix).lower()


def boottime() -> float:
    """Seconds on a clock that goes on in suspend and is never set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


if __name__ == "__main__":
    where, bought_with, called, kept_in = sys.argv[1:]
    stranger = Stranger(Path(kept_in))
    stranger.join(where, bought_with, called)
    stranger.run()
