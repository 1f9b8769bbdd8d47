"""What a service manager is told about this process: sd_notify(3) in pure Python.

Elsewhere than under ``Type=notify`` every call does nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from assay.core import log

_LOG = log.get(__name__)
_LONGEST_STATUS: Final = 200


class Notifier:
    """The way to the service manager. Thread-safe: each message is one datagram.

    ``watchdog_s`` is how long it waits for :meth:`alive` before it ends and restarts this process;
    None where it does not watch.
    """

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        # A leading @ stands for the NUL of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        self._failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] = os.environ) -> Notifier:
        """The one this process was started with. Its variables are taken out of ``environment``,
        so that no child can speak in this process's name."""
        address = environment.pop("NOTIFY_SOCKET", "")
        interval_us = environment.pop("WATCHDOG_USEC", "")
        watched = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        watchdog_s = None
        if interval_us.isdecimal() and int(interval_us) and watched == str(os.getpid()):
            watchdog_s = int(interval_us) / 1e6
        return cls(address, watchdog_s)

    def ready(self, status: str) -> None:
        """Start-up is over."""
        self._send("READY=1", _status(status))

    def alive(self, status: str) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1", _status(status))

    def status(self, status: str) -> None:
        """One line for people, shown by ``systemctl status``; feeds nothing."""
        self._send(_status(status))

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(assignments).encode(), self._address)
            self._failed = False
        except OSError as error:
            # Once is enough: the watchdog itself will speak if this lasts.
            if not self._failed:
                _LOG.warning("service manager could not be told", error=str(error))
            self._failed = True


def _status(text: str) -> str:
    """A newline would begin another assignment."""
    return "STATUS=" + " ".join(text.split())[:_LONGEST_STATUS]
