"""
Interfaces of the DNS relay's modules that have two implementations each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from zope.interface import Attribute, Interface

from nanotun.gateway.dns.message import LARGEST


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
