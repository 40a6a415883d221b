"""
Tests for L{nanotun.upstream.proxy}, L{nanotun.upstream.dial.protocol} and
L{nanotun.upstream.make}.
"""

from __future__ import annotations

import os
import socket

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from nanotun.errors import (
    AuthenticationError,
    DestinationSilent,
    HandshakeError,
    ProxyClosedError,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
)
from nanotun.interfaces import IUpstream
from nanotun.upstream.dial.protocol import UpstreamFactory
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.handshakes.socks5 import Socks5Handshake
from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import (
    DESTINATION,
    REPLY,
    FakeReactor,
    ReactorCase,
    UpstreamContract,
    unmarkedContext,
)


class ProxyTests(UpstreamContract, ReactorCase):
    """
    Tests for L{ProxyUpstream}.
    """

    def makeUpstream(self, port: int) -> IUpstream:
        """A real one."""
        verifyClass(IUpstream, ProxyUpstream)
        return self.proxy(port)

    async def test_closesEarlyTold(self) -> None:
        """
        The error says that the proxy closed the connection in the middle of the
        handshake.
        """
        text = await self.failure(
            ProxyClosedError, self.proxy(self.listen(b"")).connect(DESTINATION)
        )
        self.assertIn("closed the connection before its answer", text)
        await self.ended()

    async def test_refused(self) -> None:
        """
        The error names a proxy that does not listen.
        """
        port = self.closedPort()
        text = await self.failure(ProxyError, self.proxy(port).connect(DESTINATION))
        self.assertIn(f"socks5://127.0.0.1:{port}", text)
        self.assertIn("Connection refused", text)

    async def test_nonsense(self) -> None:
        """
        A server of another protocol is recognised.
        """
        port = self.listen(b"HTTP/1.0 400 Bad Request\r\n")
        await self.failure(HandshakeError, self.proxy(port).connect(DESTINATION))
        await self.ended()

    async def test_wrongPassword(self) -> None:
        """
        The error for a wrong password does not contain it.
        """
        port = self.listen(b"\5\2", b"\1\1")
        upstream = self.proxy(port, user="user:secret@")
        text = await self.failure(AuthenticationError, upstream.connect(DESTINATION))
        self.assertNotIn("secret", text + upstream.describe())
        self.assertIn(b"secret", self.scripts[0].heard)
        await self.ended()

    async def test_hangs(self) -> None:
        """
        A proxy that says nothing fails at the deadline.
        """
        port = self.listen()
        text = await self.failure(UpstreamTimeout, self.proxy(port, 0.5).connect(DESTINATION))
        self.assertIn("did not answer within 0.5 s", text)
        self.assertIn("waiting for its answer", text)
        await self.ended()

    async def test_destinationHangs(self) -> None:
        """
        A proxy that took the request and says nothing is not blamed: the destination is
        named.  One that began an answer, or was not asked yet, is.
        """
        silent = "No answer about 192.0.2.1:443 came within 2 s from the proxy {}; most likely"
        context = unmarkedContext(self.reactor, 2)
        dials = []
        for scheme, told, blames in (
            ("http", (), False),
            ("http", (b"HTTP/1.1",), True),
            ("socks4", (), False),
            ("socks4", (b"\0",), True),
            ("socks5", (b"\5\0",), False),
            ("socks5", (b"\5\0", b"\5\0\0"), True),
        ):
            url = f"{scheme}://127.0.0.1:{self.listen(*told)}"
            upstream = upstreamsFor([parseProxyURL(url)], context)[0]
            dials.append((url, blames, upstream.connect(DESTINATION)))
        # All at once, as they take the whole of their time.
        for url, blames, dial in dials:
            error = await self.assertFailure(dial, UpstreamError)
            self.assertEqual(type(error), UpstreamTimeout if blames else DestinationSilent)
            expected = f"The proxy {url} did not answer" if blames else silent.format(url)
            self.assertTrue(str(error).startswith(expected), str(error))
        self.assertClean()
        await self.ended()

    async def test_name(self) -> None:
        """
        The proxy's host may be a name.
        """
        port = self.listen(b"\5\0", REPLY)
        url = parseProxyURL(f"socks5://localhost:{port}")
        upstream = ProxyUpstream(
            url,
            Handshakes(lambda end: Socks5Handshake(end, str(url))),
            unmarkedContext(self.reactor),
        )
        for _ in range(2):
            connection = await upstream.connect(DESTINATION)
            os.close(connection.fd)
        await self.ended()

    async def test_noSockets(self) -> None:
        """
        A leg fails if its socket cannot be made.
        """

        def noStream(family: int) -> socket.socket:
            raise UpstreamError("no more")

        upstream = DirectUpstream(unmarkedContext(self.reactor)._replace(openStream=noStream))
        self.assertEqual(
            await self.failure(UpstreamError, upstream.connect(DESTINATION)), "no more"
        )


class UpstreamsForTests(SynchronousTestCase):
    """
    Tests for L{upstreamsFor} and L{UpstreamFactory}.
    """

    def test_schemes(self) -> None:
        """
        Each URL makes its upstream, described without its password.
        """
        urls = [parseProxyURL(text) for text in ("direct://", "socks5://u:secret@h:1")]
        direct, proxy = upstreamsFor(urls, unmarkedContext(FakeReactor()))
        self.assertEqual(direct.describe(), "direct://")
        self.assertNotIn("secret", proxy.describe())
        self.assertIsInstance(proxy, ProxyUpstream)

    def test_factory(self) -> None:
        """
        The generic call makes no protocol, because it cannot name a destination.
        """
        self.assertIsNone(UpstreamFactory("socks5://h:1").buildProtocol(None))
