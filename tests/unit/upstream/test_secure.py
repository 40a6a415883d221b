"""
Tests of L{nanotun.upstream.dial.secure}: dials to proxies inside TLS, with the library.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from nanotun.errors import (
    ConfigError,
    HandshakeError,
    ProxyClosedError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
)
from nanotun.interfaces import Via
from nanotun.upstream.dial.secure import Secure, readAuthorities
from nanotun.upstream.dial.sockets import STALL_TIME
from tests.unit.upstream.secure_cases import SecureCase
from tests.unit.upstream.tls_cases import CA
from tests.unit.upstream.upstream_cases import DESTINATION

OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
ASK = (
    b'HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'
    b"Connection: close\r\n\r\n"
)
_USER_TIMEOUT = 18


class SecureTests(SecureCase):
    """
    Dials without an engine.
    """

    def stream(self, connection: Any) -> socket.socket:
        """A leg's socket, closed with the test."""
        stream = socket.socket(fileno=connection.fd)
        self.addCleanup(stream.close)
        return stream

    async def hear(self, stream: socket.socket, size: int) -> bytes:
        """Read from a leg."""
        got = b""
        while len(got) < size:
            try:
                piece = stream.recv(size - len(got))
            except BlockingIOError:
                await deferLater(self.reactor, 0, lambda: None)
                continue
            if not piece:
                break
            got += piece
        return got

    async def test_connects(self) -> None:
        """
        A leg carries plain bytes, both ways.
        """
        upstream = self.makeSecure(self.secured((OPEN + b"220 hello", b"250 ok")))
        connection = await upstream.connect(DESTINATION)
        stream = self.stream(connection)
        stream.sendall(b"HELO")
        early = connection.leftover
        self.assertEqual(early + await self.hear(stream, 15 - len(early)), b"220 hello250 ok")
        (script,) = self.scripts
        self.assertTrue(script.heard.startswith(b"CONNECT 192.0.2.1:443"))
        self.assertTrue(script.heard.endswith(b"HELO"))

    async def test_refuses(self) -> None:
        """
        The proxy's answer is the error, as is its end before the answer.
        """
        upstream = self.makeSecure(self.secured((b"HTTP/1.1 403 No\r\n\r\n",)))
        await self.failure(UpstreamForbids, upstream.connect(DESTINATION))
        upstream = self.makeSecure(self.secured((b"",)))
        text = await self.failure(ProxyClosedError, upstream.connect(DESTINATION))
        self.assertIn("closed the connection", text)

    async def test_noTls(self) -> None:
        """
        A certificate that is not trusted is an error, unless any will do; and so is a proxy
        without TLS, and one that ends.
        """
        port = self.secured((OPEN,))
        upstream = self.makeSecure(port, options="")
        text = await self.failure(HandshakeError, upstream.connect(DESTINATION))
        self.assertIn("not trusted (unable to get local issuer certificate)", text)
        upstream = self.makeSecure(port, options="?insecure=1")
        os.close((await upstream.connect(DESTINATION)).fd)
        upstream = self.makeSecure(self.each((b"HTTP/1.1 400 No\r\n\r\n",)))
        text = await self.failure(HandshakeError, upstream.connect(DESTINATION))
        self.assertIn("does not speak TLS with us (wrong version number)", text)
        upstream = self.makeSecure(self.each((b"",)))
        text = await self.failure(ProxyClosedError, upstream.connect(DESTINATION))
        self.assertIn("closed the connection", text)

    async def test_another(self) -> None:
        """
        A log-in that needs another connection has TLS on that, too.
        """
        upstream = self.makeSecure(self.secured((ASK,), (OPEN,)), "u:p@", "?insecure=1")
        os.close((await upstream.connect(DESTINATION)).fd)
        self.assertEqual(len(self.scripts), 2)
        self.assertIn(b"Proxy-Authorization: Digest", self.scripts[1].heard)

    async def test_checks(self) -> None:
        """
        A check ends with TLS; nothing is sent inside, and the connection is closed.
        """
        await self.makeSecure(self.secured(())).check()
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"")
        await self.failure(HandshakeError, self.makeSecure(self.secured(()), options="").check())

    async def test_cancel(self) -> None:
        """
        A dial that is cancelled within TLS closes its connection.
        """
        dial = self.makeSecure(self.each((b"\x16\3\3",))).connect(DESTINATION)
        await self.until(lambda: bool(self.scripts and self.scripts[0].heard))
        dial.cancel()
        await self.assertFailure(dial, CancelledError)
        await self.ended()
        self.assertClean()

    async def test_pool(self) -> None:
        """
        A connection waits with its TLS done: it knows the proxy's address, and its kernel's
        patience is short until it has worked.  It is the one that the next flow is dialled on.
        """
        port = self.secured((OPEN,))
        upstream = self.makeSecure(port, poolSize=1)
        upstream.pool.startService()
        self.addCleanup(upstream.pool.stopService)
        await self.until(lambda: bool(upstream.pool.idle))
        warm = upstream.pool.idle[0]
        self.assertEqual(warm.address.address, ("127.0.0.1", port))
        (first,) = self.scripts
        patience: list[int] = []

        def note(stream: Any) -> None:
            with warm._secure.below(stream) as below:
                patience.append(below.getsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT))

        note(warm.stream)
        connection = await upstream.connect(DESTINATION)
        note(self.stream(connection))
        self.assertEqual(patience, [1250, STALL_TIME * 1000])
        self.assertIn(b"CONNECT", first.heard)
        await self.until(lambda: bool(upstream.pool.idle))
        plan = upstream.plan(DESTINATION)
        self.assertEqual((plan.course.steps[0].value, plan.fd >= 0), (b"", True))
        os.close(plan.fd)

    async def test_through(self) -> None:
        """
        TLS goes through another upstream, where it may begin with what came too early.
        """
        port = self.secured((OPEN,))
        under, _ = self.pair(port)
        upstream = self.makeSecure(port, via=Via("under", under))
        os.close((await upstream.connect(DESTINATION)).fd)
        under, _ = self.pair(port, b"220 hello")
        upstream = self.makeSecure(port, via=Via("under", under))
        text = await self.failure(HandshakeError, upstream.connect(DESTINATION))
        self.assertIn("does not speak TLS", text)

    def pair(self, port: int, leftover: bytes = b"") -> Any:
        """An upstream that connects to a port of this machine, with what came early."""
        under = self.makePlanned("direct://")
        connect = under.connect

        def connected(destination: object) -> Deferred[Any]:
            opened = connect(DESTINATION._replace(host="127.0.0.1", port=port))
            return opened.addCallback(  # type: ignore[no-any-return]
                lambda connection: connection._replace(leftover=leftover)
            )

        under.connect = connected
        return under, port

    def test_files(self) -> None:
        """
        A file without a certificate is refused at once.
        """
        path = self.mktemp()
        for content in (None, b"nothing"):
            if content is not None:
                with open(path, "wb") as file:
                    file.write(content)
            error = self.assertRaises(ConfigError, readAuthorities, path)
            self.assertIn(path, str(error))
        self.assertIn(b"CERTIFICATE", readAuthorities(CA))
        self.assertEqual(readAuthorities(""), b"")

    def test_useless(self) -> None:
        """
        What the library can do nothing with is an error of the dial, and the connection is
        closed.
        """

        class Without:
            def number(self, *arguments: object) -> int:
                raise OSError(22, "Invalid argument")

        secure = Secure(Without(), b"x", CA, False, "h")  # type: ignore[arg-type]
        near, far = socket.socketpair()
        with far:
            error = self.assertRaises(UpstreamError, secure.begin, near.detach())
            self.assertIn(CA, str(error))
            self.assertEqual(far.recv(1), b"")


class SecurePlanTests(SecureCase):
    """
    What the engine could not do goes on where it stopped.
    """

    async def test_lost(self) -> None:
        """
        TLS that has failed in the engine is the same error as without it.
        """
        upstream = self.makeSecure(self.closedPort())
        for received, text in (
            (b"\1\4word", "not trusted (word)"),
            (b"\2\4word", "speak TLS with us (word)"),
            (b"\3\0", "closed the connection"),
        ):
            plan = upstream.plan(DESTINATION)
            end = self.lost(received)
            error = await self.assertFailure(plan.outcomes.resume(end), ProxyError)
            self.assertIn(text, str(error))

    def lost(self, received: bytes) -> Any:
        """The end of a dial in its first step."""
        from nanotun.interfaces import DialEnd, DialEndKind

        return DialEnd(DialEndKind.LOST, step=0, received=received)
