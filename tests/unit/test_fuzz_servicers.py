"""Requests no agent of ours would send: every service refuses them by name or answers.

Each field is left out, or holds something that exists, something at an edge of its type, or
something made up; now and then the whole request is bytes at random. ``make soak`` tries for
longer, and anew each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from assay.controller.admin.sweeping import Here
from assay.controller.blobs.directory import DirectoryBlobs
from assay.controller.blobs.encodings import Encodings
from assay.controller.blobs.service import BlobsServicer
from assay.controller.home import Home
from assay.controller.identity.enrol import Enroller, create_token
from assay.controller.identity.pki import Authority
from assay.controller.planning import sweeps
from assay.controller.records import RecordOutcome
from assay.controller.server.admin import AdminServicer, Threads
from assay.controller.server.desk import Desk
from assay.controller.server.door import Door
from assay.controller.server.enrolment import EnrolmentServicer
from assay.controller.server.fleet import FleetServicer
from assay.controller.server.presence import Presence
from assay.controller.server.recorder import Recorder
from assay.controller.server.rest import Rest
from assay.controller.server.waiting import WaitingRoom
from assay.controller.store import open_store
from assay.controller.store.base import Store
from assay.core.errors import AlreadyExists, AssayError
from assay.core.model import MEDIA_NPZ
from assay.core.token import JoinToken
from assay.v1 import admin_pb2, blobs_pb2, enrolment_pb2, fleet_pb2, result_pb2
from tests.corpus.fuzz.decoders import HERE
from tests.corpus.protocol.record import kept
from tests.plane import S, cell, device, queued, ref, reported, result, sweep, variant
from tests.plane_client import Key

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
NOW_NS = int(NOW.timestamp()) * S
_EDGES = [0, 1, -1, 2, 7, 255, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1]
_BITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
"""What a whole number of each kind may be."""
_MOST_DEEP = 4


class Context:
    """What a servicer asks of its call: a device's certificate, on the account's own socket."""

    def auth_context(self) -> Mapping[str, list[bytes]]:
        return {"x509_subject_alternative_name": [b"assay://device/id-bench"]}

    def peer(self) -> str:
        return "unix:"

    def time_remaining(self) -> float:
        return 30.0


class NoWaiting(WaitingRoom):
    """Long-polls that end at once."""

    async def until_news(self, *_: object) -> None:
        return


@dataclass(slots=True)
class Plane:
    """Every servicer over one store that holds a little of everything."""

    store: Store
    presence: Presence
    fleet: FleetServicer
    enrolment: EnrolmentServicer
    admin: AdminServicer
    blobs: BlobsServicer
    words: list[str]
    bodies: list[bytes]

    def settle(self) -> None:
        """What the controller does with it every second; then the device is as before, whatever
        was found out about it."""
        self.presence.flush(NOW_NS, everything=True)
        self.presence.silences_ns(NOW_NS)
        sweeps.tend(self.store)
        self.store.expire_leases(NOW_NS, 3)
        self.presence.forget("id-bench")
        with contextlib.suppress(AlreadyExists):
            self.store.update_device(device())


@pytest.fixture(scope="module")
def plane() -> Iterator[Plane]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield from _plane(Home(Path(folder)))


def _plane(home: Home) -> Iterator[Plane]:
    store = open_store(home)
    store.add_device(device())
    store.add_variant(variant())
    store.add_sweep(sweep(), [cell()], [queued(f"r{n}", index=n) for n in range(3)])
    granted = store.lease_round("id-bench", 100 * S, NOW_NS)
    assert granted is not None
    attempt, _, sha256, body = reported(result(granted))
    token = create_token(home, store, uses=1000, now_ns=NOW_NS)
    authority = Authority(home.pki, NOW)
    threads = ThreadPoolExecutor(1)
    presence, rest, recorder = Presence(store), Rest(store), Recorder(store, lambda: NOW_NS)
    rest.look()
    enroller = Enroller(store, authority, lambda: NOW_NS)

    async def never() -> Any:
        raise AssertionError

    yield Plane(
        store,
        presence,
        FleetServicer(
            Desk(store, presence, lambda: NOW_NS, rest),
            enroller,
            NoWaiting(never),
            recorder,
            threads,
            random.Random(1),
        ),
        EnrolmentServicer(enroller, threads, fleet_address="a:1", blobs_address="a:2"),
        AdminServicer(
            home,
            Door(store, lambda: NOW_NS),
            Threads(threads, threads, threads, threads),
            Here(home, store),
        ),
        BlobsServicer(
            store, DirectoryBlobs(home.artifacts), Encodings(home.artifacts), lambda: NOW_NS
        ),
        [
            *("", "\0", "é", "x" * 300, "../..", "bench", "id-bench", "fp32", "s1", "sweep s1"),
            *("r0", attempt, sha256, str(token), JoinToken.parse(str(token)).token_id, MEDIA_NPZ),
            *(ref("model fp32").digest, ref("nobody's").digest, "sha256:" + "g" * 64),
            'name="x"\nvariants=["*"]\nbaseline="fp32"\n[[runtimes]]\nname="onnxruntime"',
        ],
        [b"", b"\0", body, body[:-1], body + b"\xff", Key().request(), authority.certificate_pem],
    )
    recorder.close()
    threads.shutdown()
    store.close()


def messages(cls: type[Message], plane: Plane, depth: int = 0) -> st.SearchStrategy[Any]:
    """Requests with any of their fields set."""
    fields = {
        field.name: _field(field, plane, depth)
        for field in cls.DESCRIPTOR.fields
        if depth < _MOST_DEEP or field.message_type is None
    }

    def built(chosen: dict[str, Any]) -> Any:
        message = cls()
        for name, value in chosen.items():
            _put(message, name, value)
        return message

    return st.fixed_dictionaries({}, optional=fields).map(built)


def _put(message: Any, name: str, value: Any) -> None:
    place = getattr(message, name)
    if isinstance(value, dict):
        place.update(value)
    elif isinstance(value, list):
        place.extend(value)
    elif isinstance(value, Message):
        place.CopyFrom(value)
    else:
        setattr(message, name, value)


def _field(field: FieldDescriptor, plane: Plane, depth: int) -> st.SearchStrategy[Any]:
    of = field.message_type
    if of is not None and of.GetOptions().map_entry:
        key, value = (of.fields_by_name[name] for name in ("key", "value"))
        return st.dictionaries(_one(key, plane, depth), _one(value, plane, depth), max_size=2)
    one = _one(field, plane, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _one(field: FieldDescriptor, plane: Plane, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(cast(Any, field.message_type)._concrete_class, plane, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from(plane.bodies) | st.binary(max_size=40)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.sampled_from(plane.words) | st.text(st.characters(codec="utf-8"), max_size=8)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in _BITS:
        low, high = _BITS[field.cpp_type]
        return st.sampled_from([edge for edge in _EDGES if low <= edge <= high])
    return st.floats(width=32 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else 64)


@dataclass(frozen=True, slots=True)
class Call:
    """One rpc: what it takes, and how it is made."""

    request: type[Message]
    make: Callable[[Plane, Any], Awaitable[Any]]


def _unary(servicer: str, method: str, request: type[Message]) -> tuple[str, Call]:
    async def make(plane: Plane, message: Any) -> Any:
        return await getattr(getattr(plane, servicer), method)(message, Context())

    return method, Call(request, make)


def _stream(servicer: str, method: str, request: type[Message]) -> tuple[str, Call]:
    async def make(plane: Plane, message: Any) -> Any:
        answers = getattr(getattr(plane, servicer), method)(message, Context())
        async for answer in answers:  # the first: a sweep may be watched for ever
            await answers.aclose()
            return answer

    return method, Call(request, make)


def _blobs(method: str, request: type[Message]) -> tuple[str, Call]:
    async def make(plane: Plane, message: Any) -> Any:
        return await asyncio.to_thread(_answer, plane, method, message)

    return method, Call(request, make)


def _answer(plane: Plane, method: str, message: Any) -> Any:
    if method == "Write":
        return plane.blobs.Write(iter([message, message]), Context())
    answer = getattr(plane.blobs, method)(message, Context())
    return list(answer) if method == "Read" else answer


def _of(module: Any) -> dict[str, bool]:
    """The rpcs of a file with one service, and whether they answer with a stream."""
    (service,) = module.DESCRIPTOR.services_by_name.values()
    return {method.name: method.server_streaming for method in service.methods}


CALLS: dict[str, Call] = dict(
    [
        _unary("fleet", "Sync", fleet_pb2.SyncRequest),
        _unary("fleet", "ReportResults", fleet_pb2.ReportResultsRequest),
        _unary("fleet", "RenewCertificate", fleet_pb2.RenewCertificateRequest),
        _unary("enrolment", "Enrol", enrolment_pb2.EnrolRequest),
        _unary("enrolment", "Renew", enrolment_pb2.RenewRequest),
        *(_blobs(name, getattr(blobs_pb2, f"{name}Request")) for name in _of(blobs_pb2)),
        *(
            (_stream if streams else _unary)("admin", name, getattr(admin_pb2, f"{name}Request"))
            for name, streams in _of(admin_pb2).items()
        ),
    ]
)


def kept_requests() -> list[Any]:
    """What older stubs wrote for each call, and what once broke one."""
    found = [
        (name, revision.name, revision.messages[request.DESCRIPTOR.full_name])
        for name, request in ((name, call.request) for name, call in CALLS.items())
        for revision in kept()
        if request.DESCRIPTOR.full_name in revision.messages
    ]
    found += [
        (path.parent.name, path.name, path.read_bytes())
        for path in sorted((HERE / "requests").glob("*/*"))
    ]
    return [pytest.param(name, data, id=f"{name}-{what}") for name, what, data in found]


def made(plane: Plane, name: str, request: Message) -> bool:
    """Whether it was answered; else it was refused by name."""
    try:
        asyncio.run(cast(Any, CALLS[name].make(plane, request)))
        return True
    except AssayError as error:
        assert str(error)
        return False
    finally:
        plane.settle()


def effort(examples: int, *, anew: bool) -> settings:
    return settings(
        max_examples=examples,
        derandomize=not anew,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


def fuzzed(name: str, plane: Plane, examples: int, *, anew: bool) -> Counter[bool]:
    """How many were answered, and how many refused."""
    call, seen = CALLS[name], Counter[bool]()

    @effort(examples, anew=anew)
    @given(messages(call.request, plane) | st.binary(max_size=40))
    def run(request: Message | bytes) -> None:
        try:
            if isinstance(request, bytes):
                request = call.request.FromString(request)
            else:
                request = call.request.FromString(request.SerializeToString())
        except DecodeError:
            return  # gRPC answers this one itself
        seen[made(plane, name, request)] += 1

    run()
    return seen


@pytest.mark.parametrize(("name", "data"), kept_requests())
def test_a_kept_request(name: str, data: bytes, plane: Plane) -> None:
    made(plane, name, CALLS[name].request.FromString(data))


@pytest.mark.parametrize("name", CALLS)
def test_odd_requests(name: str, plane: Plane) -> None:
    fuzzed(name, plane, 25, anew=False)


def fuzzed_results(plane: Plane, examples: int, *, anew: bool) -> Counter[RecordOutcome]:
    """Results that are whole but for a few odd fields: what is stored can be read again."""
    whole = result_pb2.Result.FromString(plane.bodies[2])
    seen = Counter[RecordOutcome]()

    @effort(examples, anew=anew)
    @given(messages(result_pb2.Result, plane), st.integers(-(2**63), 2**63 - 1))
    def run(odd: Any, seq: int) -> None:
        sent = result_pb2.Result()
        sent.CopyFrom(whole)
        sent.MergeFrom(odd)
        sent.attempt_id, sent.seq = whole.attempt_id, seq
        body = sent.SerializeToString()
        entry = (whole.attempt_id, seq, hashlib.sha256(body).hexdigest(), body)
        (outcome,) = plane.store.record("id-bench", [entry], NOW_NS)
        seen[outcome] += 1
        if outcome is not RecordOutcome.REJECTED:
            assert plane.store.result(whole.attempt_id)
            plane.store.sweep_marks("s1")
            plane.store.named_artifacts()

    run()
    return seen


def test_odd_results(plane: Plane) -> None:
    fuzzed_results(plane, 60, anew=False)
    assert plane.store.results(sweep_id="s1", superseded=True)


@pytest.mark.soak
def test_odd_results_for_long(plane: Plane, figures: Callable[..., None]) -> None:
    seen = fuzzed_results(plane, 3_000, anew=True)
    figures(results=seen.total(), rejected=seen[RecordOutcome.REJECTED])


@pytest.mark.soak
@pytest.mark.parametrize("name", CALLS)
def test_odd_requests_for_long(name: str, plane: Plane, figures: Callable[..., None]) -> None:
    seen = fuzzed(name, plane, 1_000, anew=True)
    figures(requests=seen.total(), refused=seen[False])
