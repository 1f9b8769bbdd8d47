"""What this device is: probed once, and what can change looked at again before each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from assay.agent.devices.detect import detect
from assay.agent.runtimes.probe import probe_runtime
from assay.core import log
from assay.core.model import DeviceFacts, RuntimeFacts
from assay.core.model.device import LABEL

_LOG = log.get(__name__)


class FactsSource:
    """The facts of this device. ``labels`` travel as capabilities ``label:key=value``."""

    def __init__(self, sysroot: Path, labels: Mapping[str, str], probed: DeviceFacts) -> None:
        self._sysroot = sysroot
        self._labels = tuple(f"{LABEL}{key}={value}" for key, value in sorted(labels.items()))
        self._probed = probed
        self._current = self._labelled(probed)

    @classmethod
    def probe(
        cls, sysroot: Path, labels: Mapping[str, str], runtimes: Sequence[str]
    ) -> FactsSource:
        """Looks at the board and these runtimes now, each in a process of its own; takes seconds
        where a runtime is slow to load."""
        return cls(sysroot, labels, detect(sysroot, _usable(runtimes)))

    def current(self) -> DeviceFacts:
        """As last looked at."""
        return self._current

    def refresh(self) -> DeviceFacts:
        """Looks at the board again (a few milliseconds), not at its runtimes."""
        found = detect(self._sysroot, self._probed.runtimes, self._probed.samplers)
        self._current = self._labelled(found)
        return self._current

    def _labelled(self, facts: DeviceFacts) -> DeviceFacts:
        return replace(facts, capabilities=(*facts.capabilities, *self._labels))


def _usable(runtimes: Sequence[str]) -> tuple[RuntimeFacts, ...]:
    usable: list[RuntimeFacts] = []
    for name in runtimes:
        found = probe_runtime(name)
        if isinstance(found, RuntimeFacts):
            usable.append(found)
        else:
            _LOG.info("runtime is absent", runtime=name, reason=found.reason)
    if not usable:
        _LOG.warning(
            "no runtime is usable on this device: it syncs, but every run will fail with "
            "runtime_absent. Install one, e.g. pip install 'assay-fleet[onnxruntime]' or "
            "'assay-fleet[litert]', and start the agent again; `assay-agent doctor` says more"
        )
    return tuple(usable)
