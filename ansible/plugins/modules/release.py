#!/usr/bin/python
"""Ansible module: a release of Assay as a virtual environment beside the others."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.assay.fleet.plugins.module_utils.releases import BuildFailed, Releases

DOCUMENTATION = r"""
---
module: release
short_description: Build, activate and prune releases of Assay
description:
  - A release is a virtual environment below I(root)C(/releases); I(root)C(/current) names the one
    in use. Building one leaves the current one untouched, so going back is one symbolic link.
  - With I(wheelhouse), a directory on the control node made by C(make wheelhouse), the wheels that
    fit the host are copied to it and no index is asked. Only where the release is missing.
version_added: "0.1.0"
author: The Assay authors (@assay)
options:
  root:
    description: Directory the releases lie in.
    type: path
    required: true
  state:
    description:
      - C(present) builds the release, C(active) makes I(release) the current one, C(pruned) removes
        all but the current one and the I(keep) newest others.
    type: str
    choices: [present, active, pruned]
    default: present
  role:
    description: Which kind of bundle to take from the wheelhouse.
    type: str
    choices: [agent, controller]
    required: true
  wheelhouse:
    description: Directory on the control node; empty to install from an index.
    type: str
    default: ""
  release:
    description: The release's id; where it is built, it follows from what goes into it.
    type: str
    default: ""
  python:
    description: The interpreter to make the environment with.
    type: str
    default: python3
  python_tag:
    description: Its tag, for instance C(cp311), as M(assay.fleet.host) returns it.
    type: str
    default: ""
  machine:
    description: Its machine, for instance C(aarch64), as M(assay.fleet.host) returns it.
    type: str
    default: ""
  package:
    description: What to install; a name, or the path of a wheel on the host.
    type: str
    default: assay-fleet
  version:
    description: The version to install from an index; newest where empty.
    type: str
    default: ""
  extras:
    description: Extras of the package.
    type: list
    elements: str
    default: []
  pip_arguments:
    description: Further arguments to pip where no wheelhouse is used.
    type: list
    elements: str
    default: []
  system_site_packages:
    description: Whether the environment sees the system's packages (Jetson's onnxruntime).
    type: bool
    default: false
  probe:
    description: Arguments to the new environment's Python that must end with status 0.
    type: list
    elements: str
    default: []
  bundle:
    description: Set by the action plugin, which copies the bundle.
    type: path
  keep:
    description: How many releases stay beside the current one.
    type: int
    default: 1
attributes:
  check_mode:
    description: Says what would be built, activated or removed.
    support: full
"""

EXAMPLES = r"""
- name: Build the release
  assay.fleet.release:
    root: /opt/assay-agent
    role: agent
    wheelhouse: build/wheelhouse
    python_tag: cp311
    machine: aarch64
    extras: [agent, onnxruntime, litert]
    probe: [-m, assay.agent, --version]
  register: built

- name: Use it
  assay.fleet.release:
    root: /opt/assay-agent
    role: agent
    state: active
    release: "{{ built.release }}"
"""

RETURN = r"""
release:
  description: The id.
  type: str
  returned: when state is present or active
previous:
  description: The release that was current before; empty where there was none.
  type: str
  returned: when state is active
removed:
  description: The ids removed.
  type: list
  elements: str
  returned: when state is pruned
"""

SPEC = {
    "root": {"type": "path", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "active", "pruned"]},
    "role": {"type": "str", "required": True, "choices": ["agent", "controller"]},
    "wheelhouse": {"type": "str", "default": ""},
    "release": {"type": "str", "default": ""},
    "python": {"type": "str", "default": "python3"},
    "python_tag": {"type": "str", "default": ""},
    "machine": {"type": "str", "default": ""},
    "package": {"type": "str", "default": "assay-fleet"},
    "version": {"type": "str", "default": ""},
    "extras": {"type": "list", "elements": "str", "default": []},
    "pip_arguments": {"type": "list", "elements": "str", "default": []},
    "system_site_packages": {"type": "bool", "default": False},
    "probe": {"type": "list", "elements": "str", "default": []},
    "bundle": {"type": "path"},
    "keep": {"type": "int", "default": 1},
}


def requirement(package, extras, version):
    """What pip is asked for."""
    wanted = f"[{','.join(extras)}]" if extras else ""
    return f"{package}{wanted}" + (f"=={version}" if version else "")


def present(module, releases):
    """Builds the release where it is missing."""
    given = module.params
    release = given["release"]
    if release in releases.complete():
        module.exit_json(changed=False, release=release)
    if not module.check_mode:
        try:
            releases.build(
                release,
                given["python"],
                [requirement(given["package"], given["extras"], given["version"])],
                given["pip_arguments"],
                given["probe"],
                Path(given["bundle"]) if given["bundle"] else None,
                given["system_site_packages"],
            )
        except BuildFailed as error:
            module.fail_json(msg=f"release {release} could not be built: {error}")
    module.exit_json(changed=True, release=release)


def active(module, releases):
    """Points ``current`` at the release."""
    release, previous = module.params["release"], releases.current()
    if release not in releases.complete() and not module.check_mode:
        module.fail_json(msg=f"release {release} is not there: build it first")
    if release != previous and not module.check_mode:
        releases.activate(release)
    diff = {"before": f"{previous}\n", "after": f"{release}\n"}
    module.exit_json(changed=release != previous, release=release, previous=previous, diff=diff)


def pruned(module, releases):
    """Removes what nobody goes back to any more."""
    removed = releases.superseded(module.params["keep"])
    if not module.check_mode:
        for release in removed:
            releases.remove(release)
    module.exit_json(changed=bool(removed), removed=removed)


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec=SPEC, supports_check_mode=True)
    releases = Releases(Path(module.params["root"]))
    {"present": present, "active": active, "pruned": pruned}[module.params["state"]](
        module, releases
    )


if __name__ == "__main__":
    main()
