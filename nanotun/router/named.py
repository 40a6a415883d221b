"""
Flows to addresses that stand for names: an upstream that is sent names gets the
name, any other an address that the name is looked up as.

Each way out has a L{NamedUpstream} around itself, so that where there are several
each gets what it wants.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import (
    NameUnknown,
    ProxyError,
    UpstreamError,
    UpstreamNetUnreachable,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, IHealthCheck, IUpstream

#: Addresses of a name that are tried, of each family.
ATTEMPTS = 3


class Names(Protocol):
    """
    What the gateway knows of the names behind addresses.  All hosts are in their
    canonical text form.
    """

    @property
    def followsFlows(self) -> bool:
        """Whether L{flowJoined} and L{flowClosed} are to be called."""

    def isFake(self, host: str) -> bool:
        """Whether an address is nobody's and stands for a name, perhaps one that is forgotten."""

    def nameOf(self, host: str) -> str | None:
        """
        The name that apps have an address for: a fake one, or a real one of a name
        that the relay was asked for.
        """

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """
        Look a name up, not by the system's resolver.

        @param family: 4 or 6.
        @return: fires with addresses, perhaps none, or fails with L{UpstreamError}.
        """

    def flowJoined(self, host: str) -> None:
        """A flow to an address was joined."""

    def flowClosed(self, host: str) -> None:
        """A flow that L{flowJoined} was called for ended."""


def forgotten(host: str) -> UpstreamError:
    """The error for a fake address without a name."""
    return UpstreamError(
        f"The address {host} stands for no name that is known; nanotun may have lost its "
        "dnsStateFile, and whoever uses it has to look the name up again."
    )


@implementer(IUpstream, IHealthCheck)
class NamedUpstream:
    """
    An upstream that is asked for addresses that may stand for names.

    @param upstream: provides L{IHealthCheck} where it is one of several.
    @param timeout: seconds for a name's lookups and dials together, where it is
        looked up here.
    """

    def __init__(
        self, upstream: IUpstream, names: Names, clock: IReactorTime, timeout: float
    ) -> None:
        self._upstream = upstream
        self._names = names
        self._clock = clock
        self._timeout = timeout

    @property
    def sharesLegs(self) -> bool:
        """See L{IUpstream}."""
        return bool(self._upstream.sharesLegs)

    @property
    def carriesDatagrams(self) -> bool:
        """See L{IUpstream}."""
        return bool(self._upstream.carriesDatagrams)

    @property
    def sendsNames(self) -> bool:
        """See L{IUpstream}."""
        return bool(self._upstream.sendsNames)

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        host, port = destination
        upstream, names = self._upstream, self._names
        isFake = names.isFake(host)
        name = names.nameOf(host) if isFake or upstream.sendsNames else None
        if name is None:
            return fail(forgotten(host)) if isFake else upstream.connect(destination)
        if upstream.sendsNames:
            return upstream.connect(Endpoint(name, port))
        leg = _Resolved(upstream, names, name, destination)
        return leg.begin(self._clock, self._timeout)

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        return self._upstream.associate(family)

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}."""
        return IHealthCheck(self._upstream).check()

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._upstream.describe()


class _Resolved:
    """
    One leg to a name that is looked up here: in the app's family first, one address
    after the other, then in the other one.  The error is the last one that says
    most: a dial's before a lookup's, any before that a network cannot be reached,
    which many networks say of all IPv6.
    """

    __slots__ = (
        "_addresses",
        "_families",
        "_name",
        "_names",
        "_now",
        "_outer",
        "_port",
        "_reason",
        "_timer",
        "_upstream",
    )

    def __init__(self, upstream: IUpstream, names: Names, name: str, destination: Endpoint) -> None:
        self._upstream = upstream
        self._names = names
        self._name = name
        self._port = destination.port
        self._families = [4, 6] if ":" in destination.host else [6, 4]
        self._addresses: list[str] = []
        self._reason: Failure | None = None
        self._timer: IDelayedCall | None = None
        self._outer: Deferred[Connection] | None = Deferred(self._cancel)
        self._now: Deferred[list[str]] | Deferred[Connection] | None = None

    def begin(self, clock: IReactorTime, timeout: float) -> Deferred[Connection]:
        """
        What fires with the leg.

        @param timeout: seconds until L{UpstreamTimeout}.
        """
        outer = self._outer
        assert outer is not None
        self._timer = clock.callLater(timeout, self._late, timeout)
        self._lookUp()
        return outer

    def _cancel(self, outer: Deferred[Connection]) -> None:
        self._end()
        assert self._now is not None
        self._now.cancel()

    def _late(self, timeout: float) -> None:
        self._timer = None
        outer = self._end()
        assert self._now is not None
        self._now.cancel()
        error = f"No connection to {self._name} stood within {timeout:g} s, its lookup included."
        outer.errback(UpstreamTimeout(error))

    def _lookUp(self) -> None:
        if not self._families:
            error = NameUnknown(f"The name {self._name} has no address.")
            self._end().errback(self._reason or error)
            return
        lookup = self._now = self._names.resolve(self._name, self._families.pop())
        lookup.addCallbacks(self._found, self._notFound)

    def _found(self, addresses: list[str]) -> None:
        if self._outer is None:
            return
        self._addresses = addresses[ATTEMPTS - 1 :: -1] if addresses else []
        if addresses:
            self._dial()
        else:
            self._lookUp()

    def _notFound(self, reason: Failure) -> None:
        if self._isOver(reason):
            return
        self._reason = self._reason or reason
        self._lookUp()

    def _dial(self) -> None:
        leg = self._now = self._upstream.connect(Endpoint(self._addresses.pop(), self._port))
        leg.addCallbacks(self._connected, self._notConnected)

    def _connected(self, connection: Connection) -> None:
        self._end().callback(connection)

    def _notConnected(self, reason: Failure) -> None:
        if self._isOver(reason):
            return
        if self._reason is None or not reason.check(UpstreamNetUnreachable):
            self._reason = reason
        if self._addresses:
            self._dial()
        elif reason.check(ProxyError):
            self._end().errback(reason)
        else:
            self._lookUp()

    def _isOver(self, reason: Failure) -> bool:
        """Whether nothing else is to be tried; the leg has failed then."""
        if self._outer is None:
            # It was given up.
            reason.trap(UpstreamError, CancelledError)
            return True
        if reason.check(UpstreamError) and not reason.check(UpstreamTimeout):
            return False
        self._end().errback(reason)
        return True

    def _end(self) -> Deferred[Connection]:
        outer, self._outer = self._outer, None
        assert outer is not None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return outer
