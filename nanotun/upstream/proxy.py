"""
An upstream by way of a proxy.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import DatagramsUnsupported, ProxyClosedError, ProxyError, UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, IHandshake, IHealthCheck, IUpstream, LegKind
from nanotun.upstream.dial.connector import Connector
from nanotun.upstream.dial.control import ControlConnection
from nanotun.upstream.dial.protocol import UpstreamFactory
from nanotun.upstream.dial.resolver import HostAddresses, SocketAddress
from nanotun.upstream.dial.sockets import openDatagram, openStream
from nanotun.upstream.handshakes.socks5 import Socks5Handshake
from nanotun.upstream.handshakes.socks5relay import relayEndpoint
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.pool.reuse import reuse
from nanotun.upstream.url import ProxyURL

#: Seconds that a proxy's "no UDP here" is believed.  Long enough to cost no
#: connection for each attempt of a browser, short enough to notice a proxy that
#: was configured anew.
UNSUPPORTED_TIME = 60.0

#: The schemes whose proxies are sent names.  A SOCKS5 proxy takes them too, but who
#: writes socks5:// wants names looked up here; curl(1) has it so.
NAME_SCHEMES = {"socks5h", "socks4a", "http", "https"}


def sendsNames(urls: Iterable[ProxyURL]) -> bool:
    """Whether any of these proxies is sent names."""
    return any(url.scheme in NAME_SCHEMES for url in urls)


class Handshakes(NamedTuple):
    """
    What a scheme's handshakes are made by, for one proxy.

    @ivar connect: the handshake for one destination.
    @ivar associate: the handshake for one UDP relay, or L{None} where the scheme
        has none.
    @ivar greet: the handshake as far as it goes without a destination, after which
        the others can proceed; L{None} where that is nowhere.
    @ivar carry: takes a handshake that is done and its connection, and returns
        one that carries plain bytes; L{None} where it does already.
    """

    connect: Callable[[Endpoint], IHandshake]
    associate: Callable[[], Socks5Handshake] | None = None
    carry: Callable[[IHandshake, Connection], Connection] | None = None
    greet: Callable[[], IHandshake] | None = None


@implementer(IUpstream, IHealthCheck)
class ProxyUpstream:
    """
    Asks a proxy to connect.

    @ivar leadsIn: whether the way to a literal address leads into the tunnel again;
        then it is no relay's.  The composition root sets it.
    @ivar pool: a service; L{None} if it has none.
    @param url: the proxy's.
    @param timeout: seconds for all steps together.
    @param poolSize: how many connections wait for a destination.
    """

    #: Each leg is a connection to the proxy and two rounds of handshake.
    sharesLegs = True

    def __init__(
        self,
        url: ProxyURL,
        handshakes: Handshakes,
        reactor: Any,
        timeout: float,
        makeStream: Callable[[int], Any] = openStream,
        makeDatagram: Callable[[int], socket.socket] = openDatagram,
        poolSize: int = 0,
    ) -> None:
        self.leadsIn: Callable[[str], bool] = lambda host: False
        self.sendsNames = url.scheme in NAME_SCHEMES
        self.carriesDatagrams = handshakes.associate is not None
        self._name = str(url)
        self._reactor = reactor
        self._handshakes = handshakes
        self._makeDatagram = makeDatagram
        self._unsupported = ""
        self._unsupportedUntil = 0.0
        self._addresses = HostAddresses(reactor, url.host, url.port)
        self._connector = Connector(
            reactor,
            f"The proxy {self._name}",
            timeout,
            self._notReached,
            UpstreamFactory(self._name),
            makeStream,
        )
        self.pool = (
            WarmPool(
                reactor,
                self._name,
                poolSize,
                timeout,
                handshakes.greet,
                partial(self._connector.open, self._addresses),
            )
            if poolSize
            else None
        )

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        try:
            handshake = self._handshakes.connect(destination)
        except UpstreamError as error:
            return fail(error)
        opened = self._open(handshake)
        if self._handshakes.carry is not None:
            opened.addCallback(partial(self._handshakes.carry, handshake))
        return opened

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """
        See L{IUpstream.associate}.  The relay's own family is the proxy's choice,
        and carries both.
        """
        if self._handshakes.associate is None:
            return fail(DatagramsUnsupported(f"The proxy {self._name} carries no UDP."))
        if self._reactor.seconds() < self._unsupportedUntil:
            return fail(DatagramsUnsupported(self._unsupported))
        handshake = self._handshakes.associate()

        def granted(connection: Connection) -> DatagramLeg:
            assert handshake.bound is not None
            return self._legTo(handshake.bound, connection.fd)

        def refused(reason: Any) -> Any:
            if reason.check(ProxyClosedError) and handshake.requested:
                # OpenSSH's way to say no.
                reason = Failure(
                    DatagramsUnsupported(
                        f"The proxy {self._name} closes the connection when it is asked for UDP, "
                        "so that apps do without it."
                    )
                )
            reason.trap(DatagramsUnsupported)
            self._unsupported = str(reason.value)
            self._unsupportedUntil = self._reactor.seconds() + UNSUPPORTED_TIME
            return reason

        # Not one that waits: a proxy that ends it for the asking seems to have ended it before.
        opened: Deferred[Any] = self._connector.open(self._addresses, handshake)
        opened.addCallbacks(granted, refused)
        return opened

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}."""
        greet = self._handshakes.greet
        opened = self._connector.open(self._addresses, None if greet is None else greet())
        return opened.addCallback(lambda connection: os.close(connection.fd))

    def dials(self, endpoint: Endpoint) -> bool:
        """Whether it is the proxy's, as far as its name has been looked up."""
        return self._addresses.include(*endpoint)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._name

    def _open(self, handshake: IHandshake) -> Deferred[Connection]:
        pool = self.pool
        warm = None if pool is None else pool.take()
        if pool is None or warm is None:
            return self._connector.open(self._addresses, handshake)
        opened = reuse(self._connector, self._addresses, handshake, warm)
        # Not before the request: dials take time, and nobody waits for these.
        pool.refill()
        return opened

    def _legTo(self, bound: Endpoint, fd: int) -> DatagramLeg:
        """
        The leg for a relay.

        @param fd: the connection that it was asked for on, owned from here.
        """
        control = ControlConnection(fd, self._reactor, self._name)
        relay = bound
        datagram = None
        try:
            peer = control.peer()
            relay = relayEndpoint(bound, peer[0], self._name)
            if self.leadsIn(relay.host):
                raise ProxyError(
                    f"The way to the relay for UDP of the proxy {self._name}, at {relay}, leads "
                    "into the tunnel itself; route it as the way to the proxy is."
                )
            ipv6 = ":" in relay.host
            # The rest of the peer's address names the interface of a link-local one.
            rest = peer[2:] if relay.host == peer[0] else ()
            datagram = self._makeDatagram(socket.AF_INET6 if ipv6 else socket.AF_INET)
            datagram.connect((*relay, *rest))
        except (OSError, UpstreamError) as error:
            control.close()
            if datagram is not None:
                datagram.close()
            if isinstance(error, UpstreamError):
                raise
            raise ProxyError(
                f"The relay for UDP of the proxy {self._name} cannot be reached at {relay} "
                f"({error.strerror}); look at the proxy's configuration."
            ) from None
        return DatagramLeg(datagram.detach(), LegKind.SOCKS5, control)

    def _notReached(self, error: int, address: SocketAddress) -> UpstreamError:
        place = address.address
        if address.family != socket.AF_UNIX:
            place = place[0]
        return ProxyError(
            f"The proxy {self._name} cannot be reached at {place} "
            f"({os.strerror(error)}); check that it runs there."
        )
