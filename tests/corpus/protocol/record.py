"""Keeps the wire of a revision: what its .proto files say, and bytes that its stubs wrote.

    .venv/bin/python -m tests.corpus.protocol.record NAME REVISION

writes ``tests/corpus/protocol/NAME/``: ``descriptors.binpb`` (a FileDescriptorSet) and
``messages.json`` (each message with every field set, in hex). A kept revision is never written
anew; a release keeps one more. Needs git and the pinned generator (``make protos`` makes it).
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

HERE = Path(__file__).resolve().parent
_GENERATOR = HERE.parents[2] / "build" / "generator" / "bin" / "python"
_MOST_DEEP = 6


class Revision:
    """The stubs of a kept revision, and the bytes they wrote."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.files = FileDescriptorSet.FromString((folder / "descriptors.binpb").read_bytes())
        self._pool = DescriptorPool()
        for file in self.files.file:
            self._pool.Add(file)  # type: ignore[no-untyped-call]
        kept = folder / "messages.json"
        self.messages: dict[str, bytes] = (
            {name: bytes.fromhex(text) for name, text in json.loads(kept.read_text()).items()}
            if kept.exists()
            else {}
        )

    def stub(self, name: str) -> type[Message]:
        """The class of a message as this revision knew it."""
        return GetMessageClass(self._pool.FindMessageTypeByName(name))

    def names(self) -> Iterator[str]:
        """Every message of assay.v1, by full name."""
        for file in self.files.file:
            if file.package == "assay.v1":
                yield from (f"{file.package}.{message.name}" for message in file.message_type)


def kept() -> list[Revision]:
    """Every kept revision."""
    return [Revision(path.parent) for path in sorted(HERE.glob("*/descriptors.binpb"))]


def filled(message: Message, depth: int = 0) -> Message:
    """``message`` with every field set to a value of its own; returns it."""
    descriptor: Descriptor = message.DESCRIPTOR
    chosen = {oneof.fields[0].name for oneof in descriptor.oneofs}
    for field in descriptor.fields:
        if field.containing_oneof is not None and field.name not in chosen:
            continue
        if field.message_type is not None and depth == _MOST_DEEP:
            continue
        _set(message, field, depth)
    return message


def _set(message: Message, field: FieldDescriptor, depth: int) -> None:
    place: Any = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name
        if entry["value"].message_type is not None:
            filled(place[_value(entry["key"])], depth + 1)
        else:
            place[_value(entry["key"])] = _value(entry["value"])
    elif field.message_type is not None:
        target = place.add() if field.is_repeated else place
        target.SetInParent()
        filled(target, depth + 1)
    elif field.is_repeated:
        place.append(_value(field))
    else:
        setattr(message, field.name, _value(field))


def _value(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        return max(value.number for value in field.enum_type.values)
    return {
        FieldDescriptor.CPPTYPE_STRING: (
            field.name.encode() if field.type == FieldDescriptor.TYPE_BYTES else field.name
        ),
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: field.number + 0.5,
        FieldDescriptor.CPPTYPE_FLOAT: field.number + 0.5,
    }.get(field.cpp_type, field.number)


def record(name: str, revision: str) -> Path:
    """Keeps ``revision`` under ``name``; returns its folder."""
    folder = HERE / name
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision, "protos"],
        check=True,
        capture_output=True,
        cwd=HERE.parents[2],
    )
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(place)
        protos = Path(place) / "protos"
        sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
        out = folder / "descriptors.binpb"
        command = [_GENERATOR, "-m", "grpc_tools.protoc", f"-I{protos}", "--include_imports"]
        subprocess.run([*command, f"--descriptor_set_out={out}", *sources], check=True)
    kept_now = Revision(folder)
    messages = {
        each: filled(kept_now.stub(each)()).SerializeToString(deterministic=True).hex()
        for each in sorted(kept_now.names())
    }
    (folder / "messages.json").write_text(json.dumps(messages, indent=1) + "\n")
    return folder


if __name__ == "__main__":
    print(record(*sys.argv[1:]))
