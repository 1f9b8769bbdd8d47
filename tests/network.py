"""A network between a device and its controller that a test can break."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress


class Relay:
    """A TCP relay on the way to a port, which a test can break; it notes when the agent sent
    something, or tried to connect in vain. ``swallowing`` it takes everything and passes nothing
    on, as a NAT does that has forgotten a connection and tells nobody."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.refusing = False
        self.swallowing = False
        self.sent_at: list[float] = []
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Ends every connection and takes no new ones."""
        self.refusing = True
        for each in self._open:
            self._close(each)
        self._open.clear()

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.refusing:
                self.sent_at.append(time.monotonic())
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [near, far]
            for one, other, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._copy, args=(one, other, up), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if up:
                    self.sent_at.append(time.monotonic())
                if not self.swallowing:
                    target.sendall(data)
        self._close(source)
        self._close(target)

    @staticmethod
    def _close(each: socket.socket) -> None:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


class Network:
    """Everything between an agent and its controller."""

    def __init__(self, *ports: int) -> None:
        self.relays = [Relay(port) for port in ports]

    @property
    def sent_at(self) -> list[float]:
        """When the agent sent something (CLOCK_MONOTONIC, seconds)."""
        return [at for relay in self.relays for at in relay.sent_at]

    def cut(self) -> None:
        for relay in self.relays:
            relay.cut()

    def mend(self) -> None:
        for relay in self.relays:
            relay.refusing = False

    def close(self) -> None:
        for relay in self.relays:
            relay.close()
