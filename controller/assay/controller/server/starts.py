"""Since when each device holds a round that it has not begun."""

from __future__ import annotations

import threading

from assay.controller.planning.scheduler import Key


class StartWatch:
    """Told of every Sync of a device that holds a round. In memory: after a start of the controller
    the time begins anew, as it does for each new grant. Thread-safe."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[Key, int]] = {}
        self._lock = threading.Lock()

    def waited_ns(self, device_id: str, grant: Key | None, now_ns: int) -> int:
        """For how long the device has reported that it holds ``grant`` and has not begun it; None:
        there is no such grant."""
        with self._lock:
            if grant is None:
                self._since.pop(device_id, None)
                return 0
            known, since_ns = self._since.get(device_id, (None, now_ns))
            if known != grant:
                since_ns = now_ns
            self._since[device_id] = (grant, since_ns)
            return now_ns - since_ns
