"""
Tests for handshakes that continue on a greeted connection, and for
L{nanotun.upstream.pool.reuse}, with real sockets on the loopback interface.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from nanotun.errors import (
    DatagramsUnsupported,
    DestinationSilent,
    HandshakeError,
    ProxyClosedError,
    ProxyError,
    UpstreamForbids,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.handshakes.http import HttpHandshake
from nanotun.upstream.handshakes.socks4 import Socks4Handshake
from nanotun.upstream.handshakes.socks5 import Socks5Handshake
from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.pool.warm import WarmConnection
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.handshake_cases import ScriptCase
from tests.unit.upstream.upstream_cases import (
    DESTINATION,
    ReactorCase,
    Script,
    unmarkedContext,
)

PROXY = "p"
USER = (b"user", b"pwd")

# RFC 1928, sections 3, 4 and 6; RFC 1929, section 2.
GREETING = bytes.fromhex("05 01 00")
METHOD = bytes.fromhex("05 00")
REQUEST = bytes.fromhex("05 01 00 01 c0000201 01bb")
REPLY = bytes.fromhex("05 00 00 01 00000000 0000")
RELAY = bytes.fromhex("05 00 00 01 00000000 1000")
REFUSED = bytes.fromhex("05 05 00 01 00000000 0000")

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class WholeTests(ScriptCase):
    """
    The conversations, with each answer in one piece.
    """

    def proceeds(self, handshake: IHandshake, request: bytes, answer: bytes) -> None:
        """It sends the request, is resumable until the first byte of the answer, and succeeds."""
        self.assertEqual(handshake.proceed(None), request)
        self.assertEqual((handshake.resumable, handshake.again), (True, False))
        self.assertEqual(self.feed(handshake, answer + b"220 hello"), b"")
        self.assertTrue(handshake.done)
        self.assertEqual(handshake.leftover, b"220 hello")
        self.assertFalse(handshake.resumable)

    def test_socks5(self) -> None:
        """
        SOCKS5 greets and logs in beforehand, so only the request is left to send.
        """
        for credentials, sent, script in (
            (None, GREETING, [(METHOD, b"")]),
            (
                USER,
                bytes.fromhex("05 02 00 02"),
                [(b"\5\2", b"\1\4user\3pwd"), (b"\1\0", b"")],
            ),
        ):
            greeting = Socks5Handshake(None, PROXY, credentials)
            self.play(greeting, sent, *script)
            self.assertTrue(greeting.done)
            self.assertRaises(HandshakeError, greeting.receive, b"x")
            self.proceeds(Socks5Handshake(DESTINATION, PROXY, credentials), REQUEST, REPLY)

    def test_pipeline(self) -> None:
        """
        With pipelining the greeting and the log-in are sent in one flight.
        """
        greeting = Socks5Handshake(None, PROXY, USER, pipeline=True)
        self.play(greeting, b"\5\1\2\1\4user\3pwd", (b"\5\2\1\0", b""))
        self.assertTrue(greeting.done)
        self.proceeds(Socks5Handshake(DESTINATION, PROXY, USER, pipeline=True), REQUEST, REPLY)

    def test_plain(self) -> None:
        """
        SOCKS4 and HTTP send nothing before the request.
        """
        for make, answer in (
            (lambda: Socks4Handshake(DESTINATION, PROXY), bytes.fromhex("00 5a 0000 00000000")),
            (lambda: HttpHandshake(DESTINATION, PROXY), OPEN),
        ):
            self.proceeds(make(), make().begin(), answer)  # type: ignore[arg-type]

    def test_refused(self) -> None:
        """
        A refusal is final, and not a reason to try again.
        """
        handshake = Socks5Handshake(DESTINATION, PROXY)
        handshake.proceed(None)
        self.fails(UpstreamRefused, handshake, REFUSED)
        self.assertFalse(handshake.resumable)

    def test_beginsAnew(self) -> None:
        """
        If the connection had ended, the whole handshake is done on a new one.
        """
        handshake = Socks5Handshake(DESTINATION, PROXY)
        handshake.proceed(None)
        self.play(handshake, GREETING, (METHOD, REQUEST), (REPLY, b""))
        self.assertTrue(handshake.done)

    def test_timedOut(self) -> None:
        """
        HTTP's 408 on a connection that waited means a new one is needed; on a new connection
        it is an error.
        """
        handshake = HttpHandshake(DESTINATION, PROXY)
        handshake.proceed(None)
        self.feed(handshake, TIMED_OUT)
        self.assertTrue(handshake.again)
        handshake.begin()
        self.assertRaises(ProxyError, self.feed, handshake, TIMED_OUT)
        self.assertFalse(handshake.again)


class ByteTests(WholeTests):
    """
    The same, one byte at a time.
    """

    wholly = False


class ReuseTests(ReactorCase):
    """
    Dials through a pool and a proxy that follows scripts.
    """

    def each(self, *scripts: tuple[bytes, ...]) -> int:
        """Listen, with the next script for each connection; returns the port."""
        left = list(scripts)

        def build(address: object) -> Script:
            script = Script(list(left.pop(0)))
            self.scripts.append(script)
            return script

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def filled(self, text: str, timeout: float = 5.0) -> tuple[ProxyUpstream, WarmPool]:
        """An upstream with one connection that waits, and a pool that dials no more."""
        context = unmarkedContext(self.reactor, timeout)._replace(poolSize=1)
        (upstream,) = upstreamsFor([parseProxyURL(text)], context)
        assert isinstance(upstream, ProxyUpstream)
        pool = upstream.pool
        assert pool is not None
        pool.startService()
        self.addCleanup(self.stopPool, pool)
        await self.until(lambda: len(pool.idle) == 1)
        pool.refill = lambda: None  # type: ignore[method-assign]
        return upstream, pool

    def stopPool(self, pool: WarmPool) -> None:
        """Stop it, unless the test has."""
        if pool.running:
            pool.stopService()

    def worked(self, pool: WarmPool) -> list[bool]:
        """One entry for each connection of which the pool learns that it worked."""
        found: list[bool] = []
        self.patch(pool.lifetimes, "worked", lambda: found.append(True))
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run the reactor until the condition holds."""
        while not condition():
            await deferLater(self.reactor, 0, lambda: None)

    def assertClean(self) -> None:
        """The reactor has no descriptor of ours left."""
        super().assertClean()
        readers = [each for each in self.reactor.getReaders() if isinstance(each, WarmConnection)]
        self.assertEqual(readers, [])

    async def test_request(self) -> None:
        """
        A dial on a connection that waited sends only its request.
        """
        port = self.each((METHOD, REPLY + b"220 hello"))
        upstream, _ = await self.filled(f"socks5://127.0.0.1:{port}")
        connection = await upstream.connect(DESTINATION)
        self.assertEqual(connection.leftover, b"220 hello")
        self.assertEqual(self.scripts[0].heard, GREETING + REQUEST)
        self.assertFalse(os.get_blocking(connection.fd))
        self.assertClean()
        os.close(connection.fd)
        await self.ended()

    async def test_rested(self) -> None:
        """
        A dial that finds no connection has the pool dial too, which may have rested.
        """
        port = self.each((METHOD,), (METHOD, REPLY))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        pool.idle.popleft().close()
        refills: list[bool] = []
        pool.refill = lambda: refills.append(True)  # type: ignore[method-assign]
        connection = await upstream.connect(DESTINATION)
        os.close(connection.fd)
        self.assertEqual(refills, [True])
        await self.ended()

    async def test_race(self) -> None:
        """
        If the proxy ends the connection instead of answering, a new one is dialled.
        """
        port = self.each((METHOD, b""), (METHOD, REPLY))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        connection = await upstream.connect(DESTINATION)
        os.close(connection.fd)
        self.assertEqual(self.scripts[1].heard, GREETING + REQUEST)
        self.assertClean()
        pool.stopService()
        await self.ended()

    async def test_once(self) -> None:
        """
        If the new connection ends as well, the dial fails.
        """
        port = self.each((METHOD, b""), (METHOD, b""))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        text = await self.failure(ProxyClosedError, upstream.connect(DESTINATION))
        self.assertIn(f"The proxy socks5://127.0.0.1:{port} closed the connection", text)
        pool.stopService()
        await self.ended()

    async def test_halfAnswer(self) -> None:
        """
        A proxy that has begun to answer is not asked again.
        """
        port = self.each((METHOD, b"\5\0"))
        upstream, _ = await self.filled(f"socks5://127.0.0.1:{port}")
        dial = upstream.connect(DESTINATION)
        await self.until(lambda: not self.scripts[0].answers)
        self.scripts[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.failure(ProxyClosedError, dial)

    async def test_deadline(self) -> None:
        """
        One deadline covers both connections.
        """
        port = self.each((METHOD, b""), (METHOD,))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}", 0.3)
        text = await self.failure(DestinationSilent, upstream.connect(DESTINATION))
        self.assertIn(f"No answer about {DESTINATION} came within 0.3 s from the proxy", text)
        pool.stopService()
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Cancelling closes the connection that had waited.
        """
        port = self.each((METHOD,))
        upstream, _ = await self.filled(f"socks5://127.0.0.1:{port}")
        dial = upstream.connect(DESTINATION)
        dial.addErrback(lambda reason: None)
        dial.cancel()
        self.assertClean()
        await self.ended()

    async def test_refused(self) -> None:
        """
        A refusal by the proxy is the result, and the connection has worked: earlier lost
        requests no longer count as a row.
        """
        port = self.each((METHOD, REFUSED), (FORBIDDEN,))
        for scheme, kind in (("socks5", UpstreamRefused), ("http", UpstreamForbids)):
            upstream, pool = await self.filled(f"{scheme}://127.0.0.1:{port}")
            worked = self.worked(pool)
            await self.failure(kind, upstream.connect(DESTINATION))
            self.assertEqual(len(worked), 1)
        await self.ended()

    async def test_notWorked(self) -> None:
        """
        With half an answer, or none by the deadline, the connection has not worked.
        """
        port = self.each((METHOD, b"\5\0"), (METHOD,))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        worked = self.worked(pool)
        dial = upstream.connect(DESTINATION)
        await self.until(lambda: not self.scripts[0].answers)
        self.scripts[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.failure(ProxyClosedError, dial)
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}", 0.1)
        late = self.worked(pool)
        await self.failure(DestinationSilent, upstream.connect(DESTINATION))
        self.assertEqual((worked, late), ([], []))
        await self.ended()

    async def test_associate(self) -> None:
        """
        An association is asked for on a new connection: some proxies, such as OpenSSH's,
        end it, which says nothing about the ones that wait.
        """
        port = self.each((METHOD,), (METHOD, RELAY), (METHOD, b""))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        leg = await upstream.associate(4)
        self.assertEqual(self.scripts[1].heard[len(GREETING) :][:2], b"\5\3")
        os.close(leg.fd)
        assert leg.control is not None
        leg.control.close()
        await self.assertFailure(upstream.associate(4), DatagramsUnsupported)
        self.assertEqual((len(pool.idle), self.scripts[0].heard), (1, GREETING))
        pool.stopService()
        await self.ended()

    async def test_again(self) -> None:
        """
        HTTP may need a new connection for its log-in, where the handshake begins again.
        """
        ask = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=r\r\nConnection: close\r\n\r\n"
        port = self.each((ask,), (OPEN,))
        upstream, _ = await self.filled(f"http://ann:secret@127.0.0.1:{port}")
        connection = await upstream.connect(Endpoint("example.com", 80))
        os.close(connection.fd)
        self.assertNotIn(b"Authorization", self.scripts[0].heard)
        self.assertIn(b"Authorization", self.scripts[1].heard)
        await self.ended()

    async def test_notFilled(self) -> None:
        """
        If no connection waits, the dial is like any other.
        """
        port = self.each((METHOD,), (METHOD, REPLY))
        upstream, pool = await self.filled(f"socks5://127.0.0.1:{port}")
        pool.stopService()
        connection = await upstream.connect(DESTINATION)
        os.close(connection.fd)
        await self.ended()
