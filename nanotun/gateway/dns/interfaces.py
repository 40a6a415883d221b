"""
Interfaces of the DNS relay's modules that have two implementations each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from zope.interface import Attribute, Interface

from nanotun.gateway.dns.message import LARGEST, Query


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
    ) -> bool:
        """
        Answer a query.

        @param client: where the query is from.  A repetition is recognised by it, and limits
            are counted for its C{host}, or for itself if it has none.
        @param reply: called at most once with the answer, perhaps before this returns;
            not after the relay has stopped.
        @param overTCP: whether the query arrived by TCP.
        @param largest: the most bytes that C{reply} can carry.
        @return: whether C{reply} has been or will be called.  It is not called for a
            repetition, nor for bytes that are no query.
        """


class IAttempt(Interface):
    """A query that was sent to one server, by UDP or by TCP."""

    def cancel() -> None:
        """Stop waiting for the answer.  May be called again."""


class INameServer(Interface):
    """One DNS server, as an exchange asks it: past the proxy or through an upstream."""

    where = Attribute("What a log line adds to the server: empty, or C{' through the proxy'}.")

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
