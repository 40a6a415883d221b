"""
Tests for L{nanotun.upstream.httpproxy}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import AuthenticationError, ProxyError, UpstreamError, UpstreamForbids
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, PlainHttp
from nanotun.upstream import httpproxy
from nanotun.upstream.httpproxy import RETRY, HttpUpstream, PortRule
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import ReactorCase, unmarkedContext

WEB = Endpoint("192.0.2.1", 80)
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
GRANTED = b"HTTP/1.1 200 OK\r\n\r\n"
BASIC = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
DIGEST = BASIC.replace(b"Basic realm=x", b"Digest realm=x, nonce=y, qop=auth")
LOGIN = b"Basic dXNlcjpzZWNyZXQ="


def answer(status: int) -> bytes:
    """An answer with a status and no body."""
    return b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status


class Connected(Protocol):
    """
    One connection to the L{Proxy}.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Answer the request; nothing is no answer."""
        port = int(data.split(b" ")[1].rpartition(b":")[2])
        self.proxy.requests.append((port, b"Proxy-Authorization" in data))
        answers = self.proxy.answers[port]
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        assert self.transport is not None
        if said is None:
            self.transport.loseConnection()
        else:
            self.transport.write(said)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Note the end."""
        self.ended.callback(None)


class Proxy:
    """
    A proxy in the test's hands.

    @ivar answers: what it answers a CONNECT to each port, the last answer again and again;
        L{None} closes the connection.
    @ivar requests: the port of each CONNECT, and whether it came with credentials.
    @ivar connections: all that were made.
    """

    def __init__(self) -> None:
        self.answers: dict[int, list[bytes | None]] = {80: [FORBIDDEN], 443: [GRANTED]}
        self.requests: list[tuple[int, bool]] = []
        self.connections: list[Connected] = []

    def build(self, address: object) -> Connected:
        """Take a connection."""
        self.connections.append(Connected(self))
        return self.connections[-1]


class HttpUpstreamTests(ReactorCase):
    """
    Tests for L{HttpUpstream}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.proxied = Proxy()
        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = self.proxied.build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(HttpUpstream, "_log", log)
        self.clock = Clock()
        self.upstream = self.makeUpstream()

    def makeUpstream(self, user: str = "", query: str = "", timeout: float = 5.0) -> HttpUpstream:
        """An upstream through the proxy, with a clock of the test's for its rule."""
        url = parseProxyURL(f"http://{user}127.0.0.1:{self.port}{query}")
        upstream = url.scheme.make(url, unmarkedContext(self.reactor, timeout))
        assert isinstance(upstream, HttpUpstream)
        upstream._rule = PortRule(self.clock)
        return upstream

    async def leg(self, destination: Endpoint = WEB) -> PlainHttp | None:
        """Open a leg and close it; return what its requests have to look like."""
        connection: Connection = await self.upstream.connect(destination)
        os.close(connection.fd)
        self.assertClean()
        return connection.http

    async def allEnded(self) -> None:
        """Wait until nothing of ours is connected to the proxy."""
        for each in self.proxied.connections:
            await each.ended

    def lines(self) -> list[str]:
        """What was logged."""
        return [formatEvent(each) for each in self.logged]

    async def test_found(self) -> None:
        """
        A proxy that forbids port 80 and not 443 gets requests: this flow's, and for ten
        minutes those of all others without another CONNECT.  One line tells.
        """
        http = await self.leg()
        assert http is not None
        self.assertEqual(http[:2], (self.upstream.describe(), b""))
        self.clock.advance(RETRY - 1)
        self.assertEqual(await self.leg(Endpoint("192.0.2.2", 80)), http)
        self.assertEqual(self.proxied.requests, [(80, False), (443, False)])
        self.assertEqual(
            self.lines(),
            [
                f"The proxy {self.upstream.describe()} forbids CONNECT to port 80 (status 403), "
                "so plain http is sent to it as requests to a proxy; other protocols on port 80 "
                "cannot pass."
            ],
        )
        await self.allEnded()

    async def test_changes(self) -> None:
        """
        After ten minutes the rule is asked for again.  If it is the same nobody is told, and
        if it is gone everybody is.
        """
        await self.leg()
        self.clock.advance(RETRY + 1)
        self.assertIsNot(await self.leg(), None)
        self.assertEqual(len(self.proxied.requests), 4)
        self.assertEqual(len(self.logged), 1)
        self.proxied.answers[80] = [GRANTED]
        self.clock.advance(RETRY + 1)
        self.assertIs(await self.leg(), None)
        self.assertEqual(
            self.lines()[1:],
            [f"The proxy {self.upstream.describe()} allows CONNECT to port 80 again."],
        )
        await self.allEnded()

    async def test_trial(self) -> None:
        """
        What the trial is answered tells a rule about the port, for which there is a leg,
        from anything else, for which the first error stays.
        """
        for said in (GRANTED, *(answer(status) for status in (500, 502, 503, 504))):
            self.proxied.answers[443] = [said]
            self.upstream = self.makeUpstream()
            self.assertIsNot(await self.leg(), None, said)
        statuses = (403, 405, 400, 401, 404, 410, 451, 501, 505)
        for bad in (None, b"SSH-2.0-x\r\n", *(answer(status) for status in statuses)):
            self.proxied.answers[443] = [bad]
            for first, kind in ((403, UpstreamForbids), (405, ProxyError)):
                self.proxied.answers[80] = [answer(first)]
                self.upstream = self.makeUpstream()
                text = await self.failure(kind, self.upstream.connect(WEB))
                self.assertIn(f"192.0.2.1:80 (status {first}" if first == 403 else "405", text)
        await self.allEnded()

    async def test_silentTrial(self) -> None:
        """
        A proxy that says nothing to the trial is connecting, so it does not forbid; the
        trial is closed.
        """
        self.patch(httpproxy, "TRIAL_TIME", 0.05)
        self.proxied.answers[443] = [b""]
        self.assertIsNot(await self.leg(), None)
        self.assertEqual(len(self.logged), 1)
        await self.allEnded()

    async def test_silentLogin(self) -> None:
        """
        If it is not known whether the silent proxy wants a log-in, the next flow finds out.
        """
        self.patch(httpproxy, "TRIAL_TIME", 0.05)
        self.proxied.answers[443] = [b"", BASIC, GRANTED]
        self.upstream = self.makeUpstream("user:secret@")
        self.assertEqual((await self.leg() or WEB)[1], b"")
        self.assertEqual((await self.leg() or WEB)[1], LOGIN)
        await self.allEnded()

    async def test_otherErrors(self) -> None:
        """
        Another answer about port 80 starts no trial, and neither does another port.
        """
        for status in (400, 404, 451, 500, 502):
            self.proxied.answers[80] = [answer(status)]
            await self.assertFailure(self.upstream.connect(WEB), UpstreamError)
        self.proxied.answers[443] = self.proxied.answers[8080] = [FORBIDDEN]
        for port in (443, 8080):
            destination = Endpoint("192.0.2.1", port)
            await self.failure(UpstreamForbids, self.upstream.connect(destination))
        self.assertEqual(len(self.proxied.requests), 7)
        await self.allEnded()

    async def test_together(self) -> None:
        """
        Several flows that find it at the same time all get a leg, and one line tells.
        """
        legs: list[Connection] = await gatherResults(
            [self.upstream.connect(WEB) for _ in range(5)], consumeErrors=True
        )
        for each in legs:
            self.assertIsNot(each.http, None)
            os.close(each.fd)
        self.assertEqual(len(self.logged), 1)
        await self.allEnded()

    async def test_allowedElsewhere(self) -> None:
        """
        A proxy that has lately allowed port 80 is asked each time: it forbids some hosts.
        """
        self.proxied.answers[80] = [GRANTED, FORBIDDEN, GRANTED]
        legs = [await self.leg() for _ in range(3)]
        self.assertEqual([each is None for each in legs], [True, False, True])
        self.assertEqual(self.lines(), [])
        await self.allEnded()

    async def test_login(self) -> None:
        """
        A proxy that wants a log-in gets it by Basic; one that never asked for it does not,
        with C{?pipeline=1} either.
        """
        for asks in (True, False):
            for query in ("", "?pipeline=1"):
                self.proxied.answers[443] = [BASIC, GRANTED] if asks else [GRANTED]
                self.upstream = self.makeUpstream("user:secret@", query)
                http = await self.leg()
                assert http is not None
                self.assertEqual(http.authorization, LOGIN if asks else b"")
                self.assertNotIn("secret", repr(http) + http.proxy)
        await self.allEnded()

    async def test_lateLogin(self) -> None:
        """
        A proxy that wants a log-in for some hosts only gets it after it has refused a
        request without, and from then on for all hosts.
        """
        self.proxied.answers[443] = [GRANTED, BASIC, GRANTED]
        self.upstream = self.makeUpstream("user:secret@")
        first = await self.leg()
        assert first is not None
        self.assertEqual(first.authorization, b"")
        first.refused()
        for _ in range(2):
            for _ in range(2):
                self.assertEqual((await self.leg() or WEB)[1], LOGIN)
            self.clock.advance(RETRY)
        self.assertEqual(len(self.proxied.requests), 7)
        self.assertEqual(len(self.logged), 1)
        await self.allEnded()

    async def test_digest(self) -> None:
        """
        A log-in by Digest is refused with a sentence, of the kind that the app sees today.
        """
        self.proxied.answers[443] = [DIGEST, GRANTED]
        self.upstream = self.makeUpstream("user:secret@")
        text = await self.failure(UpstreamForbids, self.upstream.connect(WEB))
        self.assertEqual(
            text,
            f"The proxy {self.upstream.describe()} forbids CONNECT to port 80 (status 403) and "
            "wants a log-in by Digest, with which nanotun cannot send plain http; allow CONNECT "
            "to port 80 in the proxy's configuration, or let it offer Basic alone.",
        )
        await self.allEnded()

    async def test_wrongPassword(self) -> None:
        """
        A password that the trial shows to be wrong, or to be missing, is the error.
        """
        self.proxied.answers[443] = [BASIC]
        for user in ("user:secret@", ""):
            self.upstream = self.makeUpstream(user)
            await self.failure(AuthenticationError, self.upstream.connect(WEB))
        await self.allEnded()

    async def test_cancelled(self) -> None:
        """
        Cancelling leaves no socket, neither in the CONNECT nor in the trial.
        """
        for answers, requests in (({80: [b""]}, 1), ({443: [b""]}, 3)):
            self.proxied.answers.update(answers)  # type: ignore[arg-type]
            dial: Deferred[Any] = self.upstream.connect(WEB)
            while len(self.proxied.requests) < requests:
                turn: Deferred[None] = Deferred()
                self.reactor.callLater(0, turn.callback, None)
                await turn
            dial.cancel()
            await self.assertFailure(dial, CancelledError)
            self.assertClean()
            await self.allEnded()
            self.proxied.answers[80] = [FORBIDDEN]

    async def test_badName(self) -> None:
        """
        A name that cannot be part of a request is refused in both modes.
        """
        for _ in range(2):
            text = await self.failure(
                UpstreamError, self.upstream.connect(Endpoint("a b\r\nx", 80))
            )
            self.assertIn("cannot be sent", text)
            await self.leg()
        await self.allEnded()


class PortRuleTests(SynchronousTestCase):
    """
    Tests for L{PortRule}.
    """

    def test_times(self) -> None:
        """
        A ban is believed for ten minutes and is news once; a success ends it, and keeps the
        next ten minutes free of bans.
        """
        clock = Clock()
        rule = PortRule(clock)
        self.assertFalse(rule.forbids())
        self.assertTrue(rule.forbidden(b"a"))
        self.assertFalse(rule.forbidden(b"b"))
        self.assertEqual((rule.forbids(), rule.authorization), (True, b"b"))
        clock.advance(RETRY)
        self.assertFalse(rule.forbids())
        self.assertTrue(rule.allowed())
        self.assertFalse(rule.allowed())
        self.assertEqual((rule.forbidden(b"c"), rule.forbids()), (False, False))
        clock.advance(RETRY)
        self.assertTrue(rule.forbidden(b"d"))
