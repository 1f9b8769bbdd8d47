"""What a host holds, to tell afterwards what a playbook left there or touched."""

from __future__ import annotations

import re
import stat

from tests.system.hosts.machine import Machine

# What Ansible itself and the system write while anything at all happens.
_BESIDE_THE_POINT = re.compile(
    r"(home/lab/\.ansible|root/\.ansible|tmp|var/tmp|var/log|var/lib/(systemd|sudo|apt|dpkg|private)"
    r"|run|var/cache|etc/\.pwd\.lock|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?)(/.*)?"
)


def held(machine: Machine) -> tuple[set[str], str]:
    """The files beyond the image's, and the accounts; the directories show by their files."""
    files = {
        path
        for path, mode in machine.files().items()
        if mode and not stat.S_ISDIR(mode) and not _BESIDE_THE_POINT.fullmatch(path)
    }
    return files, machine.run("cut -d: -f1 /etc/passwd /etc/group | sort")


def agent_state(machine: Machine) -> str:
    """What changes as soon as anybody restarts, switches or configures an agent."""
    return machine.run(
        "systemctl show assay-agent -p MainPID -p ActiveEnterTimestampMonotonic;"
        " readlink /opt/assay-agent/current; sha256sum /etc/assay-agent.toml"
    )


def agent_identity(machine: Machine) -> str:
    """The key and the certificate, by their digests."""
    return machine.run("cd /var/lib/assay-agent && sha256sum key.pem identity.json")
