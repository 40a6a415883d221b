"""
Upstreams, and the values that come out of them.
"""

from __future__ import annotations

import enum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import TYPE_CHECKING, NamedTuple

from zope.interface import Attribute, Interface

from nanotun.flow import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from twisted.internet.defer import Deferred

    from nanotun.flow import Decision, Flow

#: The header of a datagram of L{LegKind.SOCKS5} up to the address (RFC 1928, section 7):
#: RSV, FRAG and ATYP.
_IPV4, _NAME, _IPV6 = b"\0\0\0\x01", b"\0\0\0\x03", b"\0\0\0\x04"

#: The first bytes of an IPv4 address that is written as an IPv6 one (RFC 4291, 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"


class PlainHttp(NamedTuple):
    """
    That a leg leads to a proxy which has not been asked for a destination: it takes plain
    http only, as requests to a proxy (RFC 9112, section 3.2.2).

    @ivar proxy: the proxy's URL without its password.
    @ivar authorization: the value of C{Proxy-Authorization}; empty for none.  A secret.
    @ivar refused: to be called if the proxy wants another log-in than that (status 407).
    """

    proxy: str
    authorization: bytes
    refused: Callable[[], None]

    def __repr__(self) -> str:
        return f"<PlainHttp {self.proxy}>"


class Connection(NamedTuple):
    """
    A leg for a TCP flow.

    @ivar fd: a connected, non-blocking stream socket; the holder of this value
        owns it.
    @ivar leftover: bytes for the app that came after the end of the handshake.
    @ivar http: what requests through it have to look like; L{None} where it leads to the
        destination.
    """

    fd: int
    leftover: bytes
    http: PlainHttp | None = None


class LegKind(enum.IntEnum):
    """What datagrams look like on a leg's socket (netstack.h, NS_LEG_...)."""

    DIRECT = 1
    SOCKS5 = 2


def wrapDatagram(destination: Endpoint, payload: bytes, named: bool = False) -> bytes:
    """
    Put the header of L{LegKind.SOCKS5} before a payload.

    @param destination: has a literal address.
    @param named: whether the header has the address as if it were a name, in text form.
    """
    host, port = destination
    if named:
        return (
            _NAME + bytes((len(host),)) + host.encode("ascii") + port.to_bytes(2, "big") + payload
        )
    ipv6 = ":" in host
    address = inet_pton(AF_INET6 if ipv6 else AF_INET, host)
    return (_IPV6 if ipv6 else _IPV4) + address + port.to_bytes(2, "big") + payload


def unwrapDatagram(datagram: bytes) -> tuple[Endpoint, bytes] | None:
    """
    Read a datagram of L{LegKind.SOCKS5}.

    @return: its source and payload; L{None} if it is cut short, a fragment, or not from a
        literal address.
    """
    kind = datagram[2:4]
    size = 4 if kind == _IPV4[2:] else 16 if kind == _IPV6[2:] else 0
    end = 4 + size + 2
    if not size or len(datagram) < end:
        return None
    address = datagram[4 : 4 + size]
    if address.startswith(_MAPPED):
        address = address[len(_MAPPED) :]
    host = inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)
    return Endpoint(host, int.from_bytes(datagram[end - 2 : end], "big")), datagram[end:]


class DatagramLeg(NamedTuple):
    """
    An upstream leg for datagrams that is ready to carry.

    @ivar fd: a non-blocking datagram socket; the holder of this value owns it.
        Connected to the proxy's UDP relay for SOCKS5, not connected for DIRECT.
    @ivar control: owned likewise: the connection that the association was asked for
        on and ends with; L{None} if there is none.
    """

    fd: int
    kind: LegKind
    control: ILegControl | None


class IHandshake(Interface):
    """
    A proxy's handshake for one leg, without any I/O (sans-io).  It is driven by
    L{nanotun.upstream.dial}, which owns the connection.
    """

    def begin() -> bytes:
        """
        Begin on a connection; called again for each further one.

        @return: what to send first.
        """

    def proceed(greeting: IHandshake | None) -> bytes:
        """
        Begin on a connection that was opened before its destination was known; called
        in place of L{begin}.

        @param greeting: the handshake that was done on it already, with the same
            proxy; L{None} if there was none.
        @return: what to send.  L{resumable} is true until the proxy answers, because
            it may have ended the connection just before.
        """

    def receive(data: bytes) -> bytes:
        """
        Take what the proxy sent, in pieces of any size.

        @return: what to send next, perhaps nothing.
        @raise nanotun.errors.UpstreamError: the proxy refused or broke the protocol;
            nothing may be called after it.
        """

    done = Attribute("Whether the connection leads to the destination.")
    leftover = Attribute("Bytes that came after the handshake's last, once L{done}.")
    again = Attribute("Whether a new connection is needed now, to L{begin} on.")
    resumable = Attribute("Whether to do the same if the connection is lost now.")
    requested = Attribute("Whether the request was sent, and no byte of an answer has come.")


class IAssociateHandshake(IHandshake):
    """
    A handshake that asks a SOCKS5 proxy for an association (RFC 1928, section 7).  The
    connection that it was done on is kept for as long as the association is used.
    """

    bound = Attribute("The L{Endpoint} that the proxy gives for its UDP relay, once L{done}.")

    def relay(proxyHost: str) -> Endpoint:
        """
        The address and port to send datagrams to, once L{done}: many proxies give an
        address that is of no use here.

        @param proxyHost: the address that the handshake's connection is connected to.
        @raise nanotun.errors.HandshakeError: the proxy gave no port.
        """


class ILegControl(Interface):
    """
    The connection on which an association was requested: the association ends with it
    (RFC 1928, section 7).  The holder of the leg calls these methods.
    """

    def watch(lost: Callable[[str], None]) -> None:
        """
        Begin to watch for its end; called once, before anything else.

        @param lost: called once, with one sentence, if the other side ends the
            connection; at once if it has ended already; never after L{close}.
        """

    def doubt() -> None:
        """
        Find out soon whether the other side is still there: it may have been switched off,
        or have forgotten the connection.  Harmless at any time.
        """

    def close() -> None:
        """Close the connection.  Harmless if it has ended already."""


class IUpstream(Interface):
    """Where flows leave.  The router asks it for a leg for each flow."""

    sharesLegs = Attribute("Whether a datagram leg costs so much that DNS queries share some.")
    sendsNames = Attribute("Whether L{connect} passes a name on, for others to look up.")
    carriesDatagrams = Attribute("Whether L{associate} can ever succeed.")

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

    def dials(endpoint: Endpoint) -> bool:
        """
        Whether an endpoint is that of a proxy which this upstream connects to, as far
        as names have been looked up.  Never raises; called for flows to a proxy's port.
        """

    def describe() -> str:
        """The upstream's URL without its password, for logs."""


class IUpstreams(Interface):
    """Every upstream of a configuration."""

    def leaving(decision: Decision, flow: Flow) -> IUpstream:
        """
        By which upstream a flow leaves.  The router asks once for each flow that leaves.

        @param decision: its verdict is PROXY or DIRECT.
        @return: never one of another name than the decision's.  Never raises.
        """

    def wayOf(decision: Decision) -> Hashable:
        """
        Equal for decisions whose flows leave in the same way, whatever the rules and the names
        of upstreams; of any two configurations.
        """


class INamedDatagrams(Interface):
    """
    An upstream whose UDP relay may take names in place of addresses.  It is an interface of
    its own, because upstreams of other packages may know nothing of it.
    """

    def associateNamed(family: int) -> Deferred[DatagramLeg]:
        """
        As L{IUpstream.associate}, for a leg whose UDP relay is known to take names.

        @return: fails with L{nanotun.errors.NamesUnsupported} where it is known not to, or
            where that cannot be told.
        """


class IHealthCheck(Interface):
    """An upstream that can be asked whether it works."""

    def check() -> Deferred[None]:
        """
        Do what L{IUpstream.connect} does before it needs a destination, then close.

        @return: fires with L{None}, or fails with a L{nanotun.errors.UpstreamError}.
        """
