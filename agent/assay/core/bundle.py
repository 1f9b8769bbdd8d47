"""A model of several files as one artifact: a zip that is stored, ordered and without times.

An ONNX file may keep its weights in files beside it. What a device gets is then a bundle: the model
as ``model.onnx``, first, and after it each file under the name by which the model asks for it. A
bundle is known by its first bytes, which no model file has. Equal files are equal bytes.
Reference: docs/decisions/bundles.md.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from assay.core.errors import BadMessage, DiskFull

MODEL = "model.onnx"
MAX_BYTES = 64 << 30
MAX_FILES = 4096
# What zipfile raises over bytes that are not what they claim to be.
_UNREADABLE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)
_MARK = b"PK\x03\x04"
_TIME = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 20
_MAX_NAME = 200


def is_bundle(path: Path) -> bool:
    """Whether the file is one of :func:`pack`."""
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK


def why_unsafe(name: str) -> str:
    """Why a file may not be called ``name`` beside a model; empty where it may."""
    path = PurePosixPath(name)
    if not name or len(name) > _MAX_NAME or any(ord(one) < 32 for one in name):
        return "is no name of a file"
    if "\\" in name or ":" in name or path.is_absolute():
        return "is not relative to the model"
    if ".." in path.parts:
        return "leads out of the model's folder"
    if str(path) != name or name == ".":
        return "is written in a roundabout way"
    return ""


def pack(target: Path, model: Path, beside: Mapping[str, Path]) -> None:
    """Writes the bundle of a model and the files it asks for; their names must be safe."""
    members = {MODEL: model, **dict(sorted(beside.items()))}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, path in members.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            info.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(info, "w") as member:
                shutil.copyfileobj(source, member, _CHUNK_BYTES)


def unpack(bundle: Path, folder: Path) -> Path:
    """Writes the files of a bundle below ``folder``, which must exist and be empty, and returns the
    model's.

    :class:`BadMessage` for anything :func:`pack` would not write: a compressed member (as in a zip
    bomb), a name that leads elsewhere, more bytes than the bundle has. :class:`DiskFull` where
    there is no room.
    """
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = _checked(bundle, archive.infolist())
            for info in members:
                target = folder / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, _CHUNK_BYTES)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = bundle.stat().st_size
            raise DiskFull(f"no room to unpack {size} bytes of model in {folder}") from error
        raise BadMessage(f"{bundle.name} cannot be unpacked: {error}") from error
    except _UNREADABLE as error:
        raise BadMessage(f"{bundle.name} is not a model of several files: {error}") from error
    return folder / MODEL


def _checked(bundle: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    def refused(why: str) -> BadMessage:
        return BadMessage(f"{bundle.name} is not a model of several files: {why}")

    if not members or members[0].filename != MODEL:
        raise refused(f"its first member is not {MODEL}")
    if len(members) > MAX_FILES:
        raise refused(f"it has {len(members)} files, more than {MAX_FILES}")
    for info in members:
        unsafe = why_unsafe(info.filename)
        if unsafe:
            raise refused(f"the name {info.filename!r} {unsafe}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise refused(f"{info.filename} is compressed")
    names = {info.filename for info in members}
    if len(names) != len(members):
        raise refused("two of its files have one name")
    total, held = sum(info.file_size for info in members), os.stat(bundle).st_size
    if total > min(held, MAX_BYTES):
        raise refused(f"its files would take {total} bytes, and it has {held}")
    return members
