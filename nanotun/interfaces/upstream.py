"""
Upstreams, and the values that come out of them.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.defer import Deferred

    from nanotun.flow import Endpoint


class Connection(NamedTuple):
    """
    An upstream leg that is ready to carry.

    @ivar fd: a connected, non-blocking stream socket; whoever holds this value
        owns it.
    @ivar leftover: bytes for the app that came with the end of the handshake.
    """

    fd: int
    leftover: bytes


class LegKind(enum.IntEnum):
    """What datagrams look like on a leg's socket (netstack.h, NS_LEG_...)."""

    DIRECT = 1
    SOCKS5 = 2


class DatagramLeg(NamedTuple):
    """
    An upstream leg for datagrams that is ready to carry.

    @ivar fd: a non-blocking datagram socket; whoever holds this value owns it.
        Connected to the proxy's relay for SOCKS5, not connected for DIRECT.
    @ivar control: what keeps the leg alive, owned likewise: the connection that
        the association was asked for on, or L{None}.
    """

    fd: int
    kind: LegKind
    control: ILegControl | None


class IHandshake(Interface):
    """A proxy's handshake without any I/O (sans-io), driven by the connector for one leg."""

    def begin() -> bytes:
        """
        What to send first.  Called when a socket is connected, and again for
        each further one.
        """

    def proceed(greeting: IHandshake | None) -> bytes:
        """
        In place of L{begin}, on a connection that waited for its destination.

        @param greeting: what was done on it already, with the same proxy; L{None}
            for nothing.
        @return: what to send.  Until the proxy answers, L{resumable} is true: it
            may have ended the connection just before.
        """

    def receive(data: bytes) -> bytes:
        """
        Take what the proxy sent; any split of the stream is fine.

        @return: what to send next, perhaps nothing.
        @raise nanotun.errors.UpstreamError: the proxy said no, or nonsense.
        """

    done = Attribute("Whether the connection is through.")
    leftover = Attribute("Bytes past the handshake's end, once L{done}.")
    again = Attribute("Whether a new connection is needed now, and L{begin} on it.")
    resumable = Attribute("Whether the same is to be done should the connection be lost.")


class ILegControl(Interface):
    """
    What a datagram leg lives on: RFC 1928 ends an association with the TCP
    connection that it was asked for on.  Whoever holds the leg calls these.
    """

    def watch(lost: Callable[[str], None]) -> None:
        """
        Called once, before anything else.  C{lost} is called once with one
        sentence if the other side ends it, at once if it has ended already; not
        after L{close}.
        """

    def close() -> None:
        """Let go of it.  Harmless when it has ended already."""


class IUpstream(Interface):
    """A way out.  The router calls it for every flow that is to go this way."""

    sharesLegs = Attribute("Whether a datagram leg is so dear that DNS queries share some.")
    sendsNames = Attribute("Whether L{connect} passes a name on, for others to look up.")
    carriesDatagrams = Attribute("Whether L{associate} can work at all, by what it is.")

    def connect(destination: Endpoint) -> Deferred[Connection]:
        """
        Open a leg to C{destination}, its sockets marked.

        @return: fires with a L{Connection}, or fails with a
            L{nanotun.errors.UpstreamError}.  Cancelling it gives up and leaves
            no socket behind.
        """

    def associate(family: int) -> Deferred[DatagramLeg]:
        """
        Open a leg for datagrams, its sockets marked.

        @param family: the app's, 4 or 6.
        @return: fires with a L{DatagramLeg}, or fails with a
            L{nanotun.errors.UpstreamError};
            L{nanotun.errors.DatagramsUnsupported} where there is no use in asking
            again soon.  Cancelling it gives up and leaves no socket behind.
        """

    def describe() -> str:
        """The upstream's URL without its password, for logs."""


class IHealthCheck(Interface):
    """An upstream that can be asked whether it is there."""

    def check() -> Deferred[None]:
        """As L{IUpstream.connect}, up to where a destination is needed; then close."""
