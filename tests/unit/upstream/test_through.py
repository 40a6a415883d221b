"""Tests of chains: proxies that are dialled through another upstream."""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.errors import (
    DatagramsUnsupported,
    DestinationSilent,
    ProxyClosedError,
    ProxyError,
    UpstreamError,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.interfaces import Connection, IHandshake, PlainHttp, UpstreamContext, Via
from nanotun.testing import FakeUpstream
from nanotun.upstream.dial.connector import Connector
from nanotun.upstream.dial.resolver import HostAddresses
from nanotun.upstream.make import makeAll
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.garbage import garbageOf
from tests.unit.upstream.test_make import entryOf
from tests.unit.upstream.test_schemes import GRANTED, OPEN
from tests.unit.upstream.upstream_cases import (
    DESTINATION,
    REPLY,
    FakeReactor,
    ReactorCase,
    unmarkedContext,
)

TIMEOUT = 5.0
PROXY = LiteralEndpoint("second.example", 1080)
NAME = "The proxy socks5://second.example:1080"


@implementer(IHandshake)
class TwoConnections:
    """A handshake that needs a second connection; it sends the connection's number."""

    def __init__(self) -> None:
        self.begun = 0
        self.done = self.again = self.resumable = self.requested = False
        self.leftover = b""

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self.begun += 1
        self.again = False
        return b"%d" % self.begun

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        return self.begin()

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        self.again = self.begun == 1
        self.done = not self.again
        return b""


class ChainCase(SynchronousTestCase):
    """
    A SOCKS5 proxy that is dialled through an upstream called C{one}, which the test answers
    for.
    """

    def setUp(self) -> None:
        """Nothing was asked for yet."""
        self.reactor = FakeReactor()
        self.via = FakeUpstream("socks5://first.example:1080")
        self.upstream = self.makeUpstream("socks5://second.example")
        self.far = socket.socket()
        self.far.close()

    def context(self) -> UpstreamContext:
        """With the upstream to dial through."""
        made = unmarkedContext(self.reactor, TIMEOUT)
        return made._replace(openStream=self.fail, via=Via("one", self.via))

    def makeUpstream(self, text: str, **more: Any) -> Any:
        """The upstream of a URL."""
        url = parseProxyURL(text)
        return url.scheme.make(url, self.context()._replace(**more))

    def opened(self, leftover: bytes = b"", http: PlainHttp | None = None) -> None:
        """The other upstream connects to the proxy."""
        self.far = self.via.answer(leftover, http)
        self.far.settimeout(1)
        self.addCleanup(self.far.close)

    def heard(self) -> bytes:
        """What the proxy has received; empty if the connection has ended."""
        try:
            return self.far.recv(1000)
        except ConnectionResetError:
            return b""

    def says(self, data: bytes) -> None:
        """The proxy sends this, or nothing and ends the connection."""
        if data:
            self.far.sendall(data)
        else:
            self.far.close()
        (transport,) = self.reactor.readers
        reason = transport.doRead()  # type: ignore[attr-defined]
        if reason is not None:
            transport.connectionLost(Failure(reason))  # type: ignore[attr-defined]

    def took(self, dial: Deferred[Connection]) -> bytes:
        """What came with the leg of a dial; the leg leads to the far end, and is closed."""
        connection = self.successResultOf(dial)
        with socket.socket(fileno=connection.fd) as near:
            near.sendall(b"over")
            self.assertEqual(self.heard()[-4:], b"over")
        return connection.leftover

    def said(self, kind: type[UpstreamError], dial: Deferred[Any]) -> str:
        """The text of a dial's error."""
        error = self.failureResultOf(dial, UpstreamError).value
        self.assertIs(type(error), kind)
        self.assertIdle()
        return str(error)

    def assertIdle(self) -> None:
        """No timer, descriptor or lookup is left."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers + self.reactor.writers, [])
        self.assertEqual(self.reactor.lookups, [])


class OpenThroughTests(ChainCase):
    """L{nanotun.upstream.dial.through} and the dial above it."""

    def test_name(self) -> None:
        """The proxy is asked for by its name, which is not looked up here."""
        dial = self.upstream.connect(DESTINATION)
        self.assertEqual(self.via.asked, [PROXY])
        self.assertIsInstance(self.via.asked[0], LiteralEndpoint)
        self.opened()
        self.assertEqual(self.heard(), b"\5\1\0")
        self.says(b"\5\0")
        self.assertEqual(self.heard(), b"\5\1\0\1\xc0\0\2\1\1\xbb")
        self.says(REPLY + b"220 hello")
        self.assertEqual(self.took(dial), b"220 hello")
        self.assertIdle()

    def test_early(self) -> None:
        """Bytes that came with the other upstream's leg are the first of the handshake."""
        dial = self.upstream.connect(DESTINATION)
        self.opened(b"\5\0")
        self.assertEqual(self.heard(), b"\5\1\0" + b"\5\1\0\1\xc0\0\2\1\1\xbb")
        self.says(REPLY)
        self.assertEqual(self.took(dial), b"")
        self.assertIdle()

    def test_wrongEarly(self) -> None:
        """Early bytes of another protocol end the dial as later ones would."""
        dial = self.upstream.connect(DESTINATION)
        self.opened(b"SSH-2.0-x\r\n")
        self.assertIn("socks5://second.example:1080", self.failureResultOf(dial).getErrorMessage())
        self.assertIdle()

    def test_earlyWithout(self) -> None:
        """Without a handshake they come with the leg."""
        connector = Connector(
            self.reactor, NAME, TIMEOUT, lambda error, address: ProxyError(), via=self.context().via
        )
        leg = connector.open(HostAddresses(self.reactor, *PROXY))
        self.opened(b"early")
        self.assertEqual(self.took(leg), b"early")
        self.assertIdle()

    def test_check(self) -> None:
        """A check goes through the other upstream; one without a handshake, too."""
        check = self.upstream.check()
        self.opened()
        self.says(b"\5\0")
        self.assertIsNone(self.successResultOf(check))
        check = self.makeUpstream("http://second.example:8080").check()
        self.assertEqual(self.via.asked, [PROXY, Endpoint("second.example", 8080)])
        self.opened(b"early")
        self.assertIsNone(self.successResultOf(check))
        self.assertEqual(self.heard(), b"")
        self.assertIdle()

    def test_viaDown(self) -> None:
        """What is wrong with the other upstream is said as it is."""
        for error in (
            ProxyError("The proxy one cannot be reached."),
            UpstreamTimeout("The proxy one did not answer within 5 s."),
        ):
            dial = self.upstream.connect(DESTINATION)
            self.via.fail(error)
            self.assertIs(self.failureResultOf(dial).value, error)
        self.assertIdle()

    def test_oursDown(self) -> None:
        """What is wrong with this machine is the fault of no proxy."""
        error = UpstreamError("There are no more file descriptors; raise the limit.")
        dial = self.upstream.connect(DESTINATION)
        self.via.fail(error)
        self.assertIs(self.failureResultOf(dial).value, error)
        self.assertIdle()

    def test_secondDown(self) -> None:
        """What the other upstream says of its destination is about the proxy."""
        for error in (
            UpstreamRefused("The proxy one was refused by second.example (reply 5)."),
            UpstreamProhibited("The proxy one was refused by second.example (reply 5)."),
            DestinationSilent("The proxy one was refused by second.example (reply 5)."),
        ):
            dial = self.upstream.connect(DESTINATION)
            self.via.fail(error)
            self.assertEqual(
                self.said(ProxyError, dial),
                f"{NAME} cannot be reached through one: the proxy one was refused by "
                "second.example (reply 5).",
            )

    def test_secondSilent(self) -> None:
        """If the proxy ends the connection, it is named and not the other upstream."""
        dial = self.upstream.connect(DESTINATION)
        self.opened()
        self.heard()
        self.says(b"")
        self.assertIn(f"{NAME} closed the connection", self.said(ProxyClosedError, dial))

    def test_bug(self) -> None:
        """An error that is no upstream's is not disguised as one."""
        dial = self.upstream.connect(DESTINATION)
        self.via.fail(ZeroDivisionError())  # type: ignore[arg-type]
        self.failureResultOf(dial, ZeroDivisionError)
        self.assertIdle()

    def test_cancel(self) -> None:
        """Cancelling cancels the other upstream's dial; later, it closes its leg."""
        dial = self.upstream.connect(DESTINATION)
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual(self.via.cancelled, 1)
        dial = self.upstream.connect(DESTINATION)
        self.opened()
        self.heard()
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual(self.heard(), b"")
        self.assertIdle()

    def test_plainHttp(self) -> None:
        """A leg that takes requests only leads to no proxy, and is closed."""
        dial = self.upstream.connect(DESTINATION)
        self.opened(http=PlainHttp("http://first.example:80", b"", lambda: None))
        self.assertEqual(
            self.said(ProxyError, dial),
            f"{NAME} cannot be reached through one, which forbids CONNECT to port 80.",
        )
        self.assertEqual(self.heard(), b"")

    def test_again(self) -> None:
        """A handshake that needs another connection has the other upstream open it."""
        url = parseProxyURL("socks5://second.example")
        handshakes = Handshakes(lambda destination: TwoConnections())
        dial = ProxyUpstream(url, handshakes, self.context()).connect(DESTINATION)
        self.opened()
        self.assertEqual(self.heard(), b"1")
        self.says(b"x")
        self.assertEqual(self.heard(), b"")
        self.assertEqual(self.via.asked, [PROXY, PROXY])
        self.opened(b"")
        self.assertEqual(self.heard(), b"2")
        self.says(b"x")
        self.took(dial)
        self.assertIdle()

    def test_noGarbage(self) -> None:
        """However the other upstream's dial ends, nothing is left to the garbage collector."""

        def begin() -> Deferred[None]:
            dial: Deferred[Connection] = self.upstream.connect(DESTINATION)
            return dial.addCallbacks(lambda leg: None, lambda reason: None)

        def refused() -> None:
            begin()
            self.via.fail(UpstreamRefused("No."))

        def cancelled() -> None:
            begin().cancel()

        for end in (refused, cancelled):
            self.via.asked.clear()
            self.assertEqual(garbageOf(end), [], end)
        self.assertIdle()


class TimeTests(ChainCase):
    """The time of a dial that goes through another upstream."""

    def test_rest(self) -> None:
        """The proxy has the time that is left, and is named if it is silent."""
        dial = self.upstream.connect(DESTINATION)
        self.reactor.advance(4.0)
        self.opened()
        self.reactor.advance(0.9)
        self.assertNoResult(dial)
        self.reactor.advance(0.2)
        self.assertEqual(
            self.said(UpstreamTimeout, dial),
            f"{NAME} did not answer within 5 s (while waiting for its answer).",
        )

    def test_viaFirst(self) -> None:
        """While the other upstream dials, it is left to that to say whose fault it is."""
        dial = self.upstream.connect(DESTINATION)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.reactor.advance(TIMEOUT)
        self.opened()
        self.reactor.advance(0.05)
        self.assertNoResult(dial)
        self.reactor.advance(0.1)
        self.said(UpstreamTimeout, dial)

    def test_again(self) -> None:
        """A second connection does not make the time longer."""
        url = parseProxyURL("socks5://second.example")
        handshakes = Handshakes(lambda destination: TwoConnections())
        dial = ProxyUpstream(url, handshakes, self.context()).connect(DESTINATION)
        self.reactor.advance(3.0)
        self.opened()
        self.says(b"x")
        self.reactor.advance(2.0)
        self.said(UpstreamTimeout, dial)
        self.assertEqual(self.via.cancelled, 1)


class PoolTests(ChainCase):
    """Connections that wait at the end of a chain."""

    def setUp(self) -> None:
        """A pool of one, which is filled."""
        super().setUp()
        self.upstream = self.makeUpstream("socks5://second.example", poolSize=1)
        pool = self.pool = self.upstream.pool
        pool.startService()
        self.addCleanup(lambda: pool.running and pool.stopService())
        self.opened()
        self.assertEqual(self.heard(), b"\5\1\0")
        self.says(b"\5\0")
        self.assertEqual(len(pool.idle), 1)

    def test_taken(self) -> None:
        """A flow takes one that waits, and the next one is dialled through the chain, too."""
        dial = self.upstream.connect(DESTINATION)
        self.assertEqual(self.heard(), b"\5\1\0\1\xc0\0\2\1\1\xbb")
        self.assertEqual(self.via.asked, [PROXY, PROXY])
        self.says(REPLY + b"hello")
        self.assertEqual(self.took(dial), b"hello")

    def test_lost(self) -> None:
        """If the one that waited has ended, the flow has the other upstream open another."""
        dial = self.upstream.connect(DESTINATION)
        self.via.fail(UpstreamRefused("No."))
        self.says(b"")
        self.assertEqual(self.via.asked, [PROXY, PROXY, PROXY])
        self.opened(b"\5\0")
        self.says(REPLY)
        self.took(dial)

    def test_lostLate(self) -> None:
        """The flow's time goes on while the other upstream opens another."""
        dial = self.upstream.connect(DESTINATION)
        self.via.fail(UpstreamRefused("No."))
        self.reactor.advance(3.0)
        self.says(b"")
        self.reactor.advance(2.0)
        self.failureResultOf(dial, UpstreamTimeout)


class DatagramTests(ChainCase):
    """UDP at the end of a chain."""

    def test_none(self) -> None:
        """No UDP passes, no leg is asked for, and the error says why."""
        self.assertFalse(self.upstream.carriesDatagrams)
        for leg in (self.upstream.associate(4), self.upstream.associateNamed(6)):
            self.assertEqual(
                self.said(DatagramsUnsupported, leg),
                f"{NAME} is dialled through one, and a chain carries no UDP.",
            )
        self.assertEqual((self.via.asked, self.via.families), ([], []))

    def test_never(self) -> None:
        """A proxy that carries no UDP anyway is not said to do so without the chain."""
        leg = self.makeUpstream("http://second.example").associate(4)
        self.assertIn("carries no UDP", self.said(DatagramsUnsupported, leg))

    def test_dials(self) -> None:
        """An address is not the proxy's by itself: behind another proxy it may be any host."""
        upstream = self.makeUpstream("socks5://192.0.2.7:1080")
        self.assertFalse(upstream.dials(Endpoint("192.0.2.7", 1080)))
        mixed = self.makeUpstream("socks5://192.0.2.7:1080", via=Via("one", self.via, True))
        self.assertTrue(mixed.dials(Endpoint("192.0.2.7", 1080)))


class RealChainTests(ReactorCase):
    """Chains on real sockets."""

    async def test_three(self) -> None:
        """Three proxies of three kinds, one through the other: each is told of the next only."""
        port = self.listen(GRANTED, OPEN, b"\5\0", REPLY + b"220 hello")
        made = makeAll(
            [
                entryOf("one", f"socks4a://127.0.0.1:{port}"),
                entryOf("two", "http://second.example", via="one"),
                entryOf("three", "socks5://third.example", via="two"),
            ],
            unmarkedContext(self.reactor),
            lambda entry, single: single[0],
        )
        connection = await made["three"].upstream.connect(DESTINATION)
        self.assertEqual(connection.leftover, b"220 hello")
        self.assertFalse(os.get_blocking(connection.fd))
        self.assertClean()
        os.close(connection.fd)
        await self.ended()
        (script,) = self.scripts
        first, rest = script.heard.split(b"second.example\0", 1)
        self.assertTrue(first.startswith(b"\4\1\0\x50"))
        second, third = rest.split(b"\r\n\r\n", 1)
        self.assertTrue(second.startswith(b"CONNECT third.example:1080 HTTP/1.1\r\n"))
        self.assertEqual(third, b"\5\1\0" + b"\5\1\0\1\xc0\0\2\1\1\xbb")
