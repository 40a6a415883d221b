"""
The upstream behind a proxy whose protocol is a handshake.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import (
    DatagramsUnsupported,
    NamesUnsupported,
    ProxyClosedError,
    ProxyError,
    UpstreamError,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialEnd,
    DialPlan,
    IAssociateHandshake,
    IHandshake,
    IHealthCheck,
    INamedDatagrams,
    IPlanned,
    IUpstream,
    LegKind,
    ProxyURL,
    UpstreamContext,
)
from nanotun.upstream.dial.connector import Connector
from nanotun.upstream.dial.control import ControlConnection
from nanotun.upstream.dial.protocol import UpstreamFactory
from nanotun.upstream.dial.resolver import HostAddresses, SocketAddress
from nanotun.upstream.dial.secure import Secure
from nanotun.upstream.handshakes.goodway import GoodWay
from nanotun.upstream.plans.begun import Begun
from nanotun.upstream.plans.courses import Courses
from nanotun.upstream.plans.outcomes import Outcomes
from nanotun.upstream.plans.resumed import resume
from nanotun.upstream.pool.pool import WarmPool
from nanotun.upstream.pool.reuse import reuse
from nanotun.upstream.relaynames import RelayNames

#: Seconds during which a proxy that carries no UDP is not asked again.  Long enough
#: that a browser's attempts cost no connection each, short enough to notice that the
#: proxy has been reconfigured.
UNSUPPORTED_TIME = 60.0


class Handshakes(NamedTuple):
    """
    Makes the handshakes with one proxy; each call makes one for one connection.

    @ivar connect: for a TCP connection to a destination.  Raises L{UpstreamError} for a
        destination that cannot be asked for.
    @ivar associate: for an association; L{None} if the proxy carries no UDP.
    @ivar greet: for the part that needs no destination yet, after which another
        handshake can proceed; L{None} if there is no such part.
    @ivar goodWay: the way of C{connect} that the engine can go by itself; L{None}, or returns
        that, if there is none.
    @ivar secure: TLS, of which all of these are inside; L{None} for none.
    """

    connect: Callable[[Endpoint], IHandshake]
    associate: Callable[[], IAssociateHandshake] | None = None
    greet: Callable[[], IHandshake] | None = None
    goodWay: Callable[[], GoodWay | None] | None = None
    secure: Secure | None = None


@implementer(IUpstream, IHealthCheck, INamedDatagrams, IPlanned)
class ProxyUpstream:
    """
    Asks a proxy to connect: all that a scheme needs whose protocol is a handshake at
    the beginning of a TCP connection.

    @ivar relayNames: whether its UDP relay takes names.
    @ivar pool: the service that keeps connections ready, a child of the context's
        services; L{None} if it has none.
    @param url: the proxy's.
    """

    #: Each leg is a connection to the proxy and two rounds of handshake.
    sharesLegs = True

    def __init__(self, url: ProxyURL, handshakes: Handshakes, context: UpstreamContext) -> None:
        self.sendsNames = url.scheme.sendsNames
        # No socket of this machine reaches a UDP relay behind another proxy.
        self.carriesDatagrams = handshakes.associate is not None and context.via is None
        self._name = str(url)
        self._context = context
        self._handshakes = handshakes
        self._unsupported = ""
        self._unsupportedUntil = 0.0
        self.relayNames = RelayNames(self._name, context.reactor, context.servers, self.associate)
        find = context.addresses or partial(HostAddresses, context.reactor, changed=context.changed)
        self._addresses: HostAddresses = find(url.host, url.port)
        self._courses = Courses(context, handshakes.secure)
        self._connector = Connector(
            context.reactor,
            f"The proxy {self._name}",
            context.timeout,
            self._notReached,
            UpstreamFactory(self._name),
            context.openStream,
            context.via,
            handshakes.secure,
        )
        self.pool = self._makePool() if context.poolSize else None

    def _makePool(self) -> WarmPool:
        context = self._context
        pool = WarmPool(
            context.reactor,
            self._name,
            context.poolSize,
            context.timeout,
            self._handshakes.greet,
            partial(self._connector.open, self._addresses),
            secure=self._handshakes.secure,
        )
        if context.services is not None:
            pool.setServiceParent(context.services)
        return pool

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        try:
            handshake = self._handshakes.connect(destination)
        except UpstreamError as error:
            return fail(error)
        return self._open(handshake, destination)

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}."""
        context, make, pool = self._context, self._handshakes.goodWay, self.pool
        if make is None or context.mark is None or context.via is not None:
            return None
        goodWay, addresses = make(), self._addresses.hold()
        if goodWay is None or addresses is None:
            return None
        try:
            request = goodWay.request(destination)
            course = self._courses.of(addresses, goodWay.steps)
        except UpstreamError:
            return None
        if course is None:
            return None
        if pool is None:
            begun = Begun(destination, addresses, goodWay.steps)
            return DialPlan(course, request, self._outcomes(begun), standing=True)
        # It does not stand: the next flow may find another connection that waits.
        greeted = self._courses.of(addresses, goodWay.greeted)
        assert greeted is not None
        warm, fd, steps = pool.take(), -1, goodWay.steps
        if warm is not None:
            fd, steps, course = warm.stream.detach(), goodWay.greeted, greeted
        # After the request is sent: nobody waits for the new connections.
        context.reactor.callLater(0, pool.refill)
        return DialPlan(
            course, request, self._outcomes(Begun(destination, addresses, steps, warm)), fd
        )

    def _outcomes(self, begun: Begun) -> Outcomes:
        return Outcomes(begun, self._worked, self._resume)

    def _worked(self, begun: Begun, address: int) -> None:
        """A dial of the engine has succeeded."""
        if begun.warm is None:
            self._addresses.prefer(begun.addresses[address])
        else:
            begun.warm.worked()
            self._addresses.prefer(begun.warm.address)

    def _resume(self, begun: Begun, end: DialEnd) -> Deferred[Connection]:
        """A dial of the engine has not."""
        # For the same destination as C{plan}, so that this does not fail.
        handshake = self._handshakes.connect(begun.destination)
        return resume(self._connector, self._addresses, handshake, begun, end)

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """
        See L{IUpstream.associate}.  The family of the proxy's UDP relay is the proxy's
        choice, and that relay carries both.
        """
        if self._handshakes.associate is None:
            return fail(DatagramsUnsupported(f"The proxy {self._name} carries no UDP."))
        if self._context.via is not None:
            return fail(
                DatagramsUnsupported(
                    f"The proxy {self._name} is dialled through {self._context.via.name}, and a "
                    "chain carries no UDP."
                )
            )
        if self._context.reactor.seconds() < self._unsupportedUntil:
            return fail(DatagramsUnsupported(self._unsupported))
        handshake = self._handshakes.associate()

        def granted(connection: Connection) -> DatagramLeg:
            return self._leg(handshake, connection.fd)

        def refused(reason: Any) -> Any:
            if reason.check(ProxyClosedError) and handshake.requested:
                # This is how OpenSSH refuses.
                reason = Failure(
                    DatagramsUnsupported(
                        f"The proxy {self._name} closes the connection when it is asked for UDP, "
                        "so that apps do without it."
                    )
                )
            reason.trap(DatagramsUnsupported)
            self._unsupported = str(reason.value)
            self._unsupportedUntil = self._context.reactor.seconds() + UNSUPPORTED_TIME
            return reason

        # Not on a connection that waited: if the proxy closes it because of the request,
        # that looks as if it had closed it before.
        opened: Deferred[Any] = self._connector.open(self._addresses, handshake)
        opened.addCallbacks(granted, refused)
        return opened

    def associateNamed(self, family: int) -> Deferred[DatagramLeg]:
        """See L{INamedDatagrams.associateNamed}."""
        if not self.carriesDatagrams:
            return self.associate(family)

        def asked(takes: bool) -> Deferred[DatagramLeg]:
            if takes:
                return self.associate(family)
            relay = f"the UDP relay of the proxy {self._name}"
            if self.relayNames.known is None:
                text = f"It cannot be told whether {relay} takes host names."
            else:
                text = f"T{relay[1:]} takes no host names."
            return fail(NamesUnsupported(text))

        return self.relayNames.ask().addCallback(asked)

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}."""
        greet = self._handshakes.greet
        opened = self._connector.open(self._addresses, None if greet is None else greet())
        return opened.addCallback(lambda connection: os.close(connection.fd))

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        via = self._context.via
        # Behind another proxy, an address may be that of some other host.
        return (via is None or via.mayBeDirect) and self._addresses.include(*endpoint)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._name

    def _open(self, handshake: IHandshake, destination: Endpoint) -> Deferred[Connection]:
        pool = self.pool
        if pool is None:
            return self._connector.open(self._addresses, handshake, destination)
        warm = pool.take()
        if warm is None:
            opened = self._connector.open(self._addresses, handshake, destination)
        else:
            opened = reuse(self._connector, self._addresses, handshake, warm, destination)
        # After the request is sent: nobody waits for the new connections.
        pool.refill()
        return opened

    def _leg(self, handshake: IAssociateHandshake, fd: int) -> DatagramLeg:
        """
        The leg of an association.

        @param handshake: done.
        @param fd: its connection, owned from here.
        """
        context = self._context
        control = ControlConnection(fd, context.reactor, self._name)
        relay = handshake.bound
        datagram = None
        try:
            peer = control.peer()
            relay = handshake.relay(peer[0])
            if context.leadsIn(relay.host):
                raise ProxyError(
                    f"The route to the UDP relay of the proxy {self._name}, at {relay}, leads into "
                    "the tunnel itself; route it like the proxy."
                )
            ipv6 = ":" in relay.host
            # The rest of the peer's address names the interface of a link-local one.
            rest = peer[2:] if relay.host == peer[0] else ()
            datagram = context.openDatagram(socket.AF_INET6 if ipv6 else socket.AF_INET)
            datagram.connect((*relay, *rest))
        except (OSError, UpstreamError) as error:
            control.close()
            if datagram is not None:
                datagram.close()
            if isinstance(error, UpstreamError):
                raise
            raise ProxyError(
                f"The UDP relay of the proxy {self._name} cannot be reached at {relay} "
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
