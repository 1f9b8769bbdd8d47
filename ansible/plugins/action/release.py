"""What ``assay.fleet.release`` does on the control node: picks and copies the bundle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_DECIDING = ("package", "version", "extras", "python_tag", "system_site_packages", "pip_arguments")


class ActionModule(ActionBase):
    """Asks the module first whether the release is missing; a bundle is copied only then."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """Runs the module once, or twice around the copy."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state", "present") != "present":
            return {**result, **self._ask(arguments, task_vars)}
        archive, sha256 = None, ""
        if arguments.get("wheelhouse"):
            wheelhouse = Path(arguments["wheelhouse"]).expanduser()
            arguments["version"], bundle = choose(wheelhouse, arguments)
            archive, sha256 = wheelhouse / bundle["file"], bundle["sha256"]
        arguments["release"] = release_id(arguments, sha256)
        return {**result, **self._present(arguments, archive, task_vars)}

    def _present(self, arguments, archive, task_vars):
        if archive is None:
            return self._ask(arguments, task_vars)
        foreseen = self._ask(arguments, task_vars, check=True)
        if self._task.check_mode or foreseen.get("failed") or not foreseen["changed"]:
            return foreseen
        remote_tmp = self._make_tmp_path()
        try:
            copied = self._connection._shell.join_path(remote_tmp, archive.name)
            self._transfer_file(str(archive), copied)
            self._fixup_perms2((remote_tmp, copied))
            return self._ask({**arguments, "bundle": copied}, task_vars)
        finally:
            self._remove_tmp_path(remote_tmp)

    def _ask(self, arguments, task_vars, check=False):
        asked = self._task.check_mode
        self._task.check_mode = asked or check
        try:
            return self._execute_module(
                module_name="assay.fleet.release", module_args=arguments, task_vars=task_vars
            )
        finally:
            self._task.check_mode = asked


def choose(wheelhouse, arguments):
    """The version and the bundle that fits; the error names what to build."""
    manifest = wheelhouse / "manifest.json"
    try:
        found = json.loads(manifest.read_text())
    except OSError as error:
        raise AnsibleActionFail(
            f"{manifest} cannot be read ({os.strerror(error.errno)}): run `make wheelhouse` in "
            "Assay's repository, or correct the wheelhouse's path"
        ) from error
    tag, machine, role = arguments["python_tag"], arguments["machine"], arguments["role"]
    name = f"{role}-{tag}-{machine}"
    if name not in found["bundles"]:
        target = f"{role}:{tag[2]}.{tag[3:]}:{machine}"
        raise AnsibleActionFail(
            f"{wheelhouse} has no bundle {name} (it has {', '.join(sorted(found['bundles']))}): "
            f"run `make wheelhouse TARGETS='{target} ...'`"
        )
    return found["version"], found["bundles"][name]


def release_id(arguments, sha256):
    """The version and what else decides what is in the release: other extras, another release."""
    deciding = [str(arguments.get(key, "")) for key in _DECIDING]
    digest = hashlib.sha256("\n".join([*deciding, sha256]).encode()).hexdigest()
    return f"{arguments['version']}-{digest[:12]}"
