"""Whether a file lies in the page cache, by mincore(2): a cold load reads the disk, a warm not."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path


def page_cache_state(path: Path) -> str:
    """``warm`` (all but a hundredth resident), ``cold`` (none), else ``unknown``."""
    try:
        share = _resident_share(path)
    except (OSError, ValueError, AttributeError):
        return "unknown"
    if share >= 0.99:
        return "warm"
    return "cold" if share == 0 else "unknown"


def _resident_share(path: Path) -> float:
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * pages)()
        start = (ctypes.c_char * len(mapped)).from_buffer(mapped)
        try:
            status = libc.mincore(ctypes.byref(start), ctypes.c_size_t(len(mapped)), resident)
        finally:
            del start
    if status != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in resident) / pages
