"""The calls an agent makes, each one held back by the quiet window and raising Assay's errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from assay.agent.quiet import Packet, QuietWindow
from assay.core.channel import BLOB_CHUNK_BYTES, error_of
from assay.core.errors import AssayError, Cancelled
from assay.core.model import ArtifactRef
from assay.v1 import artifact_pb2, blobs_pb2, blobs_pb2_grpc, fleet_pb2, fleet_pb2_grpc

_CALL_S = 30.0
_ANNOUNCE_S = 2.0
_SLOWEST_BYTES_PER_S = 32_768


class Link:
    """Two lazy channels to one controller. Safe for several threads; close it when done.

    A channel whose call failed is closed and made anew for the next call, so that gRPC's own
    reconnecting sends nothing while a block is timed. Calls that the quiet window or the end of
    the agent cut short raise :class:`Cancelled`.
    """

    def __init__(
        self,
        fleet: Callable[[], grpc.Channel],
        blobs: Callable[[], grpc.Channel],
        quiet: QuietWindow,
    ) -> None:
        self._quiet = quiet
        self._fleet = _Line(fleet, fleet_pb2_grpc.FleetStub)
        self._blobs = _Line(blobs, blobs_pb2_grpc.BlobsStub)

    def sync(self, request: fleet_pb2.SyncRequest, timeout_s: float) -> fleet_pb2.SyncResponse:
        """``Fleet.Sync``; gives way at once where a run begins."""
        with self._quiet.packet(idle=True) as packet:
            call = self._fleet.stub().Sync.future(request, timeout=timeout_s)
            reply: fleet_pb2.SyncResponse = _result(self._fleet, call, packet)
        return reply

    def announce(self, request: fleet_pb2.SyncRequest) -> fleet_pb2.SyncResponse | None:
        """``Fleet.Sync`` by whoever holds the quiet window, before its block begins; None where the
        controller cannot be told within two seconds, or the last call already found it away."""
        if not self._fleet.healthy:
            return None
        try:
            reply: fleet_pb2.SyncResponse = self._fleet.stub().Sync(request, timeout=_ANNOUNCE_S)
        except grpc.RpcError:
            self._fleet.reset()
            return None
        return reply

    def report(self, request: fleet_pb2.ReportResultsRequest) -> fleet_pb2.ReportResultsResponse:
        """``Fleet.ReportResults``."""
        with self._quiet.packet() as packet:
            call = self._fleet.stub().ReportResults.future(request, timeout=_CALL_S)
            reply: fleet_pb2.ReportResultsResponse = _result(self._fleet, call, packet)
        return reply

    def find_missing(self, digests: Sequence[str]) -> frozenset[str]:
        """``Blobs.FindMissing``: which of these the controller does not hold."""
        request = blobs_pb2.FindMissingRequest(digests=digests)
        with self._quiet.packet() as packet:
            call = self._blobs.stub().FindMissing.future(request, timeout=_CALL_S)
            return frozenset(_result(self._blobs, call, packet).digests)

    def read(self, ref: ArtifactRef, offset: int) -> Iterator[bytes]:
        """``Blobs.Read`` from ``offset`` on; closing the iterator ends the call."""
        request = blobs_pb2.ReadRequest(digest=ref.digest, offset=offset)
        timeout_s = _transfer_s(ref.size_bytes - offset)
        with self._quiet.packet() as packet:
            call = self._blobs.stub().Read(request, timeout=timeout_s)
            packet.attach(call.cancel)
            try:
                for message in call:
                    yield message.data
                self._blobs.healthy = True
            except grpc.RpcError as error:
                raise _failure(self._blobs, error, packet) from error
            finally:
                call.cancel()

    def write(self, ref: ArtifactRef, path: Path) -> bool:
        """``Blobs.Write`` of the file at ``path``; whether the controller held it already."""
        named = artifact_pb2.ArtifactRef(
            digest=ref.digest, size_bytes=ref.size_bytes, media_type=ref.media_type
        )
        with self._quiet.packet() as packet, path.open("rb") as file:
            chunks = iter(lambda: file.read(BLOB_CHUNK_BYTES), b"")
            call = self._blobs.stub().Write.future(
                _write_requests(named, chunks), timeout=_transfer_s(ref.size_bytes)
            )
            return bool(_result(self._blobs, call, packet).already_held)

    def close(self) -> None:
        """Closes both channels."""
        self._fleet.reset()
        self._blobs.reset()


class _Line:
    """A channel made on first use and again after a failure."""

    def __init__(
        self, dial: Callable[[], grpc.Channel], stub: Callable[[grpc.Channel], Any]
    ) -> None:
        self._dial = dial
        self._make_stub = stub
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: Any = None
        self.healthy = False

    def stub(self) -> Any:
        with self._lock:
            if self._channel is None:
                self._channel = self._dial()
                self._stub = self._make_stub(self._channel)
            return self._stub

    def reset(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        self.healthy = False
        if channel is not None:
            channel.close()


def _result(line: _Line, call: Any, packet: Packet) -> Any:
    packet.attach(call.cancel)
    try:
        reply = call.result()
    except grpc.FutureCancelledError as error:
        raise Cancelled("the call gave way") from error
    except grpc.RpcError as error:
        raise _failure(line, error, packet) from error
    line.healthy = True
    return reply


def _failure(line: _Line, error: grpc.RpcError, packet: Packet) -> AssayError:
    if packet.cancelled:
        return Cancelled("the call gave way")
    failure = error_of(error)
    if failure.code == "unreachable":
        line.reset()
    return failure


def _transfer_s(size_bytes: int) -> float:
    """A slow link is no failure; what is cut off here resumes where it was."""
    return 60.0 + size_bytes / _SLOWEST_BYTES_PER_S


def _write_requests(
    named: artifact_pb2.ArtifactRef, chunks: Iterable[bytes]
) -> Iterator[blobs_pb2.WriteRequest]:
    yield blobs_pb2.WriteRequest(artifact=named)
    for chunk in chunks:
        yield blobs_pb2.WriteRequest(data=chunk)
