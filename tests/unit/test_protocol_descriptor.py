"""Field numbers of assay.v1 are frozen: devices in the field speak the older ones.

A change shows up as a difference from ``tests/golden/assay_v1.descriptor.txt``. Adding is fine
(run this file as a program to write the golden file anew); renumbering, retyping and removing
without ``reserved`` is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from assay.v1 import (
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

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "assay_v1.descriptor.txt"
_FILES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
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
]
_TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def lines() -> Iterator[str]:
    """Every service, message and enum, one fact a line, in an order of their names."""
    for file in _FILES:
        yield f"file {file.name}"
        for service in file.services_by_name.values():
            for method in service.methods:
                sent = "stream " * method.client_streaming + method.input_type.full_name
                got = "stream " * method.server_streaming + method.output_type.full_name
                yield f"rpc {method.full_name} ({sent}) -> ({got})"
        for enum in sorted(file.enum_types_by_name.values(), key=lambda e: e.name):
            yield from _enum(enum)
        for message in sorted(file.message_types_by_name.values(), key=lambda m: m.name):
            yield from _message(message)


def _enum(enum: EnumDescriptor) -> Iterator[str]:
    for value in sorted(enum.values, key=lambda v: v.number):
        yield f"enum {enum.full_name} {value.number} = {value.name}"


def _message(message: Descriptor) -> Iterator[str]:
    for field in sorted(message.fields, key=lambda f: f.number):
        yield f"field {message.full_name} {field.number} = {_type(field)} {field.name}"
    for nested in sorted(message.nested_types, key=lambda m: m.name):
        yield from _message(nested)
    for enum in message.enum_types:
        yield from _enum(enum)


def _type(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    name = named.full_name if named is not None else _TYPES[field.type]
    repeated = "repeated " if field.is_repeated else ""
    optional = "optional " if field.has_presence and field.message_type is None else ""
    return repeated + optional + name


def test_no_field_number_has_changed() -> None:
    assert list(lines()) == GOLDEN.read_text().splitlines()


def test_every_field_kind_has_a_name() -> None:
    assert len(_TYPES) >= 18


if __name__ == "__main__":
    GOLDEN.write_text("\n".join(lines()) + "\n")
