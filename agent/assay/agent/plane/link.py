"""The calls an agent makes, each one held back by the quiet window and raising Assay's errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from assay.agent.plane.counted import Count, CountedChannel
from assay.agent.plane.offer import Offer
from assay.agent.plane.quiet import Packet, QuietWindow
from assay.agent.plane.signatures import Envelopes
from assay.core.channel import BLOB_CHUNK_BYTES, code_in, error_of
from assay.core.encoding import Encoding, encodings_here
from assay.core.errors import AssayError, BadMessage, Cancelled, Unreachable
from assay.core.framing import READ, Chunk, unframed
from assay.core.model import ArtifactRef
from assay.v1 import artifact_pb2, blobs_pb2, blobs_pb2_grpc, fleet_pb2, fleet_pb2_grpc

_CALL_S = 30.0
# The controller may have to encode the file first.
_OFFER_S = 120.0
_ANNOUNCE_S = 2.0
_SLOWEST_BYTES_PER_S = 32_768


class Link:
    """Two lazy channels to one controller. Safe for several threads; close it when done.

    A channel whose call failed is closed and made anew for the next call, so that gRPC's own
    reconnecting sends nothing while a block is timed; ``fleet`` and ``blobs`` make one, or raise
    :class:`Unreachable`. Calls that the quiet window or the end of the agent cut short raise
    :class:`Cancelled`. ``count`` is told bytes sent and received;
    ``cut_off`` makes that what is still to be sent to the fleet port is dropped with its channel.
    """

    def __init__(
        self,
        fleet: Callable[[], grpc.Channel],
        blobs: Callable[[], grpc.Channel],
        quiet: QuietWindow,
        count: Count = lambda _sent, _received: None,
        cut_off: Callable[[], None] = lambda: None,
    ) -> None:
        self._quiet = quiet
        self._cut_off = cut_off
        self._count = count
        self._fleet = _Redial(fleet, fleet_pb2_grpc.FleetStub, count)
        self._blobs = _Redial(blobs, _BlobsStub, count)

    def sync(self, request: fleet_pb2.SyncRequest, timeout_s: float) -> fleet_pb2.SyncResponse:
        """``Fleet.Sync``; gives way at once where a run begins."""
        with self._quiet.packet(idle=True) as packet:
            line = self._fleet.open()
            call = _begin(line.stub.Sync.future, request, timeout=timeout_s)
            reply: fleet_pb2.SyncResponse = _result(line, call, packet)
        return reply

    def announce(
        self, request: fleet_pb2.SyncRequest, *, anew: bool = False
    ) -> fleet_pb2.SyncResponse | None:
        """``Fleet.Sync`` by whoever holds the quiet window, before its block begins; None where the
        controller cannot be told within two seconds, or the last call already found it away; that
        it may be back is tried ``anew``. What was begun has ended when this returns."""
        try:
            line = self._fleet.open() if anew else self._fleet.healthy()
        except Unreachable:
            return None
        if line is None:
            return None
        try:
            reply: fleet_pb2.SyncResponse = _begin(line.stub.Sync, request, timeout=_ANNOUNCE_S)
        except (grpc.RpcError, Unreachable):
            self._cut_off()
            line.close()
            return None
        line.healthy = True
        return reply

    def report(self, request: fleet_pb2.ReportResultsRequest) -> fleet_pb2.ReportResultsResponse:
        """``Fleet.ReportResults``."""
        with self._quiet.packet() as packet:
            line = self._fleet.open()
            call = _begin(line.stub.ReportResults.future, request, timeout=_CALL_S)
            reply: fleet_pb2.ReportResultsResponse = _result(line, call, packet)
        return reply

    def find_missing(self, digests: Sequence[str]) -> frozenset[str]:
        """``Blobs.FindMissing``: which of these the controller does not hold."""
        request = blobs_pb2.FindMissingRequest(digests=digests)
        with self._quiet.packet() as packet:
            line = self._blobs.open()
            call = _begin(line.stub.FindMissing.future, request, timeout=_CALL_S)
            return frozenset(_result(line, call, packet).digests)

    def signatures(self, digests: Sequence[str], last: str) -> Envelopes:
        """``Blobs.Signatures``: the envelopes that name any of these, after the one whose id is
        ``last``."""
        request = blobs_pb2.SignaturesRequest(digests=digests, after=last)
        with self._quiet.packet() as packet:
            line = self._blobs.open()
            call = _begin(line.stub.Signatures.future, request, timeout=_CALL_S)
            answer = _result(line, call, packet)
            more = answer.more if answer.HasField("more") else None
            return Envelopes(tuple(answer.envelopes), more)

    def offer(self, ref: ArtifactRef, bases: Sequence[str], memory_bytes: int) -> Offer:
        """``Blobs.Offer``: how ``ref`` travels best to a device that holds ``bases`` and can spare
        ``memory_bytes``."""
        request = blobs_pb2.OfferRequest(
            digest=ref.digest,
            encodings=[_number(encoding) for encoding in encodings_here()],
            bases=bases,
            memory_bytes=memory_bytes,
        )
        with self._quiet.packet() as packet:
            line = self._blobs.open()
            call = _begin(line.stub.Offer.future, request, timeout=_OFFER_S)
            return _offer(_result(line, call, packet))

    def read(self, ref: ArtifactRef, offset: int, offer: Offer | None = None) -> Iterator[Chunk]:
        """``Blobs.Read`` from ``offset`` on, which counts the bytes of the ``offer`` where one is
        taken; closing the iterator ends the call."""
        request = blobs_pb2.ReadRequest(digest=ref.digest, offset=offset)
        if offer is not None:
            request.encoding, request.base = _number(offer.encoding), offer.base
        left = (offer.wire_bytes if offer else ref.size_bytes) - offset
        timeout_s = _transfer_s(left)
        with self._quiet.packet() as packet:
            line = self._blobs.open()
            call = _begin(line.stub.Read, request, timeout=timeout_s)
            packet.attach(call.cancel)
            try:
                for chunk in call:
                    left -= len(chunk)
                    yield chunk
                line.healthy = True
            except grpc.RpcError as error:
                # Of a message that was cut off nobody knows how much had come.
                self._count(0, max(0, min(left, BLOB_CHUNK_BYTES)))
                raise _failure(line, error, packet) from error
            finally:
                call.cancel()

    def write(self, ref: ArtifactRef, path: Path) -> bool:
        """``Blobs.Write`` of the file at ``path``; whether the controller held it already."""
        named = artifact_pb2.ArtifactRef(
            digest=ref.digest, size_bytes=ref.size_bytes, media_type=ref.media_type
        )
        with self._quiet.packet() as packet, path.open("rb") as file:
            chunks = iter(lambda: file.read(BLOB_CHUNK_BYTES), b"")
            line = self._blobs.open()
            call = _begin(
                line.stub.Write.future,
                _write_requests(named, chunks),
                timeout=_transfer_s(ref.size_bytes),
            )
            return bool(_result(line, call, packet).already_held)

    def close(self) -> None:
        """Closes both channels."""
        self._fleet.close()
        self._blobs.close()


class _BlobsStub(blobs_pb2_grpc.BlobsStub):
    """Whose ``Read`` yields chunks, without a message made for each."""

    def __init__(self, channel: Any) -> None:
        super().__init__(channel)
        self.Read = channel.unary_stream(
            READ,
            request_serializer=blobs_pb2.ReadRequest.SerializeToString,
            response_deserializer=unframed,
        )


class _Line:
    """One channel; ``healthy`` once a call on it has succeeded."""

    def __init__(self, channel: grpc.Channel, stub: Any) -> None:
        self._channel = channel
        self.stub = stub
        self.healthy = False
        self.closed = False

    def close(self) -> None:
        self.closed = True
        self._channel.close()


class _Redial:
    """The line in use; a new one where that has been closed."""

    def __init__(
        self, dial: Callable[[], grpc.Channel], stub: Callable[[Any], Any], count: Count
    ) -> None:
        self._dial = dial
        self._stub = stub
        self._count = count
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def open(self) -> _Line:
        with self._lock:
            if self._line is None or self._line.closed:
                channel = self._dial()
                self._line = _Line(channel, self._stub(CountedChannel(channel, self._count)))
            return self._line

    def healthy(self) -> _Line | None:
        """The line in use where its last call did well."""
        line = self._line
        return line if line is not None and line.healthy and not line.closed else None

    def close(self) -> None:
        with self._lock:
            if self._line is not None:
                self._line.close()


def _begin(rpc: Callable[..., Any], request: Any, *, timeout: float) -> Any:
    try:
        return rpc(request, timeout=timeout)
    except ValueError as error:
        # Another thread's call failed and closed the channel since it was opened here.
        raise Unreachable("the connection was closed by another call") from error


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
    # A controller that is busy says so by the same code, over a connection that works.
    if failure.code == "unreachable" and not code_in(error):
        line.close()
    return failure


def _transfer_s(size_bytes: int) -> float:
    """A slow link is no failure; what is cut off here resumes where it was."""
    return 60.0 + size_bytes / _SLOWEST_BYTES_PER_S


def _number(encoding: Encoding) -> blobs_pb2.Encoding.ValueType:
    return blobs_pb2.Encoding.Value(f"ENCODING_{encoding.name}")


def _offer(reply: blobs_pb2.OfferResponse) -> Offer:
    for encoding in Encoding:
        if reply.encoding == _number(encoding):
            return Offer(encoding, reply.wire_bytes, reply.base, reply.window_log)
    raise BadMessage(f"the controller offers encoding {reply.encoding}, which nobody asked for")


def _write_requests(
    named: artifact_pb2.ArtifactRef, chunks: Iterable[bytes]
) -> Iterator[blobs_pb2.WriteRequest]:
    yield blobs_pb2.WriteRequest(artifact=named)
    for chunk in chunks:
        yield blobs_pb2.WriteRequest(data=chunk)
