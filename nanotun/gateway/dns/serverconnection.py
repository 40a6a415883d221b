"""
One connection to a DNS server, and what was asked on it; see L{nanotun.gateway.dns.tcp}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt, ITalk
from nanotun.gateway.dns.message import Query, matches
from nanotun.gateway.dns.talks import Heard, TalkError
from nanotun.timer import Timer

#: Seconds (RFC 7766, section 6.2.3: "of the order of a few seconds").
IDLE = 10.0

#: Seconds for a server to show that it speaks what it should; see L{ITalk}.
GREETING_TIME = 5.0

#: Seconds of silence before a query was sent, after which the connection may have been
#: forgotten on the way when no answer comes.
QUIET = 1.0

#: A server that ends the connection in as many seconds after its answer does so because of it.
SOON = 1.0

#: Messages in a row that answer no query: more, and the connection is given up.
STRANGE_LIMIT = 16

#: Queries that nobody waits for any more, to know their answers by.
FORGOTTEN_LIMIT = 1000


class IStream(Interface):
    """
    Whose connection it is, and who asks on it: the
    L{ServerStream<nanotun.gateway.dns.tcp.ServerStream>}.
    """

    idle = Attribute("Seconds that a connection stays open without a query under way.")

    def forget(asked: StreamQuery) -> None:
        """Stop waiting for the answer to a query."""

    def doubt(asked: StreamQuery) -> bool:
        """
        An answer takes long: look whether the connection is still there.

        @return: whether the answer is still awaited.
        """

    def hasLeft(connection: ServerConnection) -> bool:
        """Whether a connection is not the present one any more."""

    def greeted(connection: ServerConnection) -> None:
        """The server speaks what it should."""

    def answered(asked: StreamQuery, heard: Heard) -> None:
        """The answer to a query has come."""

    def refused(asked: StreamQuery, heard: Heard) -> None:
        """The server does not answer a query."""

    def proceed() -> None:
        """Send what waits, as far as the server takes it."""

    def ended(connection: ServerConnection, trouble: str) -> None:
        """The connection has ended; see L{ServerConnection.giveUp}."""


@implementer(IAttempt)
class StreamQuery:
    """
    An attempt on a connection.

    @ivar key: what tells it from others on the present connection; L{None} while it waits.
    @ivar sentAt: seconds; when it was sent there.
    @ivar retried: whether it was sent on a second connection.
    """

    __slots__ = ("answered", "failed", "key", "query", "retried", "sentAt", "stream", "wire")

    def __init__(
        self,
        stream: IStream,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes, int], None],
        failed: Callable[[], None],
    ) -> None:
        self.stream = stream
        self.wire = wire
        self.query = query
        self.answered = answered
        self.failed = failed
        self.key: Hashable = None
        self.sentAt = 0.0
        self.retried = False

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
        self.stream.forget(self)

    def doubt(self) -> bool:
        """See L{IAttempt.doubt}."""
        isAwaited: bool = self.stream.doubt(self)
        return not isAwaited


class ServerConnection(Protocol, TimeoutMixin):
    """
    One connection to a server, and what was asked on it.

    @ivar sent: the queries that are under way, by their keys.
    @ivar worked: whether an answer has arrived, or the connection is given up through no fault
        of the server's.
    @ivar single: whether the server has ended it because of the first answer.
    """

    transport: Any

    def __init__(self, stream: IStream, talk: ITalk, counters: Counters, reactor: Any) -> None:
        self.talk = talk
        self.sent: dict[Hashable, StreamQuery] = {}
        self.worked = self.single = False
        self._stream = stream
        self._counters = counters
        self._reactor = reactor
        self._turn = Timer(reactor, self.flush)
        self._forgotten: dict[Hashable, None] = {}
        self._isUsed = False
        self._answers = self._strange = 0
        self._heardAt = self._answeredAt = 0.0

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        return self._reactor.callLater(period, func)

    def connectionMade(self) -> None:
        self._heardAt = self._reactor.seconds()
        self.setTimeout(IDLE if self.talk.greeted else GREETING_TIME)
        self.talk.begin()
        self.flush()

    def send(self, asked: StreamQuery) -> None:
        """Send a query, together with all others of this turn of the reactor."""
        if not self.sent and self.talk.greeted:
            # Silence counts from now.
            self.setTimeout(IDLE)
        self._isUsed = True
        asked.sentAt = self._reactor.seconds()
        asked.key = self.talk.send(asked.wire)
        self._forgotten.pop(asked.key, None)
        self.sent[asked.key] = asked
        if not self._turn.active:
            self._turn.start(0)

    def forget(self, asked: StreamQuery) -> None:
        """Stop waiting for the answer to a query."""
        if self.sent.get(asked.key) is not asked:
            return
        del self.sent[asked.key]
        self._forgotten[asked.key] = None
        if len(self._forgotten) > FORGOTTEN_LIMIT:
            del self._forgotten[next(iter(self._forgotten))]
        self.talk.forget(asked.key)
        self.flush()

    def take(self) -> list[StreamQuery]:
        """Forget everything that is under way, and return it."""
        sent, self.sent = list(self.sent.values()), {}
        return sent

    def doubt(self, asked: StreamQuery) -> None:
        """
        Give the connection up, but not before this returns, if the server has said nothing since
        a query was sent, nor for a while before.
        """
        if self.talk.greeted and self._heardAt + QUIET <= asked.sentAt:
            self.worked = True
            self.setTimeout(0)

    def flush(self) -> None:
        """Write what there is to say."""
        data = self.talk.outgoing()
        if data:
            self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        greeted = self.talk.greeted
        self._heardAt = self._reactor.seconds()
        try:
            found = self.talk.receive(data)
        except TalkError as error:
            self.giveUp(str(error))
            return
        self.flush()
        if not greeted and self.talk.greeted:
            self._stream.greeted(self)
        for heard in found:
            self._take(heard)
        news = found or not greeted or self.talk.over
        if self.talk.greeted and news and not self._stream.hasLeft(self):
            self.setTimeout(IDLE if self.sent else self._stream.idle)
            self._stream.proceed()

    def _take(self, heard: Heard) -> None:
        asked = self.sent.get(heard.key)
        if asked is None:
            if heard.key in self._forgotten:
                # Too late, but an answer.
                del self._forgotten[heard.key]
                self._counters.ignored += 1
                self.worked = True
            else:
                self._ignore()
            return
        if heard.answer and not matches(heard.answer, heard.answer[:2], asked.query):
            self._ignore()
            if not self.talk.final:
                return
            heard = Heard(heard.key, trouble="sends answers to other questions")
        del self.sent[asked.key]
        self.talk.forget(asked.key)
        if not heard.answer:
            self._stream.refused(asked, heard)
            return
        self.worked = True
        self._answers += 1
        self._answeredAt = self._heardAt
        self._strange = 0
        self._stream.answered(asked, heard)

    def _ignore(self) -> None:
        self._counters.ignored += 1
        self._strange += 1
        if self._strange == STRANGE_LIMIT:
            self.giveUp("sends messages that answer no query")

    def timeoutConnection(self) -> None:
        lacking = self.talk.lacking
        if lacking:
            self.giveUp(f"did not {lacking} within {GREETING_TIME:g} s")
        elif self.sent and not self.worked:
            self.giveUp(f"did not answer within {IDLE:g} s")
        else:
            self.giveUp()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)
        self.endedByServer()

    def endedByServer(self) -> None:
        """The server has ended the connection, or takes no more queries on it."""
        soon = self._reactor.seconds() - self._answeredAt < SOON
        self.single = self._answers == 1 and soon
        trouble = self.talk.ended()
        if not trouble and self._isUsed and not self.worked and (self.sent or self.talk.over):
            trouble = "closed the connection without an answer"
        self.giveUp(trouble)

    def giveUp(self, trouble: str = "") -> None:
        """
        Close the connection.

        @param trouble: what the server has done wrong, as in L{TalkError}.
        """
        self.end()
        self._stream.ended(self, trouble)

    def end(self) -> None:
        """Close the connection, and tell nobody."""
        self.setTimeout(None)
        self._turn.close()
        # Not loseConnection: a server that reads nothing would keep it open.
        self.transport.abortConnection()
