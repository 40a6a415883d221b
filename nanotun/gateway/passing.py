"""
Passes bytes between two connections, both ways, until both have ended.

A side that has shut down its writing still gets what the other sends.  A side that is slow has
the other wait.  A connection that is lost takes the other with it, once that has taken what was
sent before: after a server's reset the app gets all of it, and then an end, as a unix pair has no
reset, or a reset if it goes on to send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.linux.delivery import Delivery, received
from nanotun.timer import Timer

#: Seconds without a byte in either direction after which both end.
QUIET = 60.0


@implementer(IHalfCloseableProtocol, IPushProducer)
class PassingSide(Protocol):
    """
    One of the two connections.

    @ivar other: the other side.
    @ivar hasRead: whether nothing more will come from this side.
    @ivar hasWritten: whether nothing more will be sent to it.
    """

    other: PassingSide

    def __init__(self, clock: Any, moved: Callable[[], object], lost: Callable[[], object]) -> None:
        """
        @param moved: called for all that this side sends.
        @param lost: called when this side is lost.
        """
        self._clock = clock
        self._delivery: Delivery | None = None
        self._aborted = False
        self._moved = moved
        self._lost = lost
        self.hasRead = False
        self.hasWritten = False
        self.isLost = False

    def dataReceived(self, data: bytes) -> None:
        self._moved()
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send to this side."""
        transport: Any = self.transport
        transport.write(data)

    def pauseProducing(self) -> None:
        """The other side is slow.  See L{IPushProducer}."""
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other side takes more.  See L{IPushProducer}."""
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is lost, and closed next.  See L{IPushProducer}."""
        self.other.readRest()

    def readRest(self) -> None:
        """Pass on what came before this side failed and was not read because it was paused."""
        rest = b"" if self._aborted else received(self.transport)
        if rest:
            self.dataReceived(rest)

    def readConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.readConnectionLost}."""
        self.hasRead = True
        self.other.finish()
        self._endIfDone()

    def writeConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.writeConnectionLost}."""
        self.hasWritten = True
        self._endIfDone()

    def finish(self) -> None:
        """Send nothing more to this side than what waits."""
        if not self.isLost:
            transport: Any = self.transport
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.isLost = True
        if self._delivery is not None:
            self._delivery.stop()
        if not (self.hasRead and self.other.hasRead):
            self.other.deliver()
        self._lost()

    def deliver(self) -> None:
        """End this side once it has taken what waits for it."""
        if not self.isLost and self._delivery is None:
            self._delivery = Delivery(self.transport, self._clock, self.abort)

    def abort(self) -> None:
        """End this side at once."""
        if not self.isLost and self.transport is not None:
            transport: Any = self.transport
            transport.unregisterProducer()
            self._aborted = True
            transport.abortConnection()

    def _endIfDone(self) -> None:
        if self.hasRead and self.hasWritten and not self.isLost:
            transport: Any = self.transport
            transport.loseConnection()


class Passing:
    """
    The pair.  The app's connection exists already, with another protocol; the server's gets
    L{server} as its protocol, and then L{begin} is called.

    @ivar app: the app's side.
    @ivar server: the server's side.
    @param ended: called once, when both connections are lost.
    """

    def __init__(self, reactor: Any, ended: Callable[[], object]) -> None:
        self._timer = Timer(reactor, self.end)
        self._ended = ended
        self.app = PassingSide(reactor, self._moved, self._oneLost)
        self.server = PassingSide(reactor, self._moved, self._oneLost)
        self.app.other, self.server.other = self.server, self.app

    def begin(self, transport: Any, sent: bytes, hasRead: bool, leftover: bytes) -> None:
        """
        Take over the app's connection, whose reading is paused and which has no producer.

        @param transport: the app's.
        @param sent: what the app has sent so far.
        @param hasRead: whether it will send nothing more.
        @param leftover: what the server has sent so far.
        """
        transport.protocol = self.app
        self.app.makeConnection(transport)
        server: Any = self.server.transport
        transport.registerProducer(self.server, True)
        server.registerProducer(self.app, True)
        self._moved()
        self.server.write(sent)
        self.app.write(leftover)
        if hasRead:
            self.app.readConnectionLost()
        else:
            transport.resumeProducing()

    def _moved(self) -> None:
        self._timer.start(QUIET)

    def end(self) -> None:
        """End both sides at once."""
        self.app.abort()
        self.server.abort()

    def _oneLost(self) -> None:
        # Until then: the other side may still have something to send, and never get it off.
        if self.app.isLost and self.server.isLost:
            self._timer.close()
            self._ended()
        elif not (self.app.hasRead and self.server.hasRead):
            # What the other side has to take has a limit of its own.
            self._timer.cancel()
