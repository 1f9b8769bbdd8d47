"""Phones for tests: a real adbd in a root of its own, in a network namespace of its own.

What answers behind it (getprop, dumpsys, a benchmark binary) are small scripts in that root, and
the kernel files are those of a composed board: adbd, adb, the link and its breaks are real.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.boards import composed
from tests.system.hosts import processes
from tests.system.hosts.image import recipe_of_this_machine
from tests.system.hosts.lab import cache_directory
from tests.system.hosts.network import PREFIX, Lan

PROGRAMS = ("mmdebstrap", "adb", "ip", "unshare", "nsenter", "setpriv")
PORT = 5838
_INCLUDE = "adbd,busybox-static,bash,coreutils"
_ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
# The first release that has adbd; a machine of a later one uses its own.
_FIRST_SUITE, _WITHOUT = "trixie", ("bullseye", "bookworm")

GETPROP = """#!/bin/sh
[ "$1" = ro.build.version.sdk ] && echo 34 && exit
cat <<'END'
[ro.serialno]: [{serial}]
[ro.product.manufacturer]: [Example]
[ro.product.model]: [Phone {serial}]
[ro.soc.model]: [EX9000]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
END
"""
DUMPSYS = """#!/bin/sh
case "$1" in
thermalservice) echo "Thermal Status: 0"; echo "HAL Ready: true"; echo "Temperature{mValue=31}" ;;
battery) printf 'Current state:\\n  USB powered: false\\n  level: 80\\n  scale: 100\\n' ;;
power) echo "  mWakefulness=Asleep" ;;
esac
"""
# Keeps what it was told last.
CMD = """#!/bin/sh
echo "$*" >> /cmd.log
"""
BENCHMARK = """#!/bin/sh
echo "STARTING! $*"
sleep "${ASSAY_TEST_SECONDS:-1}"
echo "count=150 first=14500 curr=14600 min=14200 max=15500 avg=14575.2 std=90 p5=14300 \
median=14570 p95=14800"
echo "Inference timings in us: Init: 5685, First inference: 18535, Warmup (avg): 14462.3, \
Inference (avg): 14575.2"
"""
PERF_TEST = """#!/bin/sh
cat <<'END'
Session creation time cost: 0.0104 s
Total inference requests: 500
Average inference time cost: 2.361 ms
Min Latency: 0.0021 s
Max Latency: 0.0093 s
P50 Latency: 0.00236 s
P90 Latency: 0.00241 s
END
"""


@dataclass(slots=True)
class Tethered:
    """One phone: its root, its number on the network, and the process that is its adbd."""

    root: Path
    number: int
    serial: str
    adbd: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Where adb connects to."""
        return f"{PREFIX}.{self.number}:5555"


class Bench:
    """A network with phones on it; :meth:`close` leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lan = Lan()
        self.phones: list[Tethered] = []
        self.adb = directory / "adb"
        inside = " ".join(self.lan.outside.command([shutil.which("adb") or "adb"]))
        self.adb.write_text(f'#!/bin/sh\nexec {inside} "$@"\n')
        self.adb.chmod(0o755)

    def phone(self, serial: str, number: int, data_bytes: int = 64 << 20) -> Tethered:
        """A phone that listens; its /data holds ``data_bytes``."""
        root = self.directory / f"phone-{number}"
        subprocess.run(["cp", "-a", str(image()), str(root)], check=True)
        _furnish(root, serial)
        data = f"{root}/data"
        mount = f"mount -t tmpfs -o size={data_bytes} phone {data} && mkdir -p {data}/local/tmp"
        script = f"{mount} && exec chroot {root} {_ADBD}"
        inside = self.lan.host(number)
        command = inside.command(["unshare", "--mount", "sh", "-c", script])
        adbd = processes.start(command, self.directory / f"adbd-{number}.log")
        phone = Tethered(root, number, serial, adbd)
        self.phones.append(phone)
        listening = inside.command(["ss", "-Hltn", "sport", "=", ":5555"])
        processes.eventually(
            lambda: subprocess.run(listening, capture_output=True, check=True).stdout,
            "adbd listens",
        )
        return phone

    def close(self) -> None:
        """Ends adb's server, the phones and the network, and removes their files."""
        subprocess.run([str(self.adb), "-P", str(PORT), "kill-server"], check=False, timeout=20)
        for phone in self.phones:
            processes.kill(phone.adbd)
        self.lan.close()
        for phone in self.phones:
            shutil.rmtree(phone.root, ignore_errors=True)


def image() -> Path:
    """The root every phone starts from, made once (20 s) and kept in the cache."""
    recipe = recipe_of_this_machine()
    suite = _FIRST_SUITE if recipe.suite in _WITHOUT else recipe.suite
    uri = next(source for source in recipe.sources if f" {recipe.suite} " in source).split()[1]
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"phone-{suite}-1"
    with (cache / "phone.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            partial = root.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract"]
            source = f"deb {uri} {suite} main"
            subprocess.run(
                [*command, f"--include={_INCLUDE}", suite, str(partial), source], check=True
            )
            subprocess.run(["chroot", str(partial), "/bin/busybox", "--install", "-s"], check=False)
            partial.rename(root)
    return root


def _furnish(root: Path, serial: str) -> None:
    shutil.copytree(composed("phone_milliamp"), root, dirs_exist_ok=True)
    (root / "data").mkdir(exist_ok=True)
    # One cluster of one CPU, which every machine has.
    cpufreq = root / "sys/devices/system/cpu/cpufreq"
    for policy in cpufreq.iterdir():
        if policy.name != "policy0":
            shutil.rmtree(policy)
    for path in (cpufreq / "policy0/related_cpus", cpufreq / "policy0/affected_cpus"):
        path.write_text("0\n")
    (root / "sys/devices/system/cpu/online").write_text("0\n")
    scripts = {"getprop": GETPROP.replace("{serial}", serial), "dumpsys": DUMPSYS}
    for name, text in {**scripts, "settings": "#!/bin/sh\necho 1\n", "cmd": CMD}.items():
        path = root / "usr/bin" / name
        path.write_text(text)
        path.chmod(0o755)
    shell = root / "usr/bin/sh"
    if not os.path.lexists(shell):
        shell.symlink_to("bash")
