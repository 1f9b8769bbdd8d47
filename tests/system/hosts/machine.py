"""One host: the image under a layer of its own, booted by systemd-nspawn, reached by ssh."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.system.hosts import processes, trees
from tests.system.hosts.cgroups import Cgroup
from tests.system.hosts.image import USER
from tests.system.hosts.network import PREFIX, Lan

_SCRIPT = Path(__file__).with_name("boot.sh")
_BOOT_S = 30.0
_FIRST_UID = 1000
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def ssh_options(key: Path) -> list[str]:
    """How the tests log in: this key, no questions, no trace in anybody's known_hosts."""
    pairs = {
        "BatchMode": "yes",
        "ConnectTimeout": "3",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    return ["-i", str(key), *(f"-o{name}={value}" for name, value in pairs.items())]


class Machine:
    """A Debian host at ``PREFIX.number``; what it writes lies in ``directory/upper``."""

    def __init__(
        self, name: str, number: int, image: Path, directory: Path, lan: Lan, key: Path
    ) -> None:
        self.name = name
        self.number = number
        self.address = f"{PREFIX}.{number}"
        self.upper = directory / "upper"
        self.console = directory / "console.log"
        self._directory = directory
        self._image = image
        self._lan = lan
        self._key = key
        self._inside = lan.host(number)
        self._cgroup = Cgroup(name)
        self._process: subprocess.Popen[bytes] | None = None
        self.install()

    def install(self) -> None:
        """A disk as after a new installation, with its own host key and the tests' public key."""
        for layer in ("upper", "work", "root"):
            trees.remove(self._directory / layer)
            (self._directory / layer).mkdir(parents=True)
        self._let_in(self.upper / "root", 0)
        self._let_in(self.upper / f"home/{USER}", _FIRST_UID)
        etc = self.upper / "etc/ssh"
        etc.mkdir(parents=True)
        (self.upper / "etc/hostname").write_text(f"{self.name}\n")
        host_key = str(etc / "ssh_host_ed25519_key")
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", host_key],
            check=True,
        )

    def start(self) -> None:
        """Boots it; returns at once, see :meth:`wait`."""
        spaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        script = ("sh", str(_SCRIPT), str(self._image), str(self._directory), self.name)
        command = [*spaces, *script, *map(str, self._cgroup.procs)]
        self._process = processes.start(self._inside.command(command), self.console)

    def wait(self) -> None:
        """Waits until ssh answers and systemd has started everything."""
        processes.eventually(self._up, f"{self.name} up", timeout_s=_BOOT_S)

    def cut_power(self) -> None:
        """Ends every process of the host at once, as a pulled plug would."""
        if self._process is not None:
            processes.kill(self._process)
            self._process = None
        self._cgroup.kill()

    def reboot(self) -> None:
        """An orderly reboot; returns when the new boot is up."""
        before = self.run(_BOOT_ID)
        self.run("systemctl reboot", check=False)
        processes.eventually(
            lambda: self._up() and self.run(_BOOT_ID, check=False) not in ("", before),
            f"{self.name} rebooted",
            timeout_s=2 * _BOOT_S,
        )

    def plug(self, *, connected: bool) -> None:
        """Plugs its network cable in or out."""
        self._lan.plug(self.number, connected=connected)

    def ssh(self, script: str) -> list[str]:
        """The command that runs ``script`` on it."""
        login = ["ssh", *ssh_options(self._key), f"root@{self.address}"]
        return self._lan.outside.command([*login, script])

    def run(self, script: str, *, check: bool = True, timeout_s: float = 60.0) -> str:
        """What ``script`` prints there; with ``check`` a status other than 0 is an error."""
        done = subprocess.run(
            self.ssh(script),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{self.name}: {script!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def put(self, source: Path, target: str) -> None:
        """Copies a file there."""
        login = self.ssh(f"cat >{shlex.quote(target)}")
        with source.open("rb") as file:
            subprocess.run(login, stdin=file, check=True)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as ``systemctl show`` has them."""
        wanted = [f"--property={each}" for each in properties]
        text = self.run(shlex.join(["systemctl", "show", name, *wanted]))
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def files(self) -> dict[str, int]:
        """Every path this host has written since its installation, with its mode; 0 is a deleted
        one. Read from the layer itself: nothing on the host can hide from it."""
        return {
            str(path.relative_to(self.upper)): path.lstat().st_mode
            for path in self.upper.rglob("*")
        }

    def close(self) -> None:
        """Cuts the power and removes the control group."""
        self.cut_power()
        self._cgroup.close()

    def _let_in(self, home: Path, uid: int) -> None:
        ssh = home / ".ssh"
        ssh.mkdir(parents=True)
        shutil.copy(self._key.with_suffix(".pub"), ssh / "authorized_keys")
        for path in (home, ssh, ssh / "authorized_keys"):
            path.chmod(0o600 if path.is_file() else 0o700)
            os.chown(path, uid, uid)

    def _up(self) -> bool:
        try:
            state = self.run("systemctl is-system-running", check=False, timeout_s=10)
        except subprocess.TimeoutExpired:
            return False
        return state.strip() in ("running", "degraded")
