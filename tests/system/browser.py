"""A real browser: Chromium, by the WebDriver protocol. Debian's package `chromium-driver` has both programs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from shutil import which
from typing import Any, Self

import requests

from tests.system.emulators import free_ports

SECONDS = 60.0
# Chromium asks nobody but the page: a closed network stalls it else.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
]
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A window without a screen, as a context manager."""

    def __init__(self) -> None:
        driver = which("chromedriver")
        assert driver is not None, "chromedriver is not installed: apt-get install chromium chromium-driver"
        (port,) = free_ports(1)
        self._root = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        self._session = requests.Session()
        self._session.trust_env = False
        self._path = ""

    def __enter__(self) -> Self:
        try:
            self.wait_until(self._is_ready)
            wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": FLAGS}}
            found = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._path = f"/session/{found['sessionId']}"
        except BaseException:
            self._driver.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._call("DELETE", self._path)
        finally:
            self._driver.terminate()
            self._driver.wait()

    def open(self, url: str) -> None:
        """Open an address."""
        self._call("POST", f"{self._path}/url", {"url": url})

    @property
    def url(self) -> str:
        """The address of the page, outside of frames."""
        return str(self._call("GET", f"{self._path}/url"))

    def enter_frame(self, css: str) -> None:
        """Go on inside of a frame, from the page itself."""
        self.leave_frame()
        self._call("POST", f"{self._path}/frame", {"id": {_ELEMENT: self._find("css selector", css)}})

    def leave_frame(self) -> None:
        """Go on in the page itself."""
        self._call("POST", f"{self._path}/frame", {"id": None})

    def click(self, words: str) -> None:
        """Click on the first visible link or button with these words."""
        self._act(f"//*[self::a or self::button][contains(normalize-space(.), {words!r})]", "click", {})

    def type(self, name: str, text: str) -> None:
        """Type into the field of a name; `\\ue007` is the Enter key."""
        self._act(f"//*[@name={name!r}]", "value", {"text": text})

    @property
    def text(self) -> str:
        """The text that is seen."""
        return str(self.run("return document.body ? document.body.innerText : ''"))

    def run(self, script: str) -> Any:
        """Run a script in the page, or in the frame, and return its result."""
        return self._call("POST", f"{self._path}/execute/sync", {"script": script, "args": []})

    def wait_for(self, words: str) -> None:
        """Return once the page shows these words."""
        self.wait_until(lambda: words in self.text, lambda: f"{words!r} in {self.text!r}")

    def wait_until(self, is_so: Callable[[], bool], what: Callable[[], str] = lambda: "the browser") -> None:
        """Return once something is so.

        :raises AssertionError: with what is missing, when the time is over
        """
        end = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < end, f"waited in vain: {what()}"
            time.sleep(0.2)

    def _act(self, xpath: str, action: str, body: dict[str, Any]) -> None:
        def done() -> bool:
            try:
                self._call("POST", f"{self._path}/element/{self._find('xpath', xpath)}/{action}", body)
            except WebDriverError:  # not there yet, covered, or replaced at this moment
                return False
            return True

        self.wait_until(done, lambda: f"{xpath} in {self.text!r}")

    def _find(self, kind: str, value: str) -> str:
        found: list[str] = []

        def is_found() -> bool:
            elements = self._call("POST", f"{self._path}/elements", {"using": kind, "value": value})
            shown = [each[_ELEMENT] for each in elements]
            found[:] = [each for each in shown if self._call("GET", f"{self._path}/element/{each}/displayed")]
            return bool(found)

        self.wait_until(is_found, lambda: f"{value} in {self.text!r}")
        return found[0]

    def _is_ready(self) -> bool:
        try:
            return bool(self._call("GET", "/status")["ready"])
        except requests.ConnectionError:
            return False

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._session.request(method, f"{self._root}{path}", json=body, timeout=SECONDS)
        value = answer.json()["value"]
        if not answer.ok:
            raise WebDriverError(value["message"])
        return value


class WebDriverError(Exception):
    """The browser did not do something."""
