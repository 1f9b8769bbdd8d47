"""Devices in the field speak older revisions of assay.v1; tests/corpus/protocol keeps some.

What an older side wrote is read today, what today's side writes is read by an older one, and no
number ever means something else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf import symbol_database
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from assay.core import convert, model
from assay.v1 import (  # every file, so that the pool knows each message
    admin_pb2,
    artifact_pb2,
    blobs_pb2,
    device_pb2,
    enrolment_pb2,
    fleet_pb2,
    job_pb2,
    result_pb2,
    worker_pb2,
)
from tests.corpus.protocol.record import Revision, filled, kept

REVISIONS = kept()
MODULES: tuple[Any, ...] = (
    admin_pb2,
    artifact_pb2,
    blobs_pb2,
    device_pb2,
    enrolment_pb2,
    fleet_pb2,
    job_pb2,
    result_pb2,
    worker_pb2,
)
MESSAGES = [(each, name) for each in REVISIONS for name in each.messages]
VALUES = {
    cls.__name__: cls
    for cls in (getattr(model, name) for name in model.__all__)
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls is not model.Absent
}

revision = pytest.mark.parametrize("old", REVISIONS, ids=lambda each: each.name)
message = pytest.mark.parametrize(
    ("old", "name"), MESSAGES, ids=[f"{each.name}-{name}" for each, name in MESSAGES]
)


def today() -> FileDescriptorSet:
    described = FileDescriptorSet()
    for module in MODULES:
        module.DESCRIPTOR.CopyToProto(described.file.add())
    return described


def stub(name: str) -> type[Message]:
    """Today's class of a message."""
    return GetMessageClass(symbol_database.Default().pool.FindMessageTypeByName(name))


def numbers(files: FileDescriptorSet) -> dict[str, str]:
    """What every number of the wire means, and every call: ``place → meaning``."""
    found: dict[str, str] = {}
    for file in files.file:
        if file.package != "assay.v1":
            continue
        _enums(file.package, file.enum_type, found)
        for one in file.message_type:
            _message(f"{file.package}.{one.name}", one, found)
        _calls(file, found)
    return found


def _message(name: str, one: DescriptorProto, found: dict[str, str]) -> None:
    for field in one.field:
        kept_by = "optional " if field.proto3_optional else ""
        found[f"{name} {field.number}"] = (
            f"{field.name}: {kept_by}{field.label} {field.type} {field.type_name}"
        )
    _enums(name, one.enum_type, found)
    for nested in one.nested_type:
        _message(f"{name}.{nested.name}", nested, found)


def _enums(name: str, enums: Iterable[EnumDescriptorProto], found: dict[str, str]) -> None:
    for enum in enums:
        found.update((f"{name}.{enum.name} {v.number}", v.name) for v in enum.value)


def _calls(file: FileDescriptorProto, found: dict[str, str]) -> None:
    for service in file.service:
        for call in service.method:
            found[f"/{file.package}.{service.name}/{call.name}"] = (
                f"{call.input_type} {call.client_streaming} -> "
                f"{call.output_type} {call.server_streaming}"
            )


def reserved(files: FileDescriptorSet) -> set[str]:
    """The numbers of messages that may never be used again."""
    return {
        f"{file.package}.{one.name} {number}"
        for file in files.file
        for one in file.message_type
        for span in one.reserved_range
        for number in range(span.start, span.end)
    }


def test_something_is_kept() -> None:
    assert len(REVISIONS) >= 2 and all(len(each.messages) > 20 for each in REVISIONS)


@revision
def test_no_number_means_something_else(old: Revision) -> None:
    now = numbers(today())
    before = numbers(old.files)
    changed = {
        place: (was, now[place]) for place, was in before.items() if now.get(place, was) != was
    }
    assert changed == {}
    gone = {place for place in before if place not in now}
    assert gone <= reserved(today()), "what is removed must be reserved"


@message
def test_today_reads_what_an_older_side_wrote(old: Revision, name: str) -> None:
    sent = old.messages[name]
    read = stub(name).FromString(sent)
    assert len(UnknownFieldSet(read)) == 0
    back = old.stub(name).FromString(read.SerializeToString())
    assert back == old.stub(name).FromString(sent)


@message
def test_an_older_side_reads_what_today_writes(old: Revision, name: str) -> None:
    sent = filled(stub(name)())
    read = old.stub(name).FromString(sent.SerializeToString())
    for field in read.DESCRIPTOR.fields:
        if field.message_type is None and field.enum_type is None:
            assert getattr(read, field.name) == getattr(sent, field.name)
    # What it does not know passes through it unharmed.
    assert stub(name).FromString(read.SerializeToString()) == sent


@pytest.mark.parametrize(
    ("old", "name"),
    [(each, name) for each, name in MESSAGES if name.removeprefix("assay.v1.") in VALUES],
    ids=lambda each: getattr(each, "name", each),
)
def test_an_older_message_is_still_a_value(old: Revision, name: str) -> None:
    """No part that was added since is required of those who cannot know it."""
    cls = VALUES[name.removeprefix("assay.v1.")]
    assert isinstance(convert.from_bytes(old.messages[name], cls), cls)


def test_a_newer_field_does_not_disturb() -> None:
    """A peer that is ahead of us: its field is passed over, and kept in what we pass on."""
    ahead = b"\xfa\xff\xff\xff\x0f\x03new"  # field 536870911, the last there is, of three bytes
    sent = REVISIONS[-1].messages["assay.v1.Result"]
    value = convert.from_bytes(sent + ahead, model.Result)
    assert value == convert.from_bytes(sent, model.Result)
    assert ahead in stub("assay.v1.Result").FromString(sent + ahead).SerializeToString()
