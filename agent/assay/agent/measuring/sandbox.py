"""Shuts a worker in, by its own hand and for good: no network, none of the agent's secrets.

Two means that need no privilege: a seccomp filter on the calls that make connections or look into
other processes, and Landlock rules that leave the agent's key, identity and spool out. Where the
kernel lacks one, the other still holds, and what was reached is said.
(seccomp(2); landlock(7): Linux 5.13 with ``landlock`` in /sys/kernel/security/lsm.)
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from assay.agent.home import AgentHome

NO_NETWORK: Final = "no_network"
NO_SECRETS: Final = "no_secrets"

_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER: Final = 1
# Without it a kernel before 5.16 slows every store of the worker down (speculation mitigation).
_SECCOMP_FILTER_FLAG_SPEC_ALLOW: Final = 4
_RET_ALLOW: Final = 0x7FFF0000
_RET_ERRNO: Final = 0x00050000
_RET_KILL_PROCESS: Final = 0x80000000
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x06
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_X32_BIT: Final = 0x40000000
# Local sockets, and netlink, by which some drivers listen for devices.
_FAMILIES_ALLOWED: Final = (1, 16)

_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_ADD_RULE: Final = 445
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_RULE_PATH_BENEATH: Final = 1
_LANDLOCK_VERSION: Final = 1
_READ_ONLY: Final = 1 << 0 | 1 << 2 | 1 << 3  # execute, read file, read directory
# By version of the kernel's interface: what it can forbid beneath a directory.
_RIGHTS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_RIGHTS_OF_FILES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14  # execute, write, read, truncate


@dataclass(frozen=True, slots=True)
class _Numbers:
    """System call numbers of one architecture."""

    audit_arch: int
    seccomp: int
    socket: int
    ptrace: int
    process_vm_readv: int
    process_vm_writev: int
    # The same everywhere.
    io_uring_setup: int = 425
    pidfd_getfd: int = 438


_BY_MACHINE: Final = {
    "x86_64": _Numbers(0xC000003E, 317, 41, 101, 310, 311),
    "aarch64": _Numbers(0xC00000B7, 277, 198, 117, 270, 271),
}


def enter(run_dir: Path) -> tuple[str, ...]:
    """Shuts this process and all it will start in; returns which of :data:`NO_NETWORK` and
    :data:`NO_SECRETS` hold from now on.

    The secrets are those of the agent's home that ``run_dir`` lies in; where it lies in none there
    is nothing to hide, and the second holds.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return ()
    home = home_around(run_dir)
    hidden = home is None or _hide(libc, home)
    cut_off = _cut_off(libc)
    return tuple(name for name, reached in ((NO_NETWORK, cut_off), (NO_SECRETS, hidden)) if reached)


def home_around(run_dir: Path) -> AgentHome | None:
    """The agent's home that a directory lies in, known by its identity or its key."""
    for parent in run_dir.resolve().parents:
        home = AgentHome(parent)
        if home.identity.exists() or home.key.exists():
            return home
    return None


def _cut_off(libc: ctypes.CDLL) -> bool:
    numbers = _BY_MACHINE.get(platform.machine())
    if numbers is None:
        return False
    program = _filter(numbers)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: count of 8-byte instructions, padding, pointer.
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    flags = _SECCOMP_FILTER_FLAG_SPEC_ALLOW
    done = libc.syscall(numbers.seccomp, _SECCOMP_SET_MODE_FILTER, flags, described)
    return int(done) == 0


def _filter(numbers: _Numbers) -> bytes:
    """The filter as classic BPF: foreign architectures die, the named calls fail with EPERM."""
    refused = (
        numbers.ptrace,
        numbers.process_vm_readv,
        numbers.process_vm_writev,
        numbers.io_uring_setup,
        numbers.pidfd_getfd,
    )
    families, refuse = len(_FAMILIES_ALLOWED), (_RETURN, 0, 0, _RET_ERRNO | errno.EPERM)
    # Each line: what, lines to skip where it is so, lines to skip where it is not, operand.
    lines = [
        (_LOAD, 0, 0, _OFFSET_ARCH),
        (_JUMP_EQUAL, 1, 0, numbers.audit_arch),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_AT_LEAST, len(refused) + 1, 0, _X32_BIT),
        *[(_JUMP_EQUAL, len(refused) - i, 0, number) for i, number in enumerate(refused)],
        (_JUMP, 0, 0, 1),
        refuse,
        (_JUMP_EQUAL, 0, families + 2, numbers.socket),
        (_LOAD, 0, 0, _OFFSET_FIRST_ARGUMENT),
        *[(_JUMP_EQUAL, families - i, 0, family) for i, family in enumerate(_FAMILIES_ALLOWED)],
        refuse,
        (_RETURN, 0, 0, _RET_ALLOW),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def _hide(libc: ctypes.CDLL, home: AgentHome) -> bool:
    version = libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    if version < 1:
        return False
    rights = _RIGHTS[min(version, max(_RIGHTS))]
    rules = libc.syscall(_LANDLOCK_CREATE_RULESET, struct.pack("Q", rights), 8, 0)
    if rules < 0:
        return False
    try:
        for path, allowed in _open_paths(home, rights):
            _allow(libc, rules, path, allowed)
        return int(libc.syscall(_LANDLOCK_RESTRICT_SELF, rules, 0)) == 0
    finally:
        os.close(rules)


def _open_paths(home: AgentHome, rights: int) -> Iterator[tuple[Path, int]]:
    """Everything but the home, by walking down to it, and of the home what a run is about."""
    root = home.root.resolve()
    read_only = rights & _READ_ONLY
    inside = {home.artifacts.resolve(): read_only, home.native.resolve(): read_only}
    inside[home.work.resolve()] = rights
    for directory in root.parents:
        for path in _entries(directory):
            if not root.is_relative_to(path):
                yield path, rights
    secrets = {each.name for each in (home.key, home.identity, home.spool)}
    secrets |= {home.rejected.name, home.rounds.name}
    for path in _entries(root):
        if path.name not in secrets:
            yield path, inside.get(path, rights)


def _entries(directory: Path) -> list[Path]:
    """What lies in ``directory``; no symbolic links, since a rule would hold for what they point
    at (and needs none for the link itself)."""
    try:
        return [path for path in directory.iterdir() if not path.is_symlink()]
    except OSError:
        return []


def _allow(libc: ctypes.CDLL, rules: int, path: Path, allowed: int) -> None:
    """A path that cannot be opened by this user needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            allowed &= _RIGHTS_OF_FILES
        rule = struct.pack("=Qi", allowed, descriptor)
        libc.syscall(_LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)
