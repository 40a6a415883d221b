"""
The page in a real browser, beside a real download.
"""

from __future__ import annotations

import re
import select
import shutil
import socket
import subprocess
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from nanotun.web.flowpages import flowRow
from nanotun.web.shell import PAGES
from tests.e2e.case import TunnelCase
from tests.e2e.lab import curl, nameserver
from tests.e2e.lab.browser import ENTER, SOON, TAB, Browser
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.topology import IPV4
from tests.e2e.test_names import FAKES, NAME, world

WHERE = "127.0.0.1:8198"

#: A download has so many bytes at a time, and no end: some 500 kB each second.
CHUNK = bytes(10_000)

#: Seconds between two of them.
PAUSE = 0.02

#: curl: the connection was reset.
RESET = 56

#: The row of a flow of curl.
ROW = "#flows tr[data-words*=curl]"

#: The pixels of a small telephone.
NARROW = 360

#: A flow as the daemon tells it, with what could become markup.
FLOW: dict[str, Any] = {
    "id": 17,
    "protocol": "tcp",
    "state": "half-closed",
    "age": 3725.5,
    "idle": 0.2,
    "source": "[2001:db8::7]:51234",
    "destination": "[2001:db8::9]:443",
    "domain": "\"><script>alert('x')</script>&amp;",
    "verdict": "proxy",
    "rule": "#2",
    "upstream": "office",
    "by": "socks5://10.0.0.5:1080",
    "process": {"pid": 7, "uid": 0, "name": "<b>x</b>", "path": "/x y", "unit": "a.service"},
    "up": 1023,
    "down": 123456789,
    "rateUp": 1,
    "rateDown": 1 << 20,
}

#: One of which nothing is known yet.
WAITING = {
    **FLOW,
    **dict.fromkeys(("domain", "verdict", "rule", "upstream", "by", "process")),
    "state": "waiting",
    "age": 0.0,
    "up": 0,
    "rateUp": None,
    "rateDown": None,
}


def endless(sock: socket.socket) -> None:
    """
    Answer a request with a body that never ends, until the client is gone.  A client that slows
    itself down, as curl can, would notice an end late.
    """
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not select.select([sock], [], [], PAUSE)[0]:
        sock.sendall(CHUNK)


class WebPageTests(TunnelCase):
    """The pages.  It makes no difference which engine runs."""

    seconds = 120

    def setUp(self) -> None:
        """Start a daemon that sends one domain by an upstream of its own, and a browser."""
        super().setUp()
        absent = [each for each in ("chromium", "chromedriver") if shutil.which(each) is None]
        if absent:
            raise SkipTest(f"these programs are missing: {', '.join(absent)}")
        self.runDir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.runDir, True)
        self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)
        url = self.dante(hosts={NAME: [IPV4.world]}).url()
        self.server = self.peer(endless)
        self.tested: Daemon = self.daemon(
            proxy=url,
            upstreams={"office": url},
            rules=[{"to": "office", "domains": [NAME]}],
            dns=[IPV4.world],
            dnsMode="fake-ip",
            dnsStateFile=str(self.directory / "fakeip.json"),
            runDir=self.runDir,
            web=WHERE,
        )
        nameserver.ask(self.lab.app, IPV4.gateway, NAME, "A")
        self.browser = Browser(self.lab.app, self.directory)
        self.addCleanup(self.browser.stop)
        self.browser.go(f"http://{WHERE}/?token={self.token()}")

    def go(self, path: str) -> None:
        """Load one of the pages."""
        self.browser.go(f"http://{WHERE}{path}")

    def assertQuiet(self) -> None:
        """The console has got no error, and the policy of the pages was never violated."""
        self.assertEqual(self.browser.complaints(), [])

    def downloading(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A download by curl, of a name."""
        return curl.running(self.lab.app, NAME, FAKES[IPV4], self.server.port, "/")

    def test_download(self) -> None:
        """
        A download appears by itself with program, name, upstream and rule, its bytes grow, and
        its button ends it and nothing else.
        """
        browser = self.browser
        self.go("/flows")
        browser.waitFor(lambda: "No flow is open." in browser.text("main"), "an empty list")
        with self.downloading() as program:
            browser.waitFor(lambda: browser.has(ROW), "the flow")
            row = browser.text(ROW)
            self.assertRegex(
                row, rf"^curl {program.pid} {NAME}:{self.server.port} tcp office #1 open"
            )
            down = f"{ROW} td[data-label=Down]"
            seen = browser.text(down)
            browser.waitFor(lambda: browser.text(down) != seen, "more bytes")
            browser.waitFor(lambda: "1 flow is open" in browser.text("#count"), "the number")
            self.assertEqual(browser.text("#link"), "live")
            browser.click(f"{ROW} button")
            browser.waitFor(lambda: not browser.has(ROW), "the end of the flow")
            self.assertEqual(program.wait(SOON), RESET)
            browser.waitFor(lambda: "No flow is open." in browser.text("main"), "an empty list")
        self.assertQuiet()

    def test_search(self) -> None:
        """
        The key / leads to the search, which works as one types; ENTER makes it an address that
        stays up to date.
        """
        browser = self.browser
        self.go("/flows")
        with self.downloading() as program:
            browser.waitFor(lambda: browser.has(ROW), "the flow")
            browser.press("/")
            self.assertEqual(browser.focus(), ["INPUT", "search"])
            browser.press(f"office {program.pid}")
            self.assertEqual(browser.run("return document.querySelector('#search').value"),
                             f"office {program.pid}")  # fmt: skip
            self.assertIn("curl", browser.text("#flows"))
            browser.press("x")
            self.assertIn(f"No flow has “office {program.pid}x”.", browser.text("main"))
            browser.run("document.querySelector('#search').value = 'CURL'")
            browser.type("#search", ENTER)
            browser.waitFor(lambda: browser.url().endswith("/flows?q=CURL"), "the address")
            down = f"{ROW} td[data-label=Down]"
            seen = browser.text(down)
            browser.waitFor(lambda: browser.text(down) != seen, "more bytes")
            self.go("/programs")
            self.assertRegex(browser.text("main"), r"curl /\S+ 1 1 ")
        self.assertQuiet()

    def test_withoutScripts(self) -> None:
        """Without JavaScript everything is there, and search, close, explain and reload work."""
        browser = self.browser
        browser.withoutScripts()
        with self.downloading() as program:

            def listed() -> bool:
                self.go("/flows")
                return browser.has(ROW)

            browser.waitFor(listed, "the flow")
            browser.type("#search", f"nobody{ENTER}")
            self.assertIn("No flow has “nobody”.", browser.text("main"))
            self.go("/flows?q=curl&sort=down")
            browser.click(f"{ROW} button")
            self.assertEqual(program.wait(SOON), RESET)
            browser.waitFor(lambda: browser.has(".said"), "the answer")
            self.assertEqual(browser.text(".said"), "1 flow was closed.")
            self.assertIn("q=curl&sort=down", browser.url())
        self.go("/explain")
        browser.type("#destination", f"{NAME}:443")
        browser.click("main form button")
        browser.waitFor(lambda: browser.has(".answer"), "the answer")
        self.assertIn("proxy: through office", browser.text("main"))
        self.assertRegex(browser.text("main"), r"#1 .* office holds ")
        self.go("/config")
        browser.click("main form button")
        browser.waitFor(lambda: browser.has(".said"), "the answer")
        self.assertIn("The configuration was read again; changed: nothing.", browser.text(".said"))
        self.assertQuiet()

    def test_overview(self) -> None:
        """The overview draws what a download carries, and has the proxies' health."""
        browser = self.browser
        with self.downloading():
            browser.waitFor(lambda: browser.has("#graph"), "the page")
            browser.waitFor(
                lambda: re.search(r"down [\d.]+ [KM]iB/s", browser.text("#traffic")), "the rate"
            )
            line = "return document.querySelector('#graph .down.line').getAttribute('d')"
            browser.waitFor(lambda: str(browser.run(line)).count("L") > 1, "a line")
            browser.waitFor(
                lambda: re.search(r"Open TCP flows\s+1\b", browser.text("#totals")), "the flow"
            )
            self.assertIn("office", browser.text("#upstreams"))
        self.assertQuiet()

    def test_keyboard(self) -> None:
        """The first key leads past the links; g and a letter lead to each page."""
        browser = self.browser
        browser.press(TAB + ENTER)
        browser.waitFor(lambda: browser.focus() == ["MAIN", "content"], "the content")
        for path, name, key in PAGES[::-1]:
            browser.press(f"g{key}")
            browser.waitFor(lambda path=path: browser.url() == f"http://{WHERE}{path}", path)  # type: ignore[misc]
            browser.waitFor(lambda name=name: browser.text("h1") == name, name)  # type: ignore[misc]
        self.assertQuiet()

    def test_everyPage(self) -> None:
        """
        No page needs more than a telephone's width; each is light or dark, as one likes it; none
        violates its policy or has an error.
        """
        browser = self.browser
        with self.downloading():
            for path, name, _ in PAGES:
                self.go(path)
                browser.waitFor(lambda: browser.text("h1"), path)
                self.assertEqual(browser.text("h1"), name)
            browser.narrow(NARROW)
            for path, _, _ in PAGES:
                self.go(path)
                width = browser.run("return document.documentElement.scrollWidth")
                self.assertLessEqual(width, NARROW, path)
        back = "return getComputedStyle(document.body).backgroundColor"
        shown = []
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            found = re.findall(r"\d+", str(browser.run(back)))
            shown.append(sum(map(int, found[:3])) / 3)
        self.assertTrue(shown[0] > 220 and shown[1] < 40, shown)
        self.assertQuiet()

    def test_records(self) -> None:
        """A query appears on the page about DNS, and a line at the end of the log."""
        browser = self.browser
        self.go("/dns")
        nameserver.ask(self.lab.app, IPV4.gateway, NAME, "A")
        browser.waitFor(lambda: NAME in browser.text("#queries"), "the query")
        self.go("/log")
        browser.waitFor(lambda: browser.text("#link") == "live", "the events")
        before = browser.run("return document.querySelectorAll('#lines li').length")
        self.assertGreater(before, 0)
        self.lab.app.run(
            ["curl", "-sS", "-X", "POST", "-H", f"Authorization: Bearer {self.token()}",
             f"http://{WHERE}/api/v1/reload"]
        )  # fmt: skip
        count = "return document.querySelectorAll('#lines li').length"
        browser.waitFor(lambda: browser.run(count) > before, "a line")
        times = re.findall(r"(?m)^\d\d:\d\d:\d\d", browser.text("#lines"))
        self.assertEqual(len(times), browser.run(count))
        self.assertEqual(times, sorted(times))
        self.assertQuiet()

    def test_sameRows(self) -> None:
        """What page.js makes of a flow is what the server makes of it, and nothing runs in it."""
        self.go("/flows")
        for flow in (FLOW, WAITING):
            script = """
                const [text, flow] = arguments;
                const made = document.createElement("tbody");
                made.append(flowRow(flow));
                const want = document.createElement("template");
                want.innerHTML = `<table><tbody>${text}</tbody></table>`;
                const body = want.content.querySelector("tbody");
                return [made.isEqualNode(body), made.outerHTML, body.outerHTML];
            """
            equal, made, want = self.browser.run(script, str(flowRow(flow)), flow)
            self.assertTrue(equal, f"{made}\n{want}")
        self.assertQuiet()

    def token(self) -> str:
        """What opens the door."""
        return Path(self.runDir, "web.token").read_text().strip()
