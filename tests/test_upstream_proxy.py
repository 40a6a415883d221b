"""
Tests for L{nanotun.upstream.proxy}, L{nanotun.upstream.protocol} and
L{nanotun.upstream.upstreamFor}.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    AuthenticationError,
    ConfigError,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.interfaces import IUpstream
from nanotun.proxyurl import parseProxyURL
from nanotun.upstream import upstreamFor
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.protocol import UpstreamFactory
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.socks5 import Socks5Handshake
from tests.upstream_cases import DESTINATION, FakeReactor, ReactorCase, unmarked

REPLY = b"\5\0\0\1\0\0\0\0\0\0"


class ProxyTests(ReactorCase):
    """
    Tests for L{ProxyUpstream}.
    """

    async def test_connects(self) -> None:
        """
        A leg is a connected, non-blocking socket that no-one else has.
        """
        port = self.listen(b"\5\0", REPLY + b"220 hello")
        upstream = self.proxy(port)
        verifyClass(IUpstream, ProxyUpstream)
        verifyObject(IUpstream, upstream)
        connection = await upstream.connect(DESTINATION)
        self.assertEqual(connection.leftover, b"220 hello")
        self.assertFalse(os.get_blocking(connection.fd))
        self.assertFalse(os.get_inheritable(connection.fd))
        self.assertClean()
        os.close(connection.fd)
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"\5\1\0" + b"\5\1\0\1\xc0\0\2\1\1\xbb")

    async def test_refused(self) -> None:
        """
        A proxy that is not there is named.
        """
        port = self.closedPort()
        text = await self.failure(ProxyError, self.proxy(port).connect(DESTINATION))
        self.assertIn(f"socks5://127.0.0.1:{port}", text)
        self.assertIn("Connection refused", text)

    async def test_says_no(self) -> None:
        """
        A refusal of the proxy's comes through.
        """
        port = self.listen(b"\5\0", b"\5\5\0\1\0\0\0\0\0\0")
        await self.failure(UpstreamRefused, self.proxy(port).connect(DESTINATION))
        await self.ended()

    async def test_closesEarly(self) -> None:
        """
        So does the end of the connection in mid-handshake.
        """
        for answers in ((b"",), (b"\5\0", b"")):
            port = self.listen(*answers)
            text = await self.failure(ProxyError, self.proxy(port).connect(DESTINATION))
            self.assertIn("closed the connection before its answer", text)
        await self.ended()

    async def test_nonsense(self) -> None:
        """
        A server of another protocol is recognised.
        """
        port = self.listen(b"HTTP/1.0 400 Bad Request\r\n")
        await self.failure(HandshakeError, self.proxy(port).connect(DESTINATION))
        await self.ended()

    async def test_wrongPassword(self) -> None:
        """
        The password stays out of the text.
        """
        port = self.listen(b"\5\2", b"\1\1")
        upstream = self.proxy(port, user="user:secret@")
        text = await self.failure(AuthenticationError, upstream.connect(DESTINATION))
        self.assertNotIn("secret", text + upstream.describe())
        self.assertIn(b"secret", self.scripts[0].heard)
        await self.ended()

    async def test_hangs(self) -> None:
        """
        A proxy that says nothing has until the deadline.
        """
        port = self.listen()
        text = await self.failure(UpstreamTimeout, self.proxy(port, 0.05).connect(DESTINATION))
        self.assertIn("did not answer within 0.05 s", text)
        self.assertIn("waiting for its answer", text)
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Giving up closes the connection.
        """
        port = self.listen()
        leg = self.proxy(port).connect(DESTINATION)
        leg.cancel()
        await self.assertFailure(leg, CancelledError)
        self.assertClean()

    async def test_name(self) -> None:
        """
        The proxy may have a name.
        """
        port = self.listen(b"\5\0", REPLY)
        url = parseProxyURL(f"socks5://localhost:{port}")
        upstream = ProxyUpstream(
            url,
            Handshakes(lambda end: Socks5Handshake(end, str(url))),
            self.reactor,
            5.0,
            unmarked,
        )
        for _ in range(2):
            connection = await upstream.connect(DESTINATION)
            os.close(connection.fd)
        await self.ended()

    async def test_noSockets(self) -> None:
        """
        A socket that cannot be made fails the leg.
        """

        def noStream(family: int) -> socket.socket:
            raise UpstreamError("no more")

        upstream = DirectUpstream(self.reactor, 5.0, noStream)
        self.assertEqual(
            await self.failure(UpstreamError, upstream.connect(DESTINATION)), "no more"
        )


class UpstreamForTests(SynchronousTestCase):
    """
    Tests for L{upstreamFor} and L{UpstreamFactory}.
    """

    def test_schemes(self) -> None:
        """
        Each scheme has its upstream, described without its password.
        """
        reactor = FakeReactor()
        direct = upstreamFor(parseProxyURL("direct://"), reactor, 5.0)
        self.assertEqual(direct.describe(), "direct://")
        proxy = upstreamFor(parseProxyURL("socks5://u:secret@h:1"), reactor, 5.0)
        self.assertNotIn("secret", proxy.describe())
        self.assertIsInstance(proxy, ProxyUpstream)
        unknown = parseProxyURL("direct://")._replace(scheme="gopher")
        self.assertRaises(ConfigError, upstreamFor, unknown, reactor, 5.0)

    def test_factory(self) -> None:
        """
        The factory makes no protocol that would not know its destination.
        """
        self.assertIsNone(UpstreamFactory("socks5://h:1").buildProtocol(None))
