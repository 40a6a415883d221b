"""
What the tests of L{nanotun.upstream} share: a proxy that follows a script, on
real sockets of the loopback interface, unmarked so that they need no root; and
sockets and a reactor of memory.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from nanotun.errors import ProxyError, UpstreamError, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream
from nanotun.upstream.dial.control import ControlConnection
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.handshakes.socks5 import UDP_ASSOCIATE, Socks5Handshake
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.url import parseProxyURL

unmarked = partial(openStream, mark=0)
unmarkedDatagram = partial(openDatagram, mark=0)
DESTINATION = Endpoint("192.0.2.1", 443)
REPLY = b"\5\0\0\1\0\0\0\0\0\0"


class Script(Protocol):
    """
    A proxy that says what it is told to.

    @ivar heard: all bytes that came.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.heard = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Say the next."""
        self.heard += data
        assert self.transport is not None
        if not self.answers:
            return
        answer = self.answers.pop(0)
        if answer:
            self.transport.write(answer)
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The end."""
        self.ended.callback(None)


class ReactorCase(TestCase):
    """
    A test with a listening socket; at its end no descriptors are left.
    """

    timeout = 5

    def setUp(self) -> None:
        """Remember the fds."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.scripts: list[Script] = []

    def listen(self, *answers: bytes) -> int:
        """Listen with a L{Script}; returns the port."""

        def build(address: object) -> Script:
            script = Script(list(answers))
            self.scripts.append(script)
            return script

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def closedPort(self) -> int:
        """A port that nobody listens on."""
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        self.addCleanup(probe.close)
        return int(probe.getsockname()[1])

    def proxy(self, port: int, timeout: float = 5.0, user: str = "") -> ProxyUpstream:
        """The upstream by way of the L{Script}."""
        url = parseProxyURL(f"socks5://{user}127.0.0.1:{port}")
        credentials = (b"user", b"secret") if user else None
        return ProxyUpstream(
            url,
            Handshakes(
                lambda destination: Socks5Handshake(destination, str(url), credentials),
                lambda: Socks5Handshake(
                    Endpoint("0.0.0.0", 0), str(url), credentials, UDP_ASSOCIATE
                ),
                greet=lambda: Socks5Handshake(None, str(url), credentials),
            ),
            self.reactor,
            timeout,
            unmarked,
            unmarkedDatagram,
        )

    def assertClean(self) -> None:
        """No transport of ours is left with the reactor."""
        left = [
            each
            for each in self.reactor.getReaders() + self.reactor.getWriters()
            if isinstance(each, (HandshakeTransport, ControlConnection))
        ]
        self.assertEqual(left, [])

    async def failure(self, kind: type[UpstreamError], leg: Deferred[Any]) -> str:
        """The text of the error that C{leg} fails with."""
        error = await self.assertFailure(leg, UpstreamError)
        self.assertEqual(type(error), kind)
        self.assertClean()
        return str(error)

    async def ended(self) -> None:
        """The proxy's side is closed too."""
        for script in self.scripts:
            await script.ended


# What the contract is mixed into, for mypy.
if TYPE_CHECKING:
    Base = ReactorCase
else:
    Base = object


class UpstreamContract(Base):
    """
    What L{IUpstream} promises, of one that goes by a L{Script}.
    """

    def makeUpstream(self, port: int) -> IUpstream:
        """The upstream by way of the L{Script} on this port."""
        raise NotImplementedError

    async def test_connects(self) -> None:
        """
        A leg is a connected, non-blocking socket that no-one else has.
        """
        upstream = self.makeUpstream(self.listen(b"\5\0", REPLY + b"220 hello"))
        verifyObject(IUpstream, upstream)
        connection = await upstream.connect(DESTINATION)
        self.assertEqual(connection.leftover, b"220 hello")
        self.assertFalse(os.get_blocking(connection.fd))
        self.assertFalse(os.get_inheritable(connection.fd))
        self.assertClean()
        os.close(connection.fd)
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"\5\1\0" + b"\5\1\0\1\xc0\0\2\1\1\xbb")

    async def test_saysNo(self) -> None:
        """
        A refusal of the proxy's comes through.
        """
        upstream = self.makeUpstream(self.listen(b"\5\0", b"\5\5\0\1\0\0\0\0\0\0"))
        await self.failure(UpstreamRefused, upstream.connect(DESTINATION))
        await self.ended()

    async def test_closesEarly(self) -> None:
        """
        So does the end of the connection in mid-handshake.
        """
        for answers in ((b"",), (b"\5\0", b"")):
            leg = self.makeUpstream(self.listen(*answers)).connect(DESTINATION)
            await self.assertFailure(leg, ProxyError)
            self.assertClean()
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Giving up closes the connection.
        """
        upstream = self.makeUpstream(self.listen())
        asks: list[Callable[[], Deferred[Any]]] = [
            lambda: upstream.connect(DESTINATION),
            lambda: upstream.associate(4),
        ]
        for ask in asks:
            leg = ask()
            leg.cancel()
            await self.assertFailure(leg, CancelledError)
            self.assertClean()

    async def test_associates(self) -> None:
        """
        A leg for datagrams is a non-blocking socket with a control that ends it.
        """
        upstream = self.makeUpstream(self.listen(b"\5\0", b"\5\0\0\1\x7f\0\0\1\0\x50"))
        leg = await upstream.associate(4)
        self.assertFalse(os.get_blocking(leg.fd))
        os.close(leg.fd)
        assert leg.control is not None
        leg.control.close()
        self.assertClean()
        await self.ended()

    def test_description(self) -> None:
        """
        It says what it is, without a password.
        """
        port = self.closedPort()
        self.assertIn(f"socks5://127.0.0.1:{port}", self.makeUpstream(port).describe())


class FakeStream:
    """
    A socket that connects when the test says so.
    """

    def __init__(self, results: list[int]) -> None:
        self.results = results
        self.peer = False
        self.error = 0
        self.closed = False

    def connect_ex(self, address: object) -> int:
        """The first result."""
        return self.results.pop(0)

    def getpeername(self) -> tuple[str, int]:
        """Only once connected."""
        if not self.peer:
            raise OSError(errno.ENOTCONN, "not connected")
        return ("192.0.2.9", 1)

    def getsockopt(self, level: int, option: int) -> int:
        """SO_ERROR."""
        return self.error

    def setsockopt(self, *arguments: object) -> None:
        """Nothing."""

    def fileno(self) -> int:
        """A number."""
        return 77

    def detach(self) -> int:
        """A number."""
        return 77

    def close(self) -> None:
        """Note it."""
        self.closed = True


class FakeReactor(Clock):
    """Time, descriptors and a resolver that the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.writers: list[Any] = []
        self.addReader = self.readers.append
        self.addWriter = self.writers.append
        self.removeReader = self.readers.remove
        self.removeWriter = self.writers.remove
        self.nameResolver = self
        self.lookups: list[tuple[Any, str]] = []

    def resolveHostName(self, receiver: Any, name: str, port: int = 0) -> None:
        """Note it."""
        self.lookups.append((receiver, name))
