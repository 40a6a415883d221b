"""
What the tests of L{nanotun.upstream} share: a proxy that follows a script, on real
sockets of the loopback interface, unmarked so that they need no root; and a socket and
a reactor in memory.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from nanotun.engine.tls import NativeTls
from nanotun.errors import ProxyError, UpstreamError, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.interfaces import IUpstream, UpstreamContext
from nanotun.upstream.dial.control import ControlConnection
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.handshakes.socks5 import UDP_ASSOCIATE, Socks5Handshake
from nanotun.upstream.proxy import Handshakes, ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL

unmarked = partial(openStream, mark=0)
unmarkedDatagram = partial(openDatagram, mark=0)


def unmarkedContext(reactor: Any, timeout: float = 5.0) -> UpstreamContext:
    """A context whose sockets are unmarked."""
    return UpstreamContext(reactor, timeout, unmarked, unmarkedDatagram, tls=NativeTls())


DESTINATION = Endpoint("192.0.2.1", 443)
REPLY = b"\5\0\0\1\0\0\0\0\0\0"


class Script(Protocol):
    """
    A proxy that follows a script.

    @ivar answers: what it still has to send, one for each read; an empty one ends the
        connection.
    @ivar heard: all bytes received.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.heard = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Send the next answer."""
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
        """Note the end."""
        self.ended.callback(None)


class ReactorCase(TestCase):
    """
    A test with listening sockets on the real reactor.
    """

    timeout = 5

    def setUp(self) -> None:
        """Have no scripts yet."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.scripts: list[Script] = []

    def listen(self, *answers: bytes) -> int:
        """Listen, with a L{Script} of these answers for each connection; returns the port."""

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
        """A port on which nothing listens."""
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        self.addCleanup(probe.close)
        return int(probe.getsockname()[1])

    def proxy(
        self,
        port: int,
        timeout: float = 5.0,
        user: str = "",
        greets: bool = True,
        leadsIn: Callable[[str], bool] = lambda host: False,
        servers: Sequence[Endpoint] = (),
    ) -> ProxyUpstream:
        """
        An upstream through the L{Script} on this port.

        @param greets: whether its handshake can begin without a destination.
        """
        url = parseProxyURL(f"socks5://{user}127.0.0.1:{port}")
        credentials = (b"user", b"secret") if user else None
        return ProxyUpstream(
            url,
            Handshakes(
                lambda destination: Socks5Handshake(destination, str(url), credentials),
                lambda: Socks5Handshake(
                    Endpoint("0.0.0.0", 0), str(url), credentials, UDP_ASSOCIATE
                ),
                greet=(lambda: Socks5Handshake(None, str(url), credentials)) if greets else None,
            ),
            unmarkedContext(self.reactor, timeout)._replace(leadsIn=leadsIn, servers=servers),
        )

    def assertClean(self) -> None:
        """The reactor has no transport of ours left."""
        left = [
            each
            for each in self.reactor.getReaders() + self.reactor.getWriters()
            if isinstance(each, (HandshakeTransport, ControlConnection))
        ]
        self.assertEqual(left, [])

    async def failure(self, kind: type[UpstreamError], dial: Deferred[Any]) -> str:
        """The text of the error that C{dial} fails with."""
        error = await self.assertFailure(dial, UpstreamError)
        self.assertEqual(type(error), kind)
        self.assertClean()
        return str(error)

    async def ended(self) -> None:
        """Wait until the proxy's side is closed too."""
        for script in self.scripts:
            await script.ended


# For mypy: the class that the contract is mixed into.
if TYPE_CHECKING:
    Base = ReactorCase
else:
    Base = object


class UpstreamContract(Base):
    """
    The promises of L{IUpstream}, for an upstream through a L{Script}.
    """

    def makeUpstream(self, port: int) -> IUpstream:
        """The upstream to test, through the L{Script} on this port."""
        raise NotImplementedError

    async def test_connects(self) -> None:
        """
        A leg is a connected, non-blocking socket that nothing else holds.
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
        The proxy's refusal is the error.
        """
        upstream = self.makeUpstream(self.listen(b"\5\0", b"\5\5\0\1\0\0\0\0\0\0"))
        await self.failure(UpstreamRefused, upstream.connect(DESTINATION))
        await self.ended()

    async def test_closesEarly(self) -> None:
        """
        A connection that ends during the handshake is an error of the proxy.
        """
        for answers in ((b"",), (b"\5\0", b"")):
            dial = self.makeUpstream(self.listen(*answers)).connect(DESTINATION)
            await self.assertFailure(dial, ProxyError)
            self.assertClean()
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Cancelling closes the connection.
        """
        upstream = self.makeUpstream(self.listen())
        asks: list[Callable[[], Deferred[Any]]] = [
            lambda: upstream.connect(DESTINATION),
            lambda: upstream.associate(4),
        ]
        for ask in asks:
            dial = ask()
            dial.cancel()
            await self.assertFailure(dial, CancelledError)
            self.assertClean()

    async def test_associates(self) -> None:
        """
        A leg for UDP is a non-blocking socket with a control connection that keeps it alive.
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
        Its description is its URL without a password.
        """
        port = self.closedPort()
        self.assertIn(f"socks5://127.0.0.1:{port}", self.makeUpstream(port).describe())


class FakeStream:
    """
    A socket in memory that connects when the test says so.
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
        """Do nothing."""

    def fileno(self) -> int:
        """A number."""
        return 77

    def detach(self) -> int:
        """A number."""
        return 77

    def close(self) -> None:
        """Note the call."""
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
        """Note the call."""
        self.lookups.append((receiver, name))
