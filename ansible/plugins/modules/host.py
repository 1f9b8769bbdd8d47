#!/usr/bin/python
"""Ansible module: what a deployment has to know about a host, in one go."""

from __future__ import annotations

import grp
import os
import re
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.assay.fleet.plugins.module_utils import agent_home, board, pythons
from ansible_collections.assay.fleet.plugins.module_utils.releases import Releases

DOCUMENTATION = r"""
---
module: host
short_description: What a host is, what it can run and what Assay is installed on it
description:
  - Looks at the board, the Python interpreter, systemd, the clock, the installed releases and the
    agent's state. Changes nothing, asks no network, returns nothing secret.
  - One module instead of a dozen commands, because a slow board pays for each of them.
version_added: "0.1.0"
author: The Assay authors (@assay)
options:
  role:
    description: Whose needs the interpreter is judged by.
    type: str
    choices: [agent, controller]
    required: true
  python:
    description: The interpreter to look at.
    type: str
    default: python3
  board:
    description: The board family, where detection is to be overruled.
    type: str
    choices: ["", raspberrypi, jetson, generic]
    default: ""
  root:
    description: Directory the releases lie in.
    type: path
    required: true
  home:
    description: Directory the agent or controller keeps its state in.
    type: path
    required: true
  unit:
    description: The systemd unit to look at.
    type: str
    required: true
  packages:
    description: Debian packages whose presence is asked for.
    type: list
    elements: str
    default: []
  paths:
    description: Paths whose existence is asked for.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Runs in check mode as always, since it changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Look at the host
  assay.fleet.host:
    role: agent
    root: /opt/assay-agent
    home: /var/lib/assay-agent
    unit: assay-agent.service
  register: agent_host
"""

RETURN = r"""
problem:
  description: Why Assay cannot run here and what to do; empty where it can.
  type: str
  returned: always
board:
  description: Family, model, device nodes its sensors need, and groups that exist.
  type: dict
  returned: always
python:
  description: Version, tag, machine and C library of the interpreter.
  type: dict
  returned: always
releases:
  description: Complete releases, oldest first, and the current one.
  type: dict
  returned: always
agent:
  description: Identity (without keys), rounds held and bytes spooled.
  type: dict
  returned: always
unit:
  description: What systemd says of the unit.
  type: dict
  returned: always
"""

_UNIT = ("LoadState", "ActiveState", "SubState", "StatusText", "NRestarts", "Result")


def look(role, python, board_kind, root, home, unit, packages, paths):
    """Everything the module returns."""
    releases = Releases(root)
    kind = board_kind or board.kind()
    interpreter = pythons.facts(python)
    systemd = board.systemd_version()
    problem = pythons.problem(interpreter, role)
    if not problem and not systemd:
        problem = "this host is not run by systemd, which the role relies on"
    groups = {each.gr_name for each in grp.getgrall()}
    providers = pythons.onnxruntime_providers(python) if kind == board.JETSON else []
    return {
        "problem": problem,
        "board": {
            "kind": kind,
            "model": board.model(),
            "devices": list(board.DEVICES[kind]),
            "groups": [name for name in board.GROUPS if name in groups],
            "onnxruntime_providers": providers,
            "cpus": os.cpu_count(),
        },
        "python": interpreter,
        "systemd": systemd,
        "kernel": [int(part) for part in re.findall(r"\d+", os.uname().release)[:2]],
        "may_raise_limits": board.may_raise_limits(),
        "udev": Path("/run/udev/control").exists(),
        "clock_synchronised": board.clock_synchronised(),
        "missing_packages": board.missing_packages(packages) if packages else [],
        "paths": [path for path in paths if os.path.lexists(path)],
        "free_bytes": board.free_bytes(root),
        "releases": {"complete": releases.complete(), "current": releases.current()},
        "agent": {
            **agent_home.identity(home),
            "rounds_held": agent_home.rounds_held(home),
            "spool_bytes": agent_home.spool_bytes(home),
        },
        "unit": _unit(unit),
        "unix_s": int(time.time()),
    }


def _unit(name):
    text = board.output(["systemctl", "show", name, *(f"--property={key}" for key in _UNIT)])
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "role": {"type": "str", "required": True, "choices": ["agent", "controller"]},
            "python": {"type": "str", "default": "python3"},
            "board": {
                "type": "str",
                "default": "",
                "choices": ["", board.RASPBERRY_PI, board.JETSON, board.GENERIC],
            },
            "root": {"type": "path", "required": True},
            "home": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    found = look(
        given["role"],
        given["python"],
        given["board"],
        Path(given["root"]),
        Path(given["home"]),
        given["unit"],
        given["packages"],
        given["paths"],
    )
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
