"""The root file system every host starts from: Debian with systemd and sshd, made once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

USER = "lab"
_INCLUDE = (
    "systemd,systemd-sysv,dbus,udev,openssh-server,sudo,python3,python3-venv,python3-apt,iproute2,"
    "ca-certificates"
)
# Packages a role installs by itself, laid by in apt's own cache: the hosts have no way out.
_LAID_BY = ("prometheus",)
# What a fresh server does on its own clock would run beside what is measured.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "console-getty.service",
    "systemd-tmpfiles-clean.timer",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made from; its digest names it in the cache."""

    suite: str
    sources: tuple[str, ...]

    @property
    def key(self) -> str:
        """Sixteen hex digits; another recipe has another key."""
        text = "\n".join((self.suite, *self.sources, _INCLUDE, *_LAID_BY, *_MASKED, USER))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_of_this_machine() -> Recipe:
    """The suite this machine runs, or ``ASSAY_HOST_SUITE``, from the mirrors its apt uses."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if line
    )
    own = release.get("VERSION_CODENAME", "").strip('"')
    suite = os.environ.get("ASSAY_HOST_SUITE") or own
    targets = _output(
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    )
    sources = {
        f"deb {uri} {codename.replace(own, suite, 1)} {component}"
        for uri, codename, component in (line.split() for line in targets.splitlines())
        if codename.startswith(own) and component == "main"
    }
    return Recipe(suite, tuple(sorted(sources)))


def base_image(cache: Path, recipe: Recipe) -> Path:
    """The directory that holds the image, made where it is missing (half a minute)."""
    cache.mkdir(parents=True, exist_ok=True)
    image = cache / f"{recipe.suite}-{recipe.key}"
    with _locked(cache / "lock"):
        if not image.exists():
            partial = image.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _build(partial, recipe)
            partial.rename(image)
    return image


def _build(root: Path, recipe: Recipe) -> None:
    fetch = " ".join(("apt-get -q -y -d --no-install-recommends install", *_LAID_BY))
    mask = " ".join(("systemctl -q mask", *_MASKED))
    _run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--include={_INCLUDE}",
            # The lists and the packages laid by stay.
            "--skip=cleanup/apt,cleanup/reproducible",
            f'--customize-hook=chroot "$1" sh -c "{fetch} && {mask}"',
            # Every host makes its own at its first start.
            '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname',
            # Whom Ansible logs in as: an ordinary user who may use sudo.
            f'--customize-hook=chroot "$1" useradd --create-home --shell /bin/sh {USER}',
            f'--customize-hook=echo "{USER} ALL=(ALL) NOPASSWD: ALL" >"$1"/etc/sudoers.d/{USER}',
            recipe.suite,
            str(root),
            *recipe.sources,
        ]
    )


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
