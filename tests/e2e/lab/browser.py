"""
A real Chromium, driven by chromedriver (W3C WebDriver, and what of Chromium's DevTools protocol
it passes on).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError, waitUntil
from tests.e2e.lab.servers import Server

PORT = 9515

#: Seconds for one command; the first one starts Chromium.
COMMAND_SECONDS = 60.0

#: On a busy machine a Chromium that starts hangs now and then.
ATTEMPTS = 3

#: Seconds for what a page does by itself.
SOON = 60.0

#: The key of an element's reference (WebDriver, 12.1).
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

ENTER = "\ue007"
TAB = "\ue004"


class _Connection(HTTPConnection):
    """A connection inside of a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__("127.0.0.1", PORT, timeout=COMMAND_SECONDS)
        self._namespace = namespace

    def connect(self) -> None:
        """See L{HTTPConnection.connect}."""
        self.sock = self._namespace.connect(("127.0.0.1", PORT), COMMAND_SECONDS)


class Browser:
    """A Chromium without a screen, in a namespace."""

    def __init__(self, namespace: Namespace, directory: Path, width: int = 1280) -> None:
        """
        @param directory: where it keeps what it remembers.
        @param width: pixels of its window.
        @raise LabError: it does not start.
        """
        self._namespace = namespace
        self._path = ""
        argv = ["chromedriver", f"--port={PORT}", "--allowed-ips=127.0.0.1"]
        for attempt in range(ATTEMPTS):
            log = directory / f"chromedriver-{attempt}.log"
            self._server = Server(namespace, argv, PORT, log)
            try:
                self._begin(directory / f"chromium-{attempt}", width)
                return
            except (LabError, OSError):
                self.stop()
                if attempt == ATTEMPTS - 1:
                    raise

    def _begin(self, directory: Path, width: int) -> None:
        options = {
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-proxy-server",
                # So that it makes no flows of its own.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--window-size={width},800",
                f"--user-data-dir={directory}",
            ]
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._path = f"/session/{made['sessionId']}"

    def stop(self) -> None:
        """End it; may be called twice."""
        try:
            if self._path:
                self._ask("DELETE", "")
        except (LabError, OSError):
            pass
        self._path = ""
        self._server.stop()

    def go(self, url: str) -> None:
        """Load a page."""
        self._ask("POST", "/url", {"url": url})

    def url(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    def source(self) -> str:
        """The page as it is now."""
        return str(self._ask("GET", "/source"))

    def run(self, script: str, *arguments: object) -> Any:
        """What a function's body returns in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> str:
        """
        An element.

        @return: its reference.
        @raise LabError: there is none.
        """
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[ELEMENT])

    def has(self, selector: str) -> bool:
        """Whether there is such an element."""
        return bool(self._ask("POST", "/elements", {"using": "css selector", "value": selector}))

    def text(self, selector: str) -> str:
        """What an element shows."""
        return str(self._ask("GET", f"/element/{self.find(selector)}/text"))

    def click(self, selector: str) -> None:
        """Click on an element."""
        self._ask("POST", f"/element/{self.find(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        self._ask("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def press(self, keys: str) -> None:
        """Press keys, wherever the focus is."""
        steps = [{"type": each, "value": key} for key in keys for each in ("keyDown", "keyUp")]
        action = {"type": "key", "id": "keyboard", "actions": steps}
        self._ask("POST", "/actions", {"actions": [action]})

    def focus(self) -> Any:
        """Name and id of the element that has the focus."""
        return self.run("let e = document.activeElement; return [e.nodeName, e.id];")

    def narrow(self, width: int) -> None:
        """Be a telephone."""
        shown = {"width": width, "height": 740, "deviceScaleFactor": 1, "mobile": True}
        self._devtools("Emulation.setDeviceMetricsOverride", shown)

    def scheme(self, name: str) -> None:
        """Prefer C{light} or C{dark}."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def withoutScripts(self) -> None:
        """Run no script of any page from now on."""
        self._devtools("Emulation.setScriptExecutionDisabled", {"value": True})

    def complaints(self) -> list[str]:
        """
        What the console has got since this was asked last: errors of scripts, violations of a
        page's policy, and files that could not be loaded.
        """
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [f"{each['level']}: {each['message']}" for each in entries]

    def shot(self) -> bytes:
        """A picture of the window, a PNG file."""
        from base64 import b64decode

        return b64decode(self._ask("GET", "/screenshot"))

    def waitFor(self, condition: Callable[[], object], what: str) -> None:
        """Wait until the page has become so."""
        try:
            waitUntil(condition, SOON, what)
        except LabError as error:
            shown = self.run("return document.body.innerText;")
            raise LabError(f"{error}\n{shown}") from None

    def _devtools(self, command: str, values: dict[str, Any]) -> None:
        self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": values})

    def _ask(self, method: str, path: str, values: dict[str, Any] | None = None) -> Any:
        connection = _Connection(self._namespace)
        try:
            body = None if values is None else json.dumps(values)
            headers = {"content-type": "application/json"}
            connection.request(method, f"{self._path}{path}", body, headers)
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status != 200:
            raise LabError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value
