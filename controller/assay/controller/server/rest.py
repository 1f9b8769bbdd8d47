"""Devices at rest: known without asking the store, for as long as nobody has written to it."""

from __future__ import annotations

from collections.abc import Mapping

from assay.controller.records import Admission
from assay.controller.store.base import Store
from assay.core.errors import AssayError


class Rest:
    """Remembers which devices have no round, leased or waiting, as of one revision of the store.

    Most Syncs of a fleet come from such devices and change nothing. Whoever writes to the store,
    in whatever process, makes all of this forgotten until :meth:`look` has read anew: an answer
    from here is the one the store would give at that moment.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[int | None, Mapping[str, Admission]] = (None, {})

    def look(self) -> None:
        """Reads the store where it has changed. Blocking; once a second is often enough."""
        # Before it is read: what is committed meanwhile makes this out of date, not wrong.
        revision = self._store.revision()
        if revision is not None and revision != self._known[0]:
            self._known = (revision, self._store.resting())

    def admission(self, device_id: str) -> Admission | None:
        """A device at rest; None where the store has to be asked. Does not block."""
        revision, devices = self._known
        device = devices.get(device_id)
        if device is None:
            return None
        try:
            return device if self._store.revision() == revision else None
        except AssayError:
            return None
