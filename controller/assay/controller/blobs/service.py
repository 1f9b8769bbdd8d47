"""Blobs on the wire: synchronous, because a thread that copies is cheaper than a loop that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import grpc

from assay.controller.blobs.base import Blobs
from assay.controller.blobs.counting import RECEIVED, SENT, ByteCount
from assay.controller.blobs.encodings import Encodings
from assay.controller.blobs.limits import DailyQuota, TransferSlots
from assay.controller.publishing.envelopes import Envelopes
from assay.controller.records import Admission
from assay.controller.server.peer import admitted, device_id_of
from assay.controller.store.base import Store
from assay.core import log
from assay.core.channel import status_of
from assay.core.digest import is_digest
from assay.core.encoding import Encoding
from assay.core.errors import AssayError, BadMessage, PermissionDenied
from assay.core.framing import READ, framed
from assay.core.model import MEDIA_NPZ, ArtifactRef
from assay.v1 import blobs_pb2, blobs_pb2_grpc

MAX_TRACE_BYTES = 256 << 20
TRANSFERS_PER_DEVICE = 8
TRACE_BYTES_PER_DAY = 8 << 30
_MAX_DIGESTS = 1_000
_MAX_BASES = 100
_NUMBERS = {
    encoding: blobs_pb2.Encoding.Value(f"ENCODING_{encoding.name}") for encoding in Encoding
}
_ENCODINGS: Mapping[int, Encoding] = {
    blobs_pb2.ENCODING_UNSPECIFIED: Encoding.IDENTITY,
    **{number: encoding for encoding, number in _NUMBERS.items()},
}

_log = log.get(__name__)


class BlobsServicer(blobs_pb2_grpc.BlobsServicer):
    """A device reads what its leases name and writes traces within its quota."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        encodings: Encodings,
        now_ns: Callable[[], int],
        count: ByteCount | None = None,
        envelopes: Envelopes | None = None,
    ) -> None:
        self._count = count or ByteCount()
        self._store = store
        self._blobs = blobs
        self._encodings = encodings
        self._envelopes = envelopes
        self._quota = DailyQuota(TRACE_BYTES_PER_DAY, now_ns)
        self._slots = TransferSlots(TRANSFERS_PER_DEVICE)

    def FindMissing(
        self, request: blobs_pb2.FindMissingRequest, context: Any
    ) -> blobs_pb2.FindMissingResponse:
        """Which of these are not held."""
        admitted(self._store, device_id_of(context))
        if len(request.digests) > _MAX_DIGESTS:
            raise BadMessage(f"ask for at most {_MAX_DIGESTS} digests at once")
        _check_digests(request.digests)
        missing = [digest for digest in request.digests if not self._blobs.has(digest)]
        return blobs_pb2.FindMissingResponse(digests=missing)

    def Signatures(
        self, request: blobs_pb2.SignaturesRequest, context: Any
    ) -> blobs_pb2.SignaturesResponse:
        """The envelopes that name any of these, those behind one where it is named."""
        device = admitted(self._store, device_id_of(context))
        if len(request.digests) > _MAX_DIGESTS:
            raise BadMessage(f"ask for at most {_MAX_DIGESTS} digests at once")
        for digest in request.digests:
            self._check_reader(device, digest)
        if self._envelopes is None:
            return blobs_pb2.SignaturesResponse(more=False)
        found, more = self._envelopes.covering(request.digests, request.after)
        return blobs_pb2.SignaturesResponse(envelopes=found, more=more)

    def Offer(self, request: blobs_pb2.OfferRequest, context: Any) -> blobs_pb2.OfferResponse:
        """The encoding that costs the fewest bytes."""
        device = self._reader(request.digest, context)
        if len(request.bases) > _MAX_BASES:
            raise BadMessage(f"name at most {_MAX_BASES} bases")
        _check_digests(request.bases)
        bases = self._store.ever_leased(device.device_id, request.bases)
        accepted = {_encoding_of(number) for number in request.encodings if number in _ENCODINGS}
        with self._slots.one(device.device_id):
            offer = self._encodings.offer(
                request.digest,
                accepted,
                [base for base in request.bases if base in bases],
                request.memory_bytes,
            )
        return blobs_pb2.OfferResponse(
            encoding=_NUMBERS[offer.encoding],
            base=offer.base,
            wire_bytes=offer.wire_bytes,
            window_log=offer.window_log,
        )

    def _reader(self, digest: str, context: Any) -> Admission:
        device = admitted(self._store, device_id_of(context))
        self._check_reader(device, digest)
        return device

    def _check_reader(self, device: Admission, digest: str) -> None:
        _check_digests([digest])
        if not self._store.may_read(device.device_id, digest):
            raise PermissionDenied(f"no lease of device {device.name} names artifact {digest}")

    def Read(self, request: blobs_pb2.ReadRequest, context: Any) -> Iterator[Any]:
        """One file from an offset: chunks, framed by :class:`RawChunks`."""
        device = self._reader(request.digest, context)
        if request.base and not self._store.ever_leased(device.device_id, [request.base]):
            raise PermissionDenied(f"no lease of device {device.name} named base {request.base}")
        with self._slots.one(device.device_id):
            encoding, chunks = self._chunks(request)
            yield from self._count.passing(SENT, encoding, chunks)

    def _chunks(self, request: blobs_pb2.ReadRequest) -> tuple[Encoding, Iterator[bytes]]:
        encoding = _encoding_of(request.encoding)
        if encoding is Encoding.IDENTITY:
            return encoding, self._blobs.read(request.digest, request.offset)
        if encoding.has_base:
            _check_digests([request.base])
        chunks = self._encodings.read(request.digest, encoding, request.base, request.offset)
        return encoding, chunks

    def Write(
        self, request_iterator: Iterator[blobs_pb2.WriteRequest], context: Any
    ) -> blobs_pb2.WriteResponse:
        """One trace."""
        device = admitted(self._store, device_id_of(context))
        with self._slots.one(device.device_id):
            return self._write(device, request_iterator)

    def _write(
        self, device: Admission, request_iterator: Iterator[blobs_pb2.WriteRequest]
    ) -> blobs_pb2.WriteResponse:
        first = next(request_iterator, None)
        if first is None or not first.HasField("artifact"):
            raise BadMessage("the first message of a Write must name the artifact")
        artifact = first.artifact
        ref = ArtifactRef(artifact.digest, artifact.size_bytes, artifact.media_type)
        _check_trace(ref)
        if not self._blobs.has(ref.digest):
            self._quota.take(device.device_id, ref.size_bytes)
        data = self._count.passing(RECEIVED, Encoding.IDENTITY, _data(first, request_iterator))
        stored = self._blobs.write(ref, data)
        if stored:
            _log.info("trace received", device=device.name, digest=ref.digest, size=ref.size_bytes)
        return blobs_pb2.WriteResponse(already_held=not stored)


class RawChunks(grpc.ServerInterceptor):
    """Lets ``Read`` send the chunks as they are, without a message made for each."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Gives the handler of ``Read`` another serialiser."""
        handler: Any = continuation(handler_call_details)
        if handler is None or handler_call_details.method != READ:
            return handler
        return handler._replace(response_serializer=framed)


class BlobsGuard(grpc.ServerInterceptor):
    """The one place where errors become gRPC statuses on the blob server."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wraps the handler of one call, whatever its shape."""
        handler: Any = continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        return handler._replace(
            unary_unary=_guard_unary(handler.unary_unary, method),
            stream_unary=_guard_unary(handler.stream_unary, method),
            unary_stream=_guard_stream(handler.unary_stream, method),
        )


def _guard_unary(behaviour: Any, method: str) -> Any:
    def call(request: Any, context: Any) -> Any:
        try:
            return behaviour(request, context)
        except Exception as error:
            raised = error
        _abort(context, _as_assay(raised, method))

    return behaviour and call


def _guard_stream(behaviour: Any, method: str) -> Any:
    def call(request: Any, context: Any) -> Iterator[Any]:
        try:
            yield from behaviour(request, context)
            return
        except Exception as error:
            raised = error
        _abort(context, _as_assay(raised, method))

    return behaviour and call


def _abort(context: Any, error: AssayError) -> None:
    status, message, trailing = status_of(error)
    context.set_trailing_metadata(trailing)
    context.abort(status, message)


def _as_assay(error: Exception, method: str) -> AssayError:
    if isinstance(error, AssayError):
        _log.info("call refused", method=method, code=error.code, reason=str(error))
        return error
    _log.error("call failed", method=method, exc_info=error)
    return AssayError("the controller failed to answer this call; its log says why")


def _encoding_of(number: int) -> Encoding:
    found = _ENCODINGS.get(number)
    if found is None:
        raise BadMessage(f"encoding {number} is not known here; upgrade the controller")
    return found


def _check_digests(digests: Iterable[str]) -> None:
    for digest in digests:
        if not is_digest(digest):
            raise BadMessage(f"{digest!r} is not of the form sha256:<64 hex digits>")


def _check_trace(ref: ArtifactRef) -> None:
    _check_digests([ref.digest])
    if ref.media_type != MEDIA_NPZ:
        raise BadMessage(f"devices send traces ({MEDIA_NPZ}), not {ref.media_type!r}")
    if not 0 < ref.size_bytes <= MAX_TRACE_BYTES:
        raise BadMessage(f"a trace has 1 to {MAX_TRACE_BYTES} bytes, not {ref.size_bytes}")


def _data(first: blobs_pb2.WriteRequest, rest: Iterator[blobs_pb2.WriteRequest]) -> Iterator[bytes]:
    yield first.data
    for message in rest:
        yield message.data
