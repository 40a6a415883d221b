"""Tests of L{nanotun.metrics.page}."""

from __future__ import annotations

import tempfile
from typing import NamedTuple

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nanotun.httpd.site import IDLE_TIME, FewConnections, QuietSite
from nanotun.metrics.page import CONNECTION_LIMIT, MetricsPage

TOKEN = "a-token-of-the-test"


class Scraped(NamedTuple):
    """What a client gets."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire(StringTransport):
    """A connection that may be aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """See L{ITCPTransport.abortConnection}."""
        self.aborted = True


class MetricsPageTests(SynchronousTestCase):
    """L{MetricsPage} on a L{QuietSite}."""

    def setUp(self) -> None:
        """A site whose page says what the client accepts."""
        self.clock = Clock()
        self.written = 0
        page = MetricsPage(TOKEN, self.write)
        self.factory = FewConnections(QuietSite(page, self.clock), CONNECTION_LIMIT)
        self.factory.doStart()
        self.addCleanup(self.factory.doStop)

    def write(self, accepted: str) -> tuple[bytes, str]:
        """Write a page."""
        self.written += 1
        return f"accepts {accepted}".encode(), "text/test"

    def connect(self) -> tuple[Wire, object]:
        """A connection."""
        wire = Wire()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        return wire, protocol

    def ask(
        self, line: str = "GET /metrics HTTP/1.1", body: bytes = b"", **different: str | None
    ) -> Scraped:
        """Ask for something with the usual headers, of which some may be different."""
        headers: dict[str, str | None] = {
            "host": "127.0.0.1:9198",
            "authorization": f"Bearer {TOKEN}",
            "accept": "text/plain",
            "connection": "close",
            **different,
        }
        lines = [
            line,
            *(f"{name}: {value}" for name, value in headers.items() if value is not None),
        ]
        wire = Wire()
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(wire)
        protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, content = wire.value().partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        pairs = (each.split(": ", 1) for each in rest)
        return Scraped(int(first.split()[1]), {n.lower(): v for n, v in pairs}, content)

    def test_page(self) -> None:
        """Whoever has the token gets the page, in the form that they accept."""
        answer = self.ask(accept="application/x")
        self.assertEqual((answer.status, answer.body), (200, b"accepts application/x"))
        self.assertEqual(answer.headers["content-type"], "text/test")
        self.assertEqual(answer.headers["server"], "nanotun")
        self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_head(self) -> None:
        """HEAD gets the same head and no page."""
        answer = self.ask("HEAD /metrics HTTP/1.1")
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len("accepts text/plain")))
        self.assertEqual(answer.headers["content-type"], "text/test")

    def test_token(self) -> None:
        """Without the token nothing is told, not even what there is."""
        for wrong in (None, "Bearer wrong", f"Basic {TOKEN}", TOKEN):
            for line in ("GET /metrics HTTP/1.1", "GET /other HTTP/1.1", "PUT / HTTP/1.1"):
                answer = self.ask(line, authorization=wrong)
                self.assertEqual(answer.status, 401)
                self.assertEqual(answer.headers["www-authenticate"], "Bearer")
                self.assertIn(b"Send the token", answer.body)
        self.assertEqual(self.written, 0)

    def test_host(self) -> None:
        """A name is refused even with the token; a browser may have been led here by it."""
        for host in ("evil.example:9198", None):
            answer = self.ask(host=host, line="GET /metrics HTTP/1.0")
            self.assertEqual(answer.status, 403)
        self.assertEqual(self.written, 0)
        self.assertEqual(self.ask(host="localhost:9198").status, 200)

    def test_methods(self) -> None:
        """Every other method is refused, and told which ones are not."""
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            answer = self.ask(f"{method} /metrics HTTP/1.1")
            self.assertEqual(answer.status, 405, method)
            self.assertEqual(answer.headers["allow"], "GET, HEAD")
        self.assertEqual(self.written, 0)

    def test_paths(self) -> None:
        """There is nothing else; a query is no part of the path."""
        for path in ("/", "/metrics/", "/metrics/x", "/favicon.ico", "/../metrics"):
            self.assertEqual(self.ask(f"GET {path} HTTP/1.1").status, 404, path)
        self.assertEqual(self.ask("GET /metrics?name=x HTTP/1.1").status, 200)

    def test_body(self) -> None:
        """A request's body, however large, is kept nowhere."""
        size = 1_000_000
        opened: list[object] = []
        self.patch(tempfile, "TemporaryFile", lambda *_: opened.append(1))
        length = {"content-length": str(size)}
        answer = self.ask(body=b"x" * size, **length)
        self.assertEqual((answer.status, opened), (200, []))

    def test_many(self) -> None:
        """One connection too many closes the oldest, so that silent ones keep nobody away."""
        wires = [self.connect()[0] for _ in range(CONNECTION_LIMIT)]
        self.assertFalse(any(each.aborted for each in wires))
        self.assertEqual(self.ask().status, 200)
        self.assertEqual([each.aborted for each in wires], [True] + [False] * (len(wires) - 1))

    def test_close(self) -> None:
        """All connections can be closed."""
        wires = [self.connect()[0] for _ in range(3)]
        self.factory.close()
        self.assertTrue(all(each.aborted for each in wires))

    def test_idle(self) -> None:
        """A silent connection is closed after a while; nothing else is ever due."""
        wire, _ = self.connect()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(IDLE_TIME)
        self.assertTrue(wire.disconnecting)

    def test_quiet(self) -> None:
        """The log has nothing about it: that nanotun is up says enough."""
        with capturedLogs() as logged:
            self.factory.doStop()
            self.factory.doStart()
        self.assertEqual(logged, [])
