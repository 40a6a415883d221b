"""
Queries by UDP through an upstream: in an association that all of them share for a while,
because each costs a connection to the proxy and two rounds of handshake.

Where the upstream has no UDP, or grants it and loses the datagrams, queries go over TCP.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import LARGEST, Query, matches
from nanotun.gateway.dns.udp import BUDGET
from nanotun.interfaces import (
    DatagramLeg,
    ILegControl,
    IUpstream,
    LegKind,
    unwrapDatagram,
    wrapDatagram,
)
from nanotun.timer import Timer

#: Seconds that an association takes new queries, and how many.  To forge an answer one has
#: to guess the outside port and the query's id (Kaminsky, 2008; RFC 5452), and a port that
#: stays the same is half of that.
SHARED_TIME = 30.0
SHARED_QUERIES = 1000

#: Seconds that it stays open after that, for the answers that are still to come.
SHARED_GRACE = 10.0

#: Seconds without any answer after which queries go over TCP: less than the time of an
#: attempt, so that the exchange's next one does already.
DOUBT = 1.0

#: Seconds for which they go over TCP then, unless a late answer comes.
DOUBT_TIME = 600.0

#: Seconds for which they go over TCP after the upstream refused an association.
PAUSE = 2.0

#: States of an association: the upstream was asked for a leg; open; open for the answers
#: still to come only; gone.
OPENING, OPEN, RETIRING, GONE = "opening", "open", "retiring", "gone"

#: State and event to the next state.
_TABLE = {
    (OPENING, "opened"): OPEN,
    (OPENING, "failed"): GONE,
    (OPENING, "close"): GONE,
    (OPEN, "retire"): RETIRING,
    (OPEN, "close"): GONE,
    (RETIRING, "close"): GONE,
}

_Instead = Callable[[bytes, Query, Callable[[bytes], None], Callable[[], None]], IAttempt]


@implementer(IAttempt)
class DatagramQuery:
    """
    An attempt by UDP through an upstream.

    @ivar ident: its id in the association, two bytes.
    @ivar instead: asks the same over TCP.
    @ivar association: where it waits; L{None} once it does not.
    @ivar moved: the attempt over TCP that took its place.
    """

    __slots__ = (
        "answered",
        "association",
        "failed",
        "ident",
        "instead",
        "moved",
        "query",
        "server",
        "wire",
    )

    def __init__(
        self,
        server: Endpoint,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
        instead: _Instead,
    ) -> None:
        self.server = server
        self.wire = wire
        self.query = query
        self.answered = answered
        self.failed = failed
        self.instead = instead
        self.ident = b""
        self.association: QueryAssociation | None = None
        self.moved: IAttempt | None = None

    def doubt(self) -> bool:
        """See L{IAttempt.doubt}."""
        return self.moved is None or self.moved.doubt()

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
        moved, self.moved = self.moved, None
        if moved is not None:
            moved.cancel()
        elif self.association is not None:
            self.association.forget(self)

    def move(self) -> None:
        """Ask over TCP, because there is no association."""
        try:
            self.moved = self.instead(self.wire, self.query, self.answered, self.failed)
        except (OSError, UpstreamError):
            self.failed()


@implementer(IReadDescriptor, ILoggingContext)
class QueryAssociation:
    """
    One association and the queries in it.

    @ivar state: C{OPENING}, C{OPEN}, C{RETIRING} or C{GONE}.
    @param owner: is told what happens.
    """

    _log = Logger()

    def __init__(self, owner: QueryAssociations, reactor: Any, counters: Counters) -> None:
        self.state = OPENING
        self._owner = owner
        self._reactor = reactor
        self._counters = counters
        self._pending: dict[tuple[Endpoint, bytes], DatagramQuery] = {}
        self._left = SHARED_QUERIES
        self._dial: Deferred[DatagramLeg] | None = None
        self._socket: socket.socket | None = None
        self._wrapped = True
        self._control: ILegControl | None = None
        self._timer = Timer(reactor, self._expired)

    def begin(self, dial: Deferred[DatagramLeg]) -> None:
        """Wait for the upstream's leg; it may have failed already."""
        self._dial = dial
        dial.addCallbacks(self._opened, self._failed)

    def add(self, asked: DatagramQuery, makeIdent: Callable[[], bytes]) -> bool:
        """
        Send a query, now or once open.

        @return: whether that could be done; if not, the association is gone.
        """
        ident = makeIdent()
        while (asked.server, ident) in self._pending:
            ident = makeIdent()
        asked.ident = ident
        if self.state == OPEN and not self._send(asked):
            self._lost()
            return False
        asked.association = self
        self._pending[asked.server, ident] = asked
        self._left -= 1
        if self._left <= 0 and self.state == OPEN:
            self._retire()
        return True

    def forget(self, asked: DatagramQuery) -> None:
        """Stop waiting for the answer to a query."""
        asked.association = None
        self._pending.pop((asked.server, asked.ident), None)
        if self.state == RETIRING and not self._pending:
            self.close()

    def close(self) -> None:
        """Let go of everything; no query hears anything more."""
        self._step("close")
        self._letGo()
        self._take()

    def fail(self) -> None:
        """Let go of everything; what waits in it has failed, so that it is asked again."""
        self._lost()

    def _step(self, event: str) -> None:
        """
        Go to the state that L{_TABLE} has for an event.

        @raise UnexpectedEvent: it has none for this state.
        """
        state = _TABLE.get((self.state, event))
        if state is None:
            raise UnexpectedEvent("An association for DNS queries", self.state, event)
        self.state = state
        if state in (RETIRING, GONE):
            self._owner.retired(self)

    def _take(self) -> list[DatagramQuery]:
        pending = list(self._pending.values())
        self._pending.clear()
        for asked in pending:
            asked.association = None
        return pending

    def _letGo(self) -> None:
        self._timer.close()
        made, self._socket = self._socket, None
        if made is not None:
            self._reactor.removeReader(self)
            made.close()
        control, self._control = self._control, None
        if control is not None:
            control.close()
        dial, self._dial = self._dial, None
        if dial is not None:
            dial.cancel()

    def _opened(self, leg: DatagramLeg) -> None:
        self._dial = None
        self._socket = socket.socket(fileno=leg.fd)
        self._wrapped = leg.kind is LegKind.SOCKS5
        self._control = leg.control
        self._step("opened")
        self._reactor.addReader(self)
        self._timer.start(SHARED_TIME)
        if leg.control is not None:
            # It may have ended already.
            leg.control.watch(self._controlLost)
        for asked in list(self._pending.values()):
            if self.state == OPEN and not self._send(asked):
                self._lost()
        if self.state == OPEN and self._left <= 0:
            self._retire()

    def _failed(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        self._dial = None
        if not reason.check(UpstreamError):
            self._log.failure("Internal error in an association for DNS queries", reason)
        self._owner.refused()
        self._step("failed")
        self._letGo()
        for asked in self._take():
            asked.move()

    def _send(self, asked: DatagramQuery) -> bool:
        """@return: whether the association still works; a datagram may be lost."""
        made = self._socket
        assert made is not None
        wire = asked.ident + asked.wire[2:]
        self._owner.sent()
        try:
            if self._wrapped:
                made.send(wrapDatagram(asked.server, wire))
            else:
                made.sendto(wire, asked.server)
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _retire(self) -> None:
        self._step("retire")
        self._timer.start(SHARED_GRACE)

    def _expired(self) -> None:
        if self.state == OPEN and self._pending:
            self._retire()
        else:
            self.close()

    def _controlLost(self, sentence: str) -> None:
        self._lost()

    def _lost(self) -> None:
        """The association has ended: what waits in it will have no answer."""
        self._step("close")
        self._letGo()
        for asked in self._take():
            asked.failed()

    # For the reactor.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "dns"

    def doRead(self) -> None:
        """See L{IReadDescriptor.doRead}."""
        for _ in range(BUDGET):
            # An answer may have led to the end of this.
            if self._socket is None:
                return
            try:
                data, address = self._socket.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            got = unwrapDatagram(data) if self._wrapped else (Endpoint(*address[:2]), data)
            if got is None or not self._heard(*got):
                self._counters.ignored += 1

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor: an error, and nothing to read."""
        if self._socket is not None:
            self._lost()

    def _heard(self, source: Endpoint, answer: bytes) -> bool:
        """@return: whether it is the answer to a query."""
        asked = self._pending.get((source, answer[:2]))
        if asked is None or not matches(answer, asked.ident, asked.query):
            return False
        self._owner.heard()
        self.forget(asked)
        asked.answered(answer)
        return True


class QueryAssociations:
    """
    The associations of one upstream, for all servers that are asked through it.

    @param way: gives the upstream; raises L{UpstreamError} if that must not be used any more.
    @param makeIdent: gives two random bytes.
    @param where: what a log line adds to the queries; L{None} if nothing is to be logged.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        way: Callable[[], IUpstream],
        counters: Counters,
        makeIdent: Callable[[], bytes],
        where: str | None,
    ) -> None:
        self._reactor = reactor
        self._way = way
        self._counters = counters
        self._makeIdent = makeIdent
        self._where = where
        self._current: dict[int, QueryAssociation] = {}
        self._all: set[QueryAssociation] = set()
        # The time of the first datagram since the last answer.
        self._unanswered: float | None = None
        self._doubtedUntil = 0.0
        self._pausedUntil = 0.0

    def usable(self) -> bool:
        """Whether queries go by UDP now."""
        now = self._reactor.seconds()
        if now < self._pausedUntil or not self._carries():
            return False
        if self._doubtedUntil:
            if now < self._doubtedUntil:
                return False
            self.heard()
        elif self._unanswered is not None and now - self._unanswered >= DOUBT:
            self._doubtedUntil = now + DOUBT_TIME
            if self._where is not None:
                self._log.info(
                    "DNS queries by UDP{where} are not answered, so they go over TCP for ten "
                    "minutes.",
                    where=self._where,
                )
            return False
        return True

    def ask(
        self,
        server: Endpoint,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
        instead: _Instead,
    ) -> IAttempt:
        """
        Send a query, now or once there is an association.

        @param instead: asks the same over TCP, if there is none.
        @raise OSError, UpstreamError: as from C{instead}.
        """
        family = 6 if ":" in server.host else 4
        association = self._current.get(family)
        if association is None:
            association = QueryAssociation(self, self._reactor, self._counters)
            self._current[family] = association
            self._all.add(association)
            association.begin(self._way().associate(family))
        asked = DatagramQuery(server, wire, query, answered, failed, instead)
        if association.state == GONE or not association.add(asked, self._makeIdent):
            return instead(wire, query, answered, failed)
        return asked

    def stop(self) -> None:
        """Close all associations.  May be called again."""
        for association in list(self._all):
            association.close()

    def renew(self) -> None:
        """
        Begin anew, as the machine is in another network: the doubts were about the previous
        one.
        """
        self.heard()
        self._pausedUntil = 0.0
        for association in list(self._all):
            # One that fails may have ended another.
            if association.state != GONE:
                association.fail()

    def _carries(self) -> bool:
        """Whether the upstream has UDP at all."""
        try:
            return self._way().carriesDatagrams
        except UpstreamError:
            # Over TCP it is told why that cannot be used.
            return False

    # What the associations tell.

    def sent(self) -> None:
        """A datagram was sent."""
        if self._unanswered is None:
            self._unanswered = self._reactor.seconds()

    def heard(self) -> None:
        """There was an answer: UDP works."""
        self._unanswered = None
        self._doubtedUntil = 0.0

    def refused(self) -> None:
        """The upstream has no association to give."""
        self._pausedUntil = self._reactor.seconds() + PAUSE

    def retired(self, association: QueryAssociation) -> None:
        """An association takes no more queries, and may be gone."""
        for family, current in list(self._current.items()):
            if current is association:
                del self._current[family]
        if association.state == GONE:
            self._all.discard(association)
