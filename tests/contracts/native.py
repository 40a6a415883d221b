"""
What the engine of the native library does with datagrams of the kernel, beyond what a fake
can do.  For L{tests.contracts.real}.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import Endpoint
from tests.contracts.datagrams import DatagramApp, DatagramContract

#: Seconds until an idle association ends: the shortest that a user may set.
UDP_TIMEOUT = 1.0

#: How many associations there may be.
ASSOCIATION_LIMIT = 3

PEER = Endpoint("192.0.2.1", 80)


def header(peer: Endpoint) -> bytes:
    """The header of a datagram to or from C{peer} (RFC 1928, section 7)."""
    if ":" in peer.host:
        address = b"\4" + socket.inet_pton(socket.AF_INET6, peer.host)
    else:
        address = b"\1" + socket.inet_pton(socket.AF_INET, peer.host)
    return b"\0\0\0" + address + struct.pack("!H", peer.port)


@implementer(IReadDescriptor, ILoggingContext)
class SocketDatagramApp(DatagramApp):
    """
    A program with a socket of the kernel's.

    @param connected: whether the socket is connected, so that it receives only from its
        destination, and errors.
    """

    def __init__(self, reactor: Any, destination: Endpoint, connected: bool = True) -> None:
        family = socket.AF_INET6 if ":" in destination.host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.heard: DeferredQueue[tuple[Endpoint, bytes]] = DeferredQueue()
        self.errors: DeferredQueue[int] = DeferredQueue()
        self._reactor = reactor
        self._destination = destination
        if connected:
            self.socket.connect(destination)
        reactor.addReader(self)

    def send(self, payload: bytes, destination: Endpoint | None = None) -> None:
        """See L{DatagramApp.send}."""
        if destination is not None:
            self.socket.sendto(payload, destination)
        else:
            self.socket.send(payload)

    def received(self) -> Deferred[bytes]:
        """See L{DatagramApp.received}."""
        return self.heard.get().addCallback(lambda datagram: datagram[1])

    def refused(self) -> Deferred[int]:
        """See L{DatagramApp.refused}."""
        return self.errors.get()

    def disconnect(self) -> None:
        """Close it."""
        self._reactor.removeReader(self)
        self.socket.close()

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "app"

    def doRead(self) -> None:
        """A datagram, or an error."""
        try:
            payload, sender = self.socket.recvfrom(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.errors.put(error.errno or 0)
            return
        self.heard.put((Endpoint(*sender[:2]), payload))

    def connectionLost(self, reason: Failure) -> None:
        """An error without a datagram."""
        self.errors.put(self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


class NativeDatagramContract(DatagramContract):
    """
    Payloads, ends and limits.
    """

    reactor: Any
    connectors: list[Any]

    def sender(self, destination: Endpoint) -> SocketDatagramApp:
        """See L{DatagramContract.sender}."""
        return self.program(destination)

    def program(self, destination: Endpoint, connected: bool = True) -> SocketDatagramApp:
        """A program, closed at the end."""
        app = SocketDatagramApp(self.reactor, destination, connected)
        self.connectors.append(app)
        return app

    def hear(self, relay: socket.socket) -> Deferred[bytes]:
        """Fires with the next datagram that C{relay} receives."""
        relay.setblocking(False)
        app = _Listener(relay)
        self.reactor.addReader(app)
        app.heard.addBoth(lambda result: (self.reactor.removeReader(app), result)[1])
        return app.heard

    async def test_payload(self) -> None:
        """
        What a program sends reaches the proxy's UDP relay with its header, the largest
        datagram included; a reply from any peer reaches the program, from that peer's
        address.
        """
        for peer, other in (
            (PEER, Endpoint("198.51.100.9", 5000)),
            (Endpoint("2001:db8::1", 443), Endpoint("2001:db8::9", 5001)),
        ):
            app = self.program(peer, connected=False)
            app.send(b"first", peer)
            request = await self.handler.next(self.handler.datagramRequests)
            association, relay = self.openLeg()
            self.assertTrue(request.attach(association))
            self.assertEqual(await self.hear(relay), header(peer) + b"first")
            for sender, payload in ((peer, b"answer"), (other, b""), (other, b"x" * 1000)):
                relay.send(header(sender) + payload)
                self.assertEqual(await app.heard.get(), (sender, payload))
            large = os.urandom(60_000)
            app.send(large, peer)
            self.assertEqual(await self.hear(relay), header(peer) + large)
            relay.send(header(peer) + large)
            self.assertEqual(await app.heard.get(), (peer, large))

    async def test_idle(self) -> None:
        """
        An association without a datagram ends by itself, and its end is told once.
        """
        association, _ = self.openLeg()
        self.assertEqual(await self.ends.get(), errno.ETIMEDOUT)
        self.engine.closeAssociation(association)
        self.assertEqual(self.engine.stats().associations, 0)

    async def test_limit(self) -> None:
        """
        One association over the limit ends the one that was idle for longest.
        """
        for _ in range(ASSOCIATION_LIMIT + 1):
            self.openLeg()
        self.assertEqual(await self.ends.get(), errno.ENOBUFS)
        stats = self.engine.stats()
        self.assertEqual((stats.associations, stats.associations_evicted), (ASSOCIATION_LIMIT, 1))

    async def test_shared(self) -> None:
        """
        A shared association takes queries of several programs, but not two whose answers
        could not be told apart, nor what is no query.
        """
        association, relay = self.openLeg(shared=True)
        apps = []
        first = b"\0\1\0\0\0\1" + bytes(6)
        for number, query in enumerate((first, first, b"\0" + first[:1] + first[2:], bytes(12))):
            apps.append(self.program(PEER))
            apps[-1].send(query)
            request = await self.handler.next(self.handler.datagramRequests)
            self.assertEqual(request.attach(association), number in (0, 2))
            if number not in (0, 2):
                request.drop()
            else:
                self.assertEqual(await self.hear(relay), header(PEER) + query)
        for number in (2, 0):
            answer = (b"\0\1" if number == 0 else b"\0\0") + b"answer to it"
            relay.send(header(PEER) + answer)
            self.assertEqual(await apps[number].received(), answer)


@implementer(IReadDescriptor, ILoggingContext)
class _Listener:
    """Receives one datagram."""

    def __init__(self, relay: socket.socket) -> None:
        self.relay = relay
        self.heard: Deferred[bytes] = Deferred()

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self.relay.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "relay"

    def doRead(self) -> None:
        """Take it."""
        if not self.heard.called:
            self.heard.callback(self.relay.recv(65536))

    def connectionLost(self, reason: Failure) -> None:
        """It ends with the test."""
