"""
Tests for L{nanotun.upstream.dial.transport} and L{nanotun.upstream.dial.sockets}.
"""

from __future__ import annotations

import errno
import os
import socket

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.upstream.dial.sockets import (
    MARKED,
    SO_MARK,
    STALL_TIME,
    UNMARKED,
    openDatagram,
    openStream,
    socketsFor,
)
from nanotun.upstream.dial.transport import RETRY_INTERVAL, HandshakeTransport
from tests.unit.upstream.upstream_cases import ReactorCase, unmarked


class TransportTests(ReactorCase):
    """
    Tests for the parts of L{HandshakeTransport} that no handshake uses.
    """

    def connect(self, port: int, protocol: Protocol) -> HandshakeTransport:
        """A transport that connects to the port."""
        transport = HandshakeTransport(
            unmarked(socket.AF_INET), self.reactor, protocol, lambda: None, self.fail
        )
        transport.connect(("127.0.0.1", port))
        return transport

    async def test_longWrite(self) -> None:
        """
        What the kernel does not take at once is written later, then the
        connection is closed.
        """
        port = self.listen()
        data = b"x" * 8_000_000
        made: Deferred[None] = Deferred()
        lost: Deferred[None] = Deferred()

        class Writer(Protocol):
            def connectionMade(self) -> None:
                made.callback(None)

            def connectionLost(self, reason: Failure | None = None) -> None:
                lost.callback(None)

        transport = self.connect(port, Writer())
        verifyObject(ITransport, transport)
        await made
        self.assertEqual(transport.getPeer().port, port)  # type: ignore[attr-defined]
        self.assertEqual(transport.getHost().host, "127.0.0.1")  # type: ignore[attr-defined]
        transport.writeSequence([data, b"end"])
        transport.loseConnection()
        await lost
        await self.ended()
        self.assertEqual(len(self.scripts[0].heard), len(data) + 3)
        self.assertEqual(transport.fileno(), -1)
        # Once closed, these do nothing.
        transport.write(b"x")
        transport.abortConnection()
        transport.connectionLost(Failure(ZeroDivisionError()))
        self.assertClean()

    async def test_unexpected(self) -> None:
        """
        An event that a state does not allow is an error that names both.
        """
        transport = self.connect(self.listen(), Protocol())
        error = self.assertRaises(UnexpectedEvent, transport.adopt)
        self.assertIn("connected in the state connected", str(error))
        transport.abortConnection()
        error = self.assertRaises(UnexpectedEvent, transport.detach)
        self.assertIn("detached in the state closed", str(error))
        self.assertClean()


class UnixTests(SynchronousTestCase):
    """
    L{HandshakeTransport} with a unix socket whose queue is full.
    """

    def setUp(self) -> None:
        """Listen, and fill the queue."""
        self.path = self.mktemp()
        self.server = unmarked(socket.AF_UNIX)
        self.addCleanup(self.server.close)
        self.server.bind(self.path)
        self.server.listen(0)
        first = unmarked(socket.AF_UNIX)
        self.addCleanup(first.close)
        first.connect(self.path)
        self.clock = Clock()
        self.connected: list[bool] = []
        self.failed: list[int] = []
        self.transport = HandshakeTransport(
            unmarked(socket.AF_UNIX),
            self.clock,
            None,
            lambda: self.connected.append(True),
            self.failed.append,
        )
        self.transport.connect(self.path)

    def test_room(self) -> None:
        """
        It connects as soon as the queue has room.
        """
        self.clock.pump([RETRY_INTERVAL] * 5)
        self.assertEqual((self.connected, self.failed), ([], []))
        self.server.accept()[0].close()
        self.clock.advance(RETRY_INTERVAL)
        self.assertEqual((self.connected, self.failed), ([True], []))
        os.close(self.transport.detach())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_gone(self) -> None:
        """
        If the server is gone by the next attempt, the connect has failed.
        """
        self.server.close()
        self.clock.advance(RETRY_INTERVAL)
        self.assertEqual((self.connected, self.failed), ([], [errno.ECONNREFUSED]))

    def test_abort(self) -> None:
        """
        Aborting while it waits for room leaves nothing behind.
        """
        self.transport.abortConnection()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.connected, self.failed), ([], []))


class SocketTests(SynchronousTestCase):
    """
    Tests for L{openStream} and L{openDatagram}.
    """

    def test_marked(self) -> None:
        """
        The mark and the stall limit are set, or the error says what is missing.
        """
        try:
            stream = openStream(socket.AF_INET)
        except UpstreamError as error:
            self.assertIn("run nanotun as root", str(error))
            return
        self.addCleanup(stream.close)
        self.assertEqual(stream.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), 0x6E74)
        self.assertEqual(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
        stall = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        self.assertEqual(stall, 1000 * STALL_TIME)

    def test_noFamily(self) -> None:
        """
        An address family that this machine lacks is an L{UpstreamError}.
        """
        self.assertRaises(UpstreamError, openStream, 12345)
        self.assertRaises(UpstreamError, openStream, socket.AF_NETLINK, 0)

    def test_datagram(self) -> None:
        """
        A datagram socket is marked, non-blocking, not inherited, and takes no
        packets of the other family.
        """
        try:
            datagram = openDatagram(socket.AF_INET6)
        except UpstreamError as error:
            self.assertIn("run nanotun as root", str(error))
            return
        self.addCleanup(datagram.close)
        self.assertEqual(datagram.type, socket.SOCK_DGRAM)
        self.assertEqual(datagram.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), 0x6E74)
        self.assertEqual(datagram.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 1)
        self.assertFalse(datagram.getblocking())
        self.assertFalse(datagram.get_inheritable())
        openDatagram(socket.AF_INET, 0).close()
        self.assertRaises(UpstreamError, openDatagram, 12345)

    def test_mayMark(self) -> None:
        """A process that may set no mark gets sockets without one, whatever its user's number."""
        outer = self

        class Refusing(socket.socket):
            number = 0

            def setsockopt(self, level: int, name: int, value: object) -> None:  # type: ignore[override]
                outer.assertEqual((level, name, value), (socket.SOL_SOCKET, SO_MARK, SOCKET_MARK))
                if self.number:
                    raise OSError(self.number, os.strerror(self.number))

        self.patch(socket, "socket", Refusing)
        for number, made in ((0, MARKED), (errno.EPERM, UNMARKED), (errno.EMFILE, MARKED)):
            Refusing.number = number
            self.assertIs(socketsFor(), made)
