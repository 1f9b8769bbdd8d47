"""A headless Chromium driven over its DevTools pipe: no driver program, no websocket."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TIMEOUT_S = 30.0


class Page:
    """One tab. Everything it logs and every address it asks for is kept."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        attached = pipe.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    @property
    def complaints(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions and policy violations so far."""
        found = []
        for event in self._pipe.events:
            what, params = event["method"], event.get("params", {})
            if what == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            elif what == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif what == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
        return found

    @property
    def requests(self) -> list[str]:
        """Every address the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._pipe.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def forget(self) -> None:
        """Starts complaints and requests anew."""
        self._pipe.events.clear()

    def call(self, method: str, **params: Any) -> Any:
        """A DevTools command on this tab."""
        return self._pipe.call(method, session=self._session, **params)

    def open(self, url: str) -> None:
        """Goes to ``url`` and waits until it is loaded."""
        before = self._loads()
        self.call("Page.navigate", url=url)
        self._pipe.wait(lambda: self._loads() > before)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Sets the size of the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def prefer(self, scheme: str) -> None:
        """``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def press(self, key: str) -> None:
        """One key, down and up."""
        codes = {"Tab": 9, "Enter": 13}
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
            )

    def screenshot(self, path: Path, *, whole: bool = False) -> bytes:
        """Writes a PNG of the window, or of the whole page."""
        options: dict[str, Any] = {"format": "png"}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options |= {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        data = base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    def _loads(self) -> int:
        return sum(event["method"] == "Page.loadEventFired" for event in self._pipe.events)


@contextmanager
def chromium() -> Iterator[Page]:
    """A fresh browser with an empty profile; gone when the block ends."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "need(program='chromium') first"
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=lambda: _as_3_and_4(to_browser, from_browser),
            pass_fds=(3, 4),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        pipe = _Pipe(ours_in, ours_out)
        try:
            yield Page(pipe)
        finally:
            pipe.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _as_3_and_4(commands: int, answers: int) -> None:
    """In the child: the browser reads commands from descriptor 3 and answers on 4."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (commands, answers)]
    os.dup2(high[0], 3)
    os.dup2(high[1], 4)


class _Pipe:
    """Messages of JSON ended by a zero byte, both ways."""

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        self._buffer = b""
        self._next = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._sink, json.dumps(message).encode() + b"\0")
        number = self._next
        self.wait(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, done: Any) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, "Chromium did not answer in time"
            if select.select([self._source], [], [], left)[0]:
                self._read()

    def close(self) -> None:
        """Closing its input ends the browser."""
        os.close(self._sink)
        os.close(self._source)

    def _read(self) -> None:
        data = os.read(self._source, 1 << 20)
        assert data, "Chromium went away"
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        for raw in whole:
            message = json.loads(raw)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)
