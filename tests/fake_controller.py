"""A controller in a few lines: a real gRPC server of assay.v1 that does what a test says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from assay.core import convert
from assay.core.channel import PROTO, status_of
from assay.core.errors import AssayError, NotFound
from assay.core.model import ArtifactRef, Result, Round
from assay.v1 import blobs_pb2, blobs_pb2_grpc, fleet_pb2, fleet_pb2_grpc

Fault = AssayError | grpc.StatusCode
STATUS = fleet_pb2.RecordStatus


@dataclass
class FakeController(fleet_pb2_grpc.FleetServicer, blobs_pb2_grpc.BlobsServicer):
    """Everything public may be changed while it serves; ``faults`` are raised once each, by method
    name. ``on_read`` maps (digest, offset) to the chunks to send instead of the right ones."""

    assignments: list[Round] = field(default_factory=list)
    raw_assignments: list[Any] = field(default_factory=list)
    next_sync_in_ns: int = 0
    drain: bool = False
    passes_over: bool = False
    proto: int = PROTO
    blobs: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    retry_after_ns: int = 0
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    on_read: Callable[[str, int], Iterable[bytes] | None] = lambda digest, offset: None
    done_when_recorded: bool = False
    more_signatures: bool | None = None
    syncs: list[fleet_pb2.SyncRequest] = field(default_factory=list)
    reports: list[fleet_pb2.ReportResultsRequest] = field(default_factory=list)
    results: dict[tuple[str, int], bytes] = field(default_factory=dict)
    reads: list[tuple[str, int]] = field(default_factory=list)
    traces: dict[str, bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    port: int = 0

    def start(self, port: int = 0) -> FakeController:
        self._server = grpc.server(
            ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),), maximum_concurrent_rpcs=64
        )
        fleet_pb2_grpc.add_FleetServicer_to_server(self, self._server)
        blobs_pb2_grpc.add_BlobsServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop(0).wait()

    def dial(self) -> grpc.Channel:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=options)

    def hold(self, data: bytes, media_type: str) -> ArtifactRef:
        """Puts a file into the store of artifacts."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return ArtifactRef(digest, len(data), media_type)

    def recorded(self) -> list[Result]:
        """Every result recorded, in order."""
        return [convert.from_bytes(body, Result) for body in self.results.values()]

    def assign(self, *rounds: Round) -> None:
        """What the device should hold from now on."""
        with self.changed:
            self.assignments = list(rounds)
            self.changed.notify_all()

    def until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Waits for something a test expects to come about."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), "it did not come about"

    def Sync(self, request: fleet_pb2.SyncRequest, context: Any) -> fleet_pb2.SyncResponse:
        with self.changed:
            self.syncs.append(request)
            self.changed.notify_all()
            self._fault("Sync", context)
            held = {(each.round_id, each.fence) for each in request.attempts}
            wait_s = request.wait.ToNanoseconds() / 1e9
            self.changed.wait_for(lambda: self._wished() != held or not context.is_active(), wait_s)
            reply = fleet_pb2.SyncResponse(
                proto=self.proto, drain=self.drain, passes_over=self.passes_over
            )
            reply.next_sync_in.FromNanoseconds(self.next_sync_in_ns)
            reply.assignments.extend(convert.to_proto(each) for each in self.assignments)
            reply.assignments.extend(self.raw_assignments)
            return reply

    def ReportResults(
        self, request: fleet_pb2.ReportResultsRequest, context: Any
    ) -> fleet_pb2.ReportResultsResponse:
        with self.changed:
            self.reports.append(request)
            self.changed.notify_all()
            self._fault("ReportResults", context)
            reply = fleet_pb2.ReportResultsResponse(
                acks=[
                    fleet_pb2.RecordAck(
                        attempt_id=each.attempt_id, seq=each.seq, status=self._record(each)
                    )
                    for each in request.results
                ]
            )
            reply.retry_after.FromNanoseconds(self.retry_after_ns)
            self.changed.notify_all()
        self._fault("ReportResults.after", context)
        return reply

    def FindMissing(
        self, request: blobs_pb2.FindMissingRequest, context: Any
    ) -> blobs_pb2.FindMissingResponse:
        self._fault("FindMissing", context)
        missing = [d for d in request.digests if d not in self.blobs and d not in self.traces]
        return blobs_pb2.FindMissingResponse(digests=missing)

    def Read(
        self, request: blobs_pb2.ReadRequest, context: Any
    ) -> Iterator[blobs_pb2.ReadResponse]:
        self.reads.append((request.digest, request.offset))
        self._fault("Read", context)
        special = self.on_read(request.digest, request.offset)
        if special is None and request.digest not in self.blobs:
            abort(context, NotFound(f"no artifact {request.digest}"))
        data = self.blobs.get(request.digest, b"")[request.offset :]
        chunks = [data[i : i + 1000] for i in range(0, len(data), 1000)]
        for chunk in chunks if special is None else special:
            yield blobs_pb2.ReadResponse(data=chunk)
        self._fault("Read.after", context)

    def Signatures(
        self, request: blobs_pb2.SignaturesRequest, context: Any
    ) -> blobs_pb2.SignaturesResponse:
        self._fault("Signatures", context)
        envelopes = [f"{digest} after {request.after}".encode() for digest in request.digests]
        return blobs_pb2.SignaturesResponse(envelopes=envelopes, more=self.more_signatures)

    def Write(self, request_iterator: Any, context: Any) -> blobs_pb2.WriteResponse:
        self._fault("Write", context)
        first = next(request_iterator)
        data = first.data + b"".join(each.data for each in request_iterator)
        assert first.artifact.size_bytes == len(data)
        assert first.artifact.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        self.traces[first.artifact.digest] = data
        return blobs_pb2.WriteResponse()

    def _wished(self) -> set[tuple[str, int]]:
        rounds = [*self.assignments, *self.raw_assignments]
        return {(each.round_id, each.fence) for each in rounds}

    def _record(self, each: fleet_pb2.SpooledResult) -> int:
        assert hashlib.sha256(each.body).hexdigest() == each.sha256
        key = (each.attempt_id, each.seq)
        if each.attempt_id in self.statuses:
            return self.statuses[each.attempt_id]
        if key in self.results:
            same = self.results[key] == each.body
            return STATUS.RECORD_STATUS_ALREADY_STORED if same else STATUS.RECORD_STATUS_CONFLICT
        self.results[key] = each.body
        if self.done_when_recorded:
            done = {attempt_id for attempt_id, _seq in self.results}
            self.assignments = [
                r for r in self.assignments if not {run.attempt_id for run in r.runs} <= done
            ]
        return STATUS.RECORD_STATUS_STORED

    def _fault(self, method: str, context: Any) -> None:
        waiting = self.faults.get(method)
        if not waiting:
            return
        fault = waiting.pop(0)
        if isinstance(fault, AssayError):
            abort(context, fault)
        context.abort(fault, "a fault the test asked for")


def abort(context: Any, error: AssayError) -> None:
    """Ends a call as a controller does."""
    code, message, trailing = status_of(error)
    context.set_trailing_metadata(trailing)
    context.abort(code, message)
