"""Headless Chromium by its debugging pipe: a page, its requests, keys and the pointer.

Debian's package `chromium` is all that is needed; CHROMIUM names another. Messages of the DevTools
protocol go through two pipes, so that there is no port and no driver.
"""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1100,760",
)
# Chromium reads from 3 and writes to 4. Another process puts the pipes there: no fork of ours.
_PLACE_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
for place, pipe in enumerate(pipes, start=3):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str:
    """The browser's program."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert found, "Chromium is missing: apt install chromium, or set CHROMIUM to its program"
    return found


@contextlib.contextmanager
def open_page(path: pathlib.Path, folder: pathlib.Path) -> Iterator["Page"]:
    """Opens a file in a fresh browser; what it downloads goes to the folder."""
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()

    arguments = [*_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    pipes = [str(read_theirs), str(write_theirs)]
    browser = subprocess.Popen(
        [sys.executable, "-S", "-c", _PLACE_PIPES, *pipes, find(), *arguments],
        pass_fds=(read_theirs, write_theirs),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_theirs)
    os.close(write_theirs)
    page = Page(read_ours, write_ours)
    try:
        page.attach(path, folder)
        yield page
    finally:
        browser.kill()
        browser.wait()
        os.close(read_ours)
        os.close(write_ours)


class Page:
    """A tab: `requests` are the addresses it asked for, `errors` what its scripts threw."""

    def __init__(self, read: int, write: int):
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._read, self._write = read, write
        self._buffer, self._number, self._session = b"", 0, ""

    def attach(self, path: pathlib.Path, folder: pathlib.Path) -> None:
        """Takes the first tab and loads a file."""
        targets = self.send("Target.getTargets")["targetInfos"]
        [tab] = [t["targetId"] for t in targets if t["type"] == "page"][:1]
        self._session = self.send("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.send(f"{domain}.enable")
        self.send(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder / "downloads")
        )
        self.send("Page.navigate", url=path.absolute().as_uri())

    def send(self, method: str, *, wait_s: float = 60.0, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer; events on the way are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + wait_s
        while True:
            answer = self._next(until - time.monotonic(), method)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._note(answer)

    def _next(self, wait_s: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(wait_s, 0.0))
            assert ready, f"{method}: no answer"
            part = os.read(self._read, 1 << 20)
            assert part, f"{method}: the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        if event.get("method") == "Runtime.exceptionThrown":
            details = event["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))

    def run(self, script: str, *, wait_s: float = 60.0) -> Any:
        """Runs an expression, or awaits a promise, in the page; returns its JSON value."""
        answer = self.send(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            wait_s=wait_s,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, *, wait_s: float = 60.0) -> None:
        """Waits until an expression is true."""
        until = time.monotonic() + wait_s
        while not self.run(condition):
            assert time.monotonic() < until, f"never true: {condition}; errors: {self.errors}"
            time.sleep(0.1)

    def pixels(self, side: int, *, options: str = "{}") -> np.ndarray:
        """Renders the avatar at once, [side side 3]."""
        script = f"(() => {{ const p = ganAvatar.renderPixels({side}, {options});"
        script += " let t = ''; for (const b of p) t += String.fromCharCode(b); return btoa(t) })()"
        content = base64.b64decode(self.run(script, wait_s=120.0))
        return np.frombuffer(content, np.uint8).reshape(side, side, 4)[..., :3]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags the mouse from one place to another, pixels of the window."""
        for kind, (x, y) in (("Pressed", start), ("Moved", end), ("Released", end)):
            self.send(
                "Input.dispatchMouseEvent",
                type=f"mouse{kind}",
                x=x,
                y=y,
                button="left",
                buttons=0 if kind == "Released" else 1,
                clickCount=1,
            )

    def screenshot(self, path: pathlib.Path) -> None:
        """Writes what the window shows as PNG."""
        content = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(content))
