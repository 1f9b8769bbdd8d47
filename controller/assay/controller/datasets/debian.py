"""Data that Debian packages, installed where we may."""

from __future__ import annotations

import os
import shutil
import subprocess

from assay.core.errors import NotFound, Unreachable

_LOCK_TIMEOUT_S = 120
_TIMEOUT_S = 300


def install(package: str) -> None:
    """Installs ``package`` with apt-get, fetching the package lists first where they lack it.

    :class:`NotFound` without apt-get or root, :class:`Unreachable` where apt-get fails; its lock is
    waited for, two minutes at most.
    """
    if shutil.which("apt-get") is None:
        raise NotFound("there is no apt-get here")
    if os.geteuid() != 0:
        raise NotFound(f"only root may install it: sudo apt-get install {package}")
    last = _apt_get("install", "--yes", "--no-install-recommends", package)
    if last:
        _apt_get("update")
        last = _apt_get("install", "--yes", "--no-install-recommends", package)
    if last:
        raise Unreachable(f"apt-get install {package} failed: {last}")


def _apt_get(*arguments: str) -> str:
    """Runs apt-get; "" where it succeeded, else what it said last."""
    command = ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={_LOCK_TIMEOUT_S}", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_TIMEOUT_S} s"
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return "" if done.returncode == 0 else (said[-1] if said else f"status {done.returncode}")
