"""What a Python interpreter on a host is good for."""

from __future__ import annotations

import json
import subprocess

LEAST = {"agent": (3, 10), "controller": (3, 11)}

_ASK = """
import json, platform, struct, sys, sysconfig
try:
    import venv, ensurepip
    can_make_venvs = True
except ImportError:
    can_make_venvs = False
print(json.dumps({
    "version": platform.python_version(),
    "tag": "cp%d%d" % sys.version_info[:2],
    "release": list(sys.version_info[:2]),
    "bits": struct.calcsize("P") * 8,
    "machine": sysconfig.get_platform().split("-", 1)[1].replace("-", "_"),
    "libc": " ".join(platform.libc_ver()),
    "can_make_venvs": can_make_venvs,
}))
"""
_PROVIDERS = "import json, onnxruntime; print(json.dumps(onnxruntime.get_available_providers()))"


def facts(executable: str) -> dict:
    """Version, tag, word size and machine of an interpreter; ``{"problem": why}`` if it is none."""
    return _ask(executable, _ASK)


def problem(found: dict, role: str) -> str:
    """Why this interpreter cannot run ``role`` ("agent" or "controller") and what to do; or ""."""
    if "problem" in found:
        return found["problem"]
    least = LEAST[role]
    if tuple(found["release"]) < least:
        wanted = ".".join(map(str, least))
        return (
            f"Python {found['version']} is too old, the {role} needs {wanted} or later: install "
            f"one beside the system's and name it in {role}_python"
        )
    if found["bits"] < 64:
        return (
            f"this is a 32-bit user space ({found['machine']}), for which the runtimes publish "
            "nothing: install a 64-bit system image"
        )
    return ""


def onnxruntime_providers(executable: str) -> list:
    """The execution providers of an onnxruntime that came with the system; empty without one."""
    found = _ask(executable, _PROVIDERS)
    return found if isinstance(found, list) else []


def _ask(executable: str, code: str):
    try:
        done = subprocess.run(
            [executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"problem": f"{executable} cannot be run: {error}"}
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return {"problem": f"{executable} is no usable Python: {said[-1] if said else 'silent'}"}
