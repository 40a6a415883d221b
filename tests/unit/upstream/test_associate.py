"""
Tests for datagram legs: L{nanotun.upstream.proxy}, L{nanotun.upstream.direct} and
L{nanotun.upstream.dial.control}.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    DatagramsUnsupported,
    HandshakeError,
    NamesUnsupported,
    ProxyClosedError,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import DatagramLeg, ILegControl, INamedDatagrams, LegKind
from nanotun.timer import Timer
from nanotun.upstream.dial.control import DOUBT_TIME, KEEPALIVE, ControlConnection
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.proxy import UNSUPPORTED_TIME, Handshakes, ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.upstream_cases import (
    DESTINATION,
    FakeReactor,
    ReactorCase,
    unmarkedContext,
)

METHOD = b"\5\0"


def reply(port: int, host: str = "0.0.0.0") -> bytes:
    """A proxy's reply: its UDP relay is at this address."""
    return b"\5\0\0\1" + socket.inet_aton(host) + struct.pack("!H", port)


class NoRoute(socket.socket):
    """A socket whose connect fails."""

    def connect(self, address: object) -> None:
        """Fail."""
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


class LegCase(ReactorCase):
    """
    A test in which the proxy's UDP relay is a plain socket.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.relay.close)
        self.relay.bind(("127.0.0.1", 0))
        self.relayPort = self.relay.getsockname()[1]

    def adopt(self, leg: DatagramLeg) -> socket.socket:
        """The leg's socket, closed at the end."""
        datagram = socket.socket(fileno=leg.fd)
        self.addCleanup(datagram.close)
        return datagram

    async def open(self, *more: bytes) -> tuple[ILegControl, Deferred[str]]:
        """Open a datagram leg; returns its control, and what fires when it is lost."""
        port = self.listen(METHOD, reply(self.relayPort) + b"".join(more))
        leg = await self.proxy(port).associate(4)
        self.adopt(leg)
        assert leg.control is not None
        self.addCleanup(leg.control.close)
        lost: Deferred[str] = Deferred()
        leg.control.watch(lost.callback)
        return leg.control, lost


class RelayTests(LegCase):
    """
    Tests for L{ProxyUpstream.associate}.
    """

    async def test_leg(self) -> None:
        """
        A leg's socket reaches the proxy's UDP relay and hears nobody else.
        """
        port = self.listen(METHOD, reply(self.relayPort))
        upstream = self.proxy(port)
        self.assertTrue(upstream.sharesLegs)
        leg = await upstream.associate(6)
        self.assertEqual(leg.kind, LegKind.SOCKS5)
        verifyObject(ILegControl, leg.control)
        verifyObject(IReadDescriptor, leg.control)
        datagram = self.adopt(leg)
        self.assertFalse(os.get_blocking(leg.fd))
        self.assertFalse(os.get_inheritable(leg.fd))
        self.assertEqual(datagram.getpeername(), ("127.0.0.1", self.relayPort))
        datagram.send(b"x")
        self.assertEqual(self.relay.recv(10), b"x")
        assert leg.control is not None
        leg.control.close()
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"\5\1\0" + b"\5\3\0\1\0\0\0\0\0\0")
        self.assertClean()

    async def test_doubt(self) -> None:
        """
        A doubt has the kernel ask the proxy within a second, for a while; later the
        connection is left alone as before.
        """
        port = self.listen(METHOD, reply(self.relayPort))
        leg = await self.proxy(port).associate(4)
        self.adopt(leg)
        control = leg.control
        assert isinstance(control, ControlConnection)
        clock = Clock()
        control._doubted = Timer(clock, control._trust)
        control.watch(list)  # type: ignore[arg-type]
        stream = control._socket
        assert stream is not None

        def idle() -> int:
            return stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

        self.assertEqual(idle(), 60)
        for _ in range(2):
            control.doubt()
            self.assertEqual(idle(), 1)
        clock.advance(DOUBT_TIME)
        self.assertEqual(idle(), 60)
        control.doubt()
        control.close()
        control.doubt()
        self.assertEqual(clock.getDelayedCalls(), [])
        await self.ended()

    async def test_named(self) -> None:
        """
        Before a leg that takes names is opened, one query finds out whether the UDP relay
        takes them.
        """
        port = self.listen(METHOD, reply(self.relayPort))
        upstream = self.proxy(port, servers=(Endpoint("192.0.2.53", 53),))
        verifyObject(INamedDatagrams, upstream)
        asked = upstream.associateNamed(4)
        self.relay.setblocking(False)
        while not asked.called:
            await deferLater(self.reactor, 0.01)
            with contextlib.suppress(BlockingIOError):
                heard, source = self.relay.recvfrom(1000)
                self.assertEqual(heard[:7], b"\0\0\0\3\x0a19")
                self.relay.sendto(heard[:19] + b"\x81\x80" + heard[21:], source)
        leg = await asked
        self.adopt(leg)
        assert leg.control is not None
        leg.control.close()
        self.assertEqual((len(self.scripts), upstream.relayNames.known), (2, True))
        await self.ended()
        self.assertClean()

    async def test_unnamed(self) -> None:
        """
        Where that cannot be told, there is no such leg; a proxy that carries no UDP is not
        even asked.
        """
        upstream = self.proxy(self.listen())
        text = await self.failure(NamesUnsupported, upstream.associateNamed(4))
        self.assertIn("cannot be told", text)
        upstream.relayNames.known = False
        text = await self.failure(NamesUnsupported, upstream.associateNamed(4))
        self.assertIn("takes no host names", text)
        url = parseProxyURL("http://127.0.0.1:1")
        http = url.scheme.make(url, unmarkedContext(self.reactor))
        await self.failure(DatagramsUnsupported, INamedDatagrams(http).associateNamed(4))
        self.assertEqual(self.scripts, [])

    async def test_leadsIn(self) -> None:
        """
        A UDP relay whose route leads into the tunnel is refused: each datagram would
        come back as a new flow.
        """
        port = self.listen(METHOD, reply(self.relayPort, "127.0.0.1"))
        upstream = self.proxy(port, leadsIn="127.0.0.1".__eq__)
        self.assertIn("into the tunnel", await self.failure(ProxyError, upstream.associate(4)))
        await self.ended()
        self.assertClean()

    async def test_unsupported(self) -> None:
        """
        A proxy that carries no UDP is not asked again for a while, and TCP still works.
        """
        port = self.listen(METHOD, b"\5\7\0\1\0\0\0\0\0\0")
        upstream = self.proxy(port)
        began = self.reactor.seconds()
        for _ in range(3):
            text = await self.failure(DatagramsUnsupported, upstream.associate(4))
            self.assertIn("does not carry UDP", text)
        self.assertEqual(len(self.scripts), 1)
        self.assertGreaterEqual(upstream._unsupportedUntil - began, UNSUPPORTED_TIME)
        upstream._unsupportedUntil -= UNSUPPORTED_TIME
        await self.failure(DatagramsUnsupported, upstream.associate(4))
        self.assertEqual(len(self.scripts), 2)
        await self.ended()

    async def test_trouble(self) -> None:
        """
        After any other refusal, and after nonsense, the proxy is asked again.
        """
        for answer, kind in (
            (b"\5\1\0\1\0\0\0\0\0\0", ProxyError),
            (reply(0), HandshakeError),
        ):
            upstream = self.proxy(self.listen(METHOD, answer))
            for _ in range(2):
                await self.failure(kind, upstream.associate(4))
        await self.ended()
        self.assertEqual(len(self.scripts), 4)

    async def test_closes(self) -> None:
        """
        A proxy that closes the connection when it is asked for UDP, as OpenSSH does,
        carries no UDP; one that closes it earlier is in trouble.
        """
        upstream = self.proxy(self.listen(METHOD, b""))
        for _ in range(2):
            text = await self.failure(DatagramsUnsupported, upstream.associate(4))
            self.assertIn("closes the connection when it is asked for UDP", text)
        self.assertEqual(len(self.scripts), 1)
        await self.failure(ProxyClosedError, self.proxy(self.listen(b"")).associate(4))
        await self.ended()

    async def test_noSocket(self) -> None:
        """
        If the UDP relay cannot be reached, or no socket made, the control connection is
        closed.
        """

        made: list[socket.socket] = []

        def noSocket(family: int) -> socket.socket:
            raise UpstreamError("no more")

        def unconnectable(family: int) -> Any:
            datagram = NoRoute(socket.AF_INET, socket.SOCK_DGRAM)
            made.append(datagram)
            return datagram

        for make, kind, expected in (
            (noSocket, UpstreamError, "no more"),
            (unconnectable, ProxyError, f"cannot be reached at 127.0.0.1:{self.relayPort}"),
        ):
            upstream = self.proxy(self.listen(METHOD, reply(self.relayPort)))
            self.patch(upstream, "_context", upstream._context._replace(openDatagram=make))
            self.assertIn(expected, await self.failure(kind, upstream.associate(4)))
        self.assertEqual([each.fileno() for each in made], [-1])
        await self.ended()

    async def test_hangs(self) -> None:
        """
        The deadline covers every step.
        """
        port = self.listen(METHOD)
        await self.failure(UpstreamTimeout, self.proxy(port, 0.5).associate(4))
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Cancelling leaves no socket behind.
        """
        leg = self.proxy(self.listen()).associate(4)
        leg.cancel()
        await self.assertFailure(leg, CancelledError)
        self.assertClean()

    async def test_noCommand(self) -> None:
        """
        A scheme without UDP says so.
        """
        upstream = self.proxy(1)
        self.patch(upstream, "_handshakes", Handshakes(upstream._handshakes.connect))
        text = await self.failure(DatagramsUnsupported, upstream.associate(4))
        self.assertIn("carries no UDP", text)
        self.assertIsInstance(upstream, ProxyUpstream)


class ControlTests(LegCase):
    """
    Tests for L{ControlConnection}.
    """

    async def test_closed(self) -> None:
        """
        The proxy's end of the connection is reported once.
        """
        control, lost = await self.open()
        self.scripts[0].transport.loseConnection()  # type: ignore[union-attr]
        self.assertIn("closed the connection that its UDP relay depends on", await lost)
        control.close()
        self.assertClean()

    async def test_reset(self) -> None:
        """
        A reset is reported.
        """
        _, lost = await self.open()
        self.scripts[0].transport.abortConnection()  # type: ignore[union-attr]
        self.assertIn("broke the connection", await lost)

    async def test_bytes(self) -> None:
        """
        Bytes from the proxy are ignored.
        """
        _, lost = await self.open(b"leftover")
        script = self.scripts[0]
        script.transport.write(b"x" * 100_000)  # type: ignore[union-attr]
        script.transport.loseConnection()  # type: ignore[union-attr]
        await lost

    async def test_early(self) -> None:
        """
        An end before the connection is watched is reported, too.
        """
        port = self.listen(METHOD, reply(self.relayPort))
        leg = await self.proxy(port).associate(4)
        self.adopt(leg)
        self.scripts[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.ended()
        lost: Deferred[str] = Deferred()
        assert leg.control is not None
        leg.control.watch(lost.callback)
        await lost

    async def test_close(self) -> None:
        """
        After a close nothing is reported, and nothing is left behind.
        """
        control, lost = await self.open()
        assert isinstance(control, ControlConnection)
        control.close()
        control.close()
        control.connectionLost(Failure(ZeroDivisionError()))
        await self.ended()
        self.assertNoResult(lost)
        self.assertEqual((control.fileno(), control.logPrefix()), (-1, "control"))
        self.assertClean()

    async def test_keepalive(self) -> None:
        """
        Keep-alives notice a proxy that has vanished.
        """
        control, _ = await self.open()
        stream = socket.socket(fileno=os.dup(control.fileno()))  # type: ignore[attr-defined]
        self.addCleanup(stream.close)
        self.assertEqual(stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
        for name, value in KEEPALIVE:
            found = stream.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            self.assertEqual(found, value)

    async def test_spurious(self) -> None:
        """
        A stale event of an older descriptor with the same number is not an end.
        """
        control, _ = await self.open()
        self.assertIsNone(control.doRead())  # type: ignore[attr-defined]


class DirectTests(SynchronousTestCase):
    """
    Tests for L{DirectUpstream.associate}.
    """

    def test_leg(self) -> None:
        """
        A leg is an unconnected socket of the app's family.
        """
        upstream = DirectUpstream(unmarkedContext(FakeReactor()))
        self.assertFalse(upstream.sharesLegs)
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            leg = self.successResultOf(upstream.associate(family))
            datagram = socket.socket(fileno=leg.fd)
            self.addCleanup(datagram.close)
            self.assertEqual((leg.kind, leg.control), (LegKind.DIRECT, None))
            self.assertEqual((datagram.family, datagram.type), (kind, socket.SOCK_DGRAM))
            self.assertRaises(OSError, datagram.getpeername)

    def test_noSocket(self) -> None:
        """
        A leg fails if its socket cannot be made.
        """

        def noSocket(family: int) -> socket.socket:
            raise UpstreamError("no more")

        context = unmarkedContext(FakeReactor())._replace(openDatagram=noSocket)
        upstream = DirectUpstream(context)
        self.failureResultOf(upstream.associate(4), UpstreamError)
        self.assertEqual(upstream.describe(), "direct://")
        self.assertEqual(DESTINATION.port, 443)
