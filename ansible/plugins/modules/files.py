#!/usr/bin/python
"""Ansible module: several small files at once."""

from __future__ import annotations

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
---
module: files
short_description: Writes, makes and removes several small files in one go
description:
  - What C(template) and C(file) do, for a whole list in one connection. A role of half a dozen
    settings then costs a slow board one start of Python and not twelve.
version_added: "0.1.0"
author: The Assay authors (@assay)
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it lies; the directory above it must exist.
        type: path
        required: true
      state:
        description: Whether it is a file with I(content), a directory, or not there.
        type: str
        choices: [present, directory, absent]
        default: present
      content:
        description: The text of a file.
        type: str
        default: ""
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal.
        type: str
        default: "0644"
attributes:
  check_mode:
    description: Says what would be written or removed.
    support: full
  diff_mode:
    description: Shows each change of a text.
    support: full
"""

EXAMPLES = r"""
- name: Write the settings
  assay.fleet.files:
    files:
      - path: /etc/assay-agent.toml
        content: "{{ lookup('ansible.builtin.template', 'agent.toml.j2') }}"
        group: assay-agent
        mode: "0640"
      - path: /etc/sysctl.d/70-assay-realtime.conf
        state: absent
  register: written
"""

RETURN = r"""
changed_paths:
  description: The paths that were (or would be) written, made, removed or given other rights.
  type: list
  elements: str
  returned: always
"""

FILE = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "default": "present", "choices": ["present", "directory", "absent"]},
    "content": {"type": "str", "default": ""},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
}


def bring_about(module, wanted):
    """Makes one entry so; returns whether that is a change, and how the text differs."""
    path, state = wanted["path"], wanted["state"]
    if state == "absent":
        there = os.path.lexists(path)
        if there and not module.check_mode:
            remove(path)
        return there, None
    before = read(path) if state == "present" else None
    if state == "directory":
        differs = not os.path.isdir(path)
        if differs and not module.check_mode:
            os.mkdir(path, 0o700)
    else:
        differs = before != wanted["content"]
        if differs and not module.check_mode:
            write(module, path, wanted["content"])
    if differs and module.check_mode:
        rights = False  # the owner may be a user that would be made before
    else:
        arguments = {key: wanted[key] for key in ("path", "owner", "group", "mode")}
        rights = module.set_fs_attributes_if_different(
            module.load_file_common_arguments({**arguments, "attributes": None}), False
        )
    diff = {"before_header": path, "after_header": path, "before": before or ""}
    return differs or rights, {**diff, "after": wanted["content"]} if differs else None


def read(path):
    """The text of a file; None where there is none."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None


def write(module, path, content):
    """Whole or not at all."""
    handle, partial = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        file.write(content)
    module.atomic_move(partial, path)


def remove(path):
    """A file, a link, or a directory with all that is in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main():
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "required": True, "options": FILE}
        },
        supports_check_mode=True,
    )
    changed, diffs = [], []
    for wanted in module.params["files"]:
        try:
            differs, diff = bring_about(module, wanted)
        except OSError as error:
            module.fail_json(msg=f"{wanted['path']}: {error.strerror}", changed_paths=changed)
        if differs:
            changed.append(wanted["path"])
        if diff:
            diffs.append(diff)
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=diffs)


if __name__ == "__main__":
    main()
