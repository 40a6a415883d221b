"""
DNS by TCP for apps (RFC 7766): a connection carries several queries, and each answer is sent
when it is there.

Nothing is read from a client that does not read its answers, nor from one that has
L{QUERIES_LIMIT} queries under way.  A connection without a whole query or an answer for
L{IDLE} seconds is closed.  A client that has shut down its side gets its answers first.

The firewall redirects connections to port 53 whatever they carry.  At the first message that
the relay cannot answer (an update, a notification, the transfer of a zone, or no DNS at all),
the connection is passed on to where it was meant for, once what came before is answered.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import FlowLimitError, UpstreamError
from nanotun.flow import Flow, Refusal
from nanotun.gateway.dns.connecting import GivenFactory
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import HEADER_SIZE, answerable
from nanotun.gateway.passing import Passing
from nanotun.interfaces import Connection, IFlowRequest
from nanotun.linux.locality import Locality
from nanotun.log.trouble import TroubleLog

#: Seconds without a whole query or an answer (RFC 7766, section 6.2.3).
IDLE = 10

#: Queries under way on one connection.  With answers of 64 KB, a client that does not read
#: makes us hold 1 MB.
QUERIES_LIMIT = 16

#: Connections of all clients, and of one host.  Each takes two file descriptors.
STREAMS_LIMIT = 128
HOST_LIMIT = 96

#: Connections that are passed on at a time.  They may last, and leave some to queries, which
#: do not.
PASSED_LIMIT = 64

Opener: TypeAlias = "Callable[[Flow], Deferred[Connection]]"


@implementer(IHalfCloseableProtocol, IPushProducer)
class DnsStreamProtocol(Int16StringReceiver, TimeoutMixin):
    """
    One connection of an app.

    @param relay: answers the queries.
    @param host: the app's address.
    @param ended: called once with this when the connection has ended.
    @param onward: opens a connection to where this one was meant for; returns L{None} if it
        was meant for the relay.
    """

    MAX_LENGTH = 65535

    def __init__(
        self,
        relay: IAnswering,
        reactor: Any,
        host: Hashable,
        ended: Callable[[DnsStreamProtocol], None],
        onward: Callable[[], Deferred[Connection] | None] = lambda: None,
    ) -> None:
        self.host = host
        self._relay = relay
        self._ended = ended
        self._reactor = reactor
        self._inFlight = 0
        self._choked = False
        self._receiving = False
        self._eof = False
        self._over = False
        self._onward = onward
        self._staysHere = False
        # The bytes that wait and can be answered, and those that cannot.
        self._answerable = 0
        self._foreign = b""
        self._dial: Deferred[Connection] | None = None
        self._passing: Passing | None = None

    @property
    def leaves(self) -> bool:
        """Whether the connection is passed on, or about to be."""
        return self._dial is not None

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        return self._reactor.callLater(period, func)

    def connectionMade(self) -> None:
        self.setTimeout(IDLE)
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self._receiving = True
        self._setAside(data)
        unread = len(self._unprocessed)
        super().dataReceived(b"")
        self._answerable = max(0, self._answerable - unread + len(self._unprocessed))
        self._receiving = False
        if self._foreign:
            self._regulate()

    def _setAside(self, data: bytes) -> None:
        """Add to what is unread, or from the first foreign message on to what is foreign."""
        if self._foreign:
            self._foreign += data
            return
        self._unprocessed += data
        if self._staysHere:
            return
        self._answerable, foreign = answerable(self._unprocessed, self._answerable)
        if foreign:
            place = self._answerable
            self._foreign = self._unprocessed[place:]
            self._unprocessed = self._unprocessed[:place]
            transport: Any = self.transport
            transport.pauseProducing()

    def stringReceived(self, string: bytes) -> None:
        self.resetTimeout()
        self._inFlight += 1
        if not self._relay.query(string, self, self._reply, overTCP=True):
            self._inFlight -= 1
        self._regulate()

    def pauseProducing(self) -> None:
        """The client has stopped reading.  See L{IPushProducer}."""
        self._choked = True
        self._regulate()

    def resumeProducing(self) -> None:
        """The client reads again.  See L{IPushProducer}."""
        self._choked = False
        self._regulate()

    def stopProducing(self) -> None:
        """Nothing to do, as the connection has ended.  See L{IPushProducer}."""

    def readConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.readConnectionLost}."""
        self._eof = True
        rest = self._unprocessed[self._answerable :]
        if not (self._foreign or self._staysHere) and 0 < len(rest) < 2 + HEADER_SIZE:
            # No more will come, and without a header it is no query.
            self._unprocessed, self._foreign = self._unprocessed[: self._answerable], rest
        self._regulate()

    def writeConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.writeConnectionLost}."""
        self._abort()

    def timeoutConnection(self) -> None:
        self._abort()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)
        self._over = True
        if self._dial is not None:
            self._dial.cancel()
        self._ended(self)

    def _reply(self, answer: bytes) -> None:
        if self._over:
            return
        self._inFlight -= 1
        self.resetTimeout()
        self.sendString(answer)
        self._regulate()

    def _regulate(self) -> None:
        """Read on, pause reading, or close the connection, whichever is due."""
        transport: Any = self.transport
        if self._over or self._dial is not None:
            return
        if self._foreign and not self._unprocessed and not self._inFlight:
            self._leave()
            return
        if self._eof and not self._foreign:
            if not self._inFlight:
                transport.unregisterProducer()
                transport.loseConnection()
            return
        stop = self._choked or self._inFlight >= QUERIES_LIMIT
        if stop and not self.paused:
            self.paused = True
            transport.pauseProducing()
        elif self.paused and not stop:
            self.paused = False
            if not self._foreign:
                transport.resumeProducing()
            # Handle what was read before the pause, unless the loop that does so still runs.
            if not self._receiving:
                self.dataReceived(b"")

    def _leave(self) -> None:
        """Pass the connection on, or else have the relay say that it cannot answer."""
        self._dial = self._onward()
        if self._dial is not None:
            self.setTimeout(None)
            self._dial.addCallbacks(self._opened, self._notOpened)
            return
        self._staysHere = True
        data, self._foreign = self._foreign, b""
        if not self._eof and not self.paused:
            transport: Any = self.transport
            transport.resumeProducing()
        self.dataReceived(data)
        self._regulate()

    def _opened(self, connection: Connection) -> None:
        made = socket.socket(fileno=connection.fd)
        passing = Passing(self._reactor, self.connectionLost)
        try:
            # The reactor adopts a duplicate.
            self._reactor.adoptStreamConnection(
                made.fileno(), made.family, GivenFactory(passing.server)
            )
        except OSError:
            # The connection has ended already.
            self._abort()
            return
        finally:
            made.close()
        transport: Any = self.transport
        transport.unregisterProducer()
        self._relay.counters.passed += 1
        self._passing = passing
        passing.begin(transport, self._foreign, self._eof, connection.leftover)
        self._foreign = b""

    def _notOpened(self, reason: Failure) -> None:
        if not self._over:
            self._abort()

    def _abort(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]

    def end(self) -> None:
        """Close the connection, because the relay stops."""
        if self._passing is None:
            self._abort()
        else:
            self._passing.end()


class DnsStreams:
    """
    The connections of apps to the relay.

    @param locality: tells which addresses are this machine's; others are not served.
    @param originalOf: finds what an app's flow was before the firewall redirected it; returns
        L{None} if it was meant for the relay.
    @param limit: connections at a time.
    @param hostLimit: connections of one host at a time.
    """

    _log = Logger()

    def __init__(
        self,
        relay: IAnswering,
        locality: Locality,
        reactor: Any,
        originalOf: Callable[[Flow], Flow | None] = lambda flow: None,
        limit: int = STREAMS_LIMIT,
        hostLimit: int = HOST_LIMIT,
    ) -> None:
        self._relay = relay
        self._locality = locality
        self._reactor = reactor
        self._originalOf = originalOf
        self._limit = limit
        self._hostLimit = hostLimit
        self._trouble = TroubleLog(reactor, self._log)
        self._open: set[DnsStreamProtocol] = set()

    def __len__(self) -> int:
        return len(self._open)

    def acceptStream(self, request: IFlowRequest, openOnward: Opener, note: int = 0) -> None:
        """
        Serve an app's connection: the engine joins it to one end of a pair of sockets, and the
        relay has the other end.  A connection that cannot be served is dropped or refused.

        @param openOnward: see L{nanotun.interfaces.IGateway.acceptStream}, like C{note}.
        """
        counters = self._relay.counters
        host = request.flow.source.host
        if not self._locality.isLocal(host):
            counters.outside += 1
            request.drop()
            return
        ofHost = sum(each.host == host for each in self._open)
        if len(self._open) >= self._limit or ofHost >= self._hostLimit:
            counters.streamsLimited += 1
            request.refuse(Refusal.RESET)
            return
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            self._trouble.report(f"A DNS connection cannot be served: {error}")
            request.refuse(Refusal.RESET)
            return
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            if request.join(theirs.detach(), note=note):
                counters.streams += 1
                self._adopt(ours, request.flow, openOnward)
        except (OSError, FlowLimitError) as error:
            self._trouble.report(f"A DNS connection cannot be served: {error}")
        finally:
            # The reactor has adopted a duplicate.
            ours.close()

    def _adopt(self, ours: socket.socket, flow: Flow, openOnward: Opener) -> None:
        protocol = DnsStreamProtocol(
            self._relay,
            self._reactor,
            flow.source.host,
            self._open.discard,
            partial(self._openOnward, flow, openOnward),
        )
        self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, GivenFactory(protocol))
        self._open.add(protocol)

    def _openOnward(self, flow: Flow, openOnward: Opener) -> Deferred[Connection] | None:
        opening: Deferred[Connection]
        if sum(each.leaves for each in self._open) >= PASSED_LIMIT:
            self._relay.counters.streamsLimited += 1
            opening = fail(UpstreamError(f"{PASSED_LIMIT} others are passed on already."))
        else:
            original = self._originalOf(flow)
            if original is None:
                return None
            opening = openOnward(original)
        return opening.addErrback(self._tell)

    def _tell(self, reason: Failure) -> Failure:
        if reason.check(UpstreamError):
            self._trouble.report(
                "A DNS connection that the relay cannot answer does not get to its server: "
                f"{reason.value}"
            )
        elif not reason.check(CancelledError):
            self._log.failure("Internal error in a DNS connection that is passed on", reason)
        return reason

    def stop(self) -> None:
        """Close all connections."""
        self._trouble.stop()
        for protocol in list(self._open):
            protocol.end()
