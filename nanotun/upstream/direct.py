"""
The upstream without a proxy: it dials the destination itself, outside the tunnel.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial

from twisted.internet.defer import Deferred, execute, fail, succeed
from zope.interface import implementer

from nanotun.errors import (
    DestinationSilent,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialEnd,
    DialPlan,
    IHealthCheck,
    IPlanned,
    IUpstream,
    LegKind,
    UpstreamContext,
)
from nanotun.upstream.dial.connector import Connector
from nanotun.upstream.dial.resolver import HostAddresses, SocketAddress, literalAddress
from nanotun.upstream.plans.begun import Begun
from nanotun.upstream.plans.courses import Courses
from nanotun.upstream.plans.outcomes import Outcomes
from nanotun.upstream.plans.resumed import resume

#: The error that the app sees, by the errno of connect(2).  EACCES and EPERM are from
#: this machine's firewall or a "prohibit" route.
ERRORS: dict[int, type[UpstreamError]] = {
    errno.ECONNREFUSED: UpstreamRefused,
    errno.ECONNRESET: UpstreamRefused,
    errno.EHOSTUNREACH: UpstreamHostUnreachable,
    errno.EHOSTDOWN: UpstreamHostUnreachable,
    errno.ENETUNREACH: UpstreamNetUnreachable,
    errno.ENETDOWN: UpstreamNetUnreachable,
    errno.EACCES: UpstreamProhibited,
    errno.EPERM: UpstreamProhibited,
    errno.ETIMEDOUT: DestinationSilent,
}


@implementer(IUpstream, IHealthCheck, IPlanned)
class DirectUpstream:
    """Dials destinations with marked sockets, unless they would come back."""

    #: A leg is one system call.
    sharesLegs = False
    #: The system would look the name up, and its resolver may be nanotun's own relay.
    sendsNames = False
    carriesDatagrams = True

    def __init__(self, context: UpstreamContext) -> None:
        self._context = context
        self._connector = Connector(
            context.reactor,
            "The destination",
            context.timeout,
            self._notReached,
            makeStream=context.openStream,
        )
        self._courses = Courses(context)

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        context, (host, port) = self._context, destination
        isName = literalAddress(host, port) is None
        if not isName and context.leadsIn(host):
            return fail(
                UpstreamNetUnreachable(f"The route to {destination} leads into the tunnel again.")
            )
        # What has a name is the proxy of a chain, whose addresses others want to know as well.
        find = (isName and context.addresses) or partial(HostAddresses, context.reactor)
        addresses = find(host, port)
        return self._connector.open(addresses, destination=destination)

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}; of destinations that need no lookup."""
        address = literalAddress(*destination)
        if self._context.mark is None or address is None:
            return None
        if self._context.leadsIn(destination.host):
            return None
        course = self._courses.of([address], ())
        if course is None:
            return None
        begun = Begun(destination, [address])
        # Whatever changes the routes ends what stands.
        return DialPlan(course, b"", Outcomes(begun, _noted, self._resume), standing=True)

    def _resume(self, begun: Begun, end: DialEnd) -> Deferred[Connection]:
        """A dial of the engine has not succeeded."""
        addresses = HostAddresses(self._context.reactor, *begun.destination)
        return resume(self._connector, addresses, None, begun, end)

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        return execute(self._leg, socket.AF_INET6 if family == 6 else socket.AF_INET)

    def _leg(self, family: int) -> DatagramLeg:
        return DatagramLeg(self._context.openDatagram(family).detach(), LegKind.DIRECT, None)

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}; there is no proxy that could be down."""
        return succeed(None)

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}; there is no proxy."""
        return False

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return "direct://"

    def _notReached(self, error: int, address: SocketAddress) -> UpstreamError:
        kind = ERRORS.get(error, UpstreamError)
        destination = Endpoint(*address.address[:2])
        return kind(f"The destination {destination} cannot be reached: {os.strerror(error)}.")


def _noted(begun: Begun, address: int) -> None:
    """A dial of the engine has succeeded; nothing follows from that."""
