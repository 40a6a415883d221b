"""
Interfaces of the DNS relay's modules that have two implementations each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from zope.interface import Attribute, Interface

from nanotun.gateway.dns.message import LARGEST, Query
from nanotun.gateway.dns.talks import Heard
from nanotun.gateway.dns.trace import Trace


class IAnswering(Interface):
    """
    Answers the queries that clients send, by datagram or by stream: the
    L{DnsRelay<nanotun.gateway.dns.relay.DnsRelay>}, or
    L{FakeDns<nanotun.gateway.fakeip.front.FakeDns>} in front of it.
    """

    counters = Attribute("The gateway's L{Counters<nanotun.gateway.dns.counters.Counters>}.")

    def query(
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        trace: Trace | None = None,
    ) -> bool:
        """
        Answer a query.

        @param client: where the query is from.  A repetition is recognised by it, and limits
            are counted for its C{host}, or for itself if it has none.
        @param reply: called at most once with the answer, perhaps before this returns;
            not after the relay has stopped.
        @param overTCP: whether the query arrived by TCP.
        @param largest: the most bytes that C{reply} can carry.
        @param trace: filled in before C{reply} is called, if somebody wants to know.
        @return: whether C{reply} has been or will be called.  It is not called for a
            repetition, nor for bytes that are no query.
        """


class IAttempt(Interface):
    """A query that was sent to one server, by UDP or on a connection."""

    def doubt() -> bool:
        """
        The answer takes long: look whether what it should come by is still there.

        @return: whether to ask this server again, because datagrams get lost, or because the
            attempt is over; if not, its answer is still awaited.
        """

    def cancel() -> None:
        """Stop waiting for the answer.  May be called again."""


class INameServer(Interface):
    """One DNS server, as an exchange asks it: past the proxy or through an upstream."""

    where = Attribute("What a log line adds to the server: empty, or C{' through the proxy'}.")
    tally = Attribute("Its L{ServerTally<nanotun.gateway.dns.servertally.ServerTally>}.")

    def ask(
        wire: bytes,
        query: Query,
        overTCP: bool,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        """
        Send a query.

        @param wire: the query; it is sent with another id.
        @param query: what C{wire} says.
        @param overTCP: whether only TCP will do, because answers by UDP are too small.
        @param answered: called once with an answer that matches but for its id.
        @param failed: called when there seems to be no answer, but not before this returns;
            by UDP C{answered} may still be called afterwards, and this more than once.
        @raise OSError: it cannot be sent to this server.
        @raise nanotun.errors.UpstreamError: it cannot be sent, and the server is not to
            blame.  What is to blame has been logged.
        """

    def renew() -> None:
        """
        Open anew what is kept open, as the machine is in another network.  Queries under way
        may fail.
        """

    def stop() -> None:
        """Close what is kept open.  May be called again."""


class ITalk(Interface):
    """
    What is spoken with a server on one connection, without I/O: bytes of the wire in and out,
    queries in and answers out.  Each connection has one of its own.

    Sentences about the server lack their subject and the period: they follow "The DNS server
    X ".
    """

    greeted = Attribute("Whether the server has shown that it speaks this.")

    lacking = Attribute(
        "What the server has yet to do before it has L{greeted}, as it follows 'did not '; empty "
        "after that."
    )

    final = Attribute(
        "Whether what comes for a key is all that will come, so that an answer to some other "
        "question means that the query has failed."
    )

    over = Attribute(
        "Whether no more queries can be sent on this connection.  L{receive} still tells what "
        "becomes of those under way."
    )

    room = Attribute("How many more queries may be sent now.")

    def begin() -> None:
        """Begin, now that there is a connection.  Called once, before anything else."""

    def send(wire: bytes) -> Hashable:
        """
        Send a query, or keep it until the server is ready for it.  There must be L{room}.

        @param wire: the query; it is sent with another id.
        @return: a key that no other query under way has.
        """

    def forget(key: Hashable) -> None:
        """Stop waiting for the answer to a query.  Its key may be that of no query any more."""

    def receive(data: bytes) -> list[Heard]:
        """
        Take bytes of the wire.

        @return: what has become of queries, also of forgotten ones.
        @raise nanotun.gateway.dns.talks.TalkError: the server does not speak as it should;
            the connection is of no use any more.
        """

    def ended() -> str:
        """
        Note that the server has closed the connection.

        @return: what is wrong about that, as in L{TalkError}; empty for nothing.
        """

    def outgoing() -> bytes:
        """Take the bytes to put on the wire now."""
