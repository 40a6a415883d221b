"""
Flows to addresses whose names are known.  An upstream that is sent names gets the name;
for any other upstream the name is looked up here and an address of the name is dialled.

Each upstream has a L{NamedUpstream} around itself, so each member of a group gets what it
can use.
"""

from __future__ import annotations

import enum

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import (
    DestinationSilent,
    NamesUnsupported,
    NameUnknown,
    ProxyError,
    UnexpectedEvent,
    UpstreamError,
    UpstreamNetUnreachable,
    UpstreamTimeout,
)
from nanotun.flow import Decision, Endpoint, Flow, KnownEndpoint, LiteralEndpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialPlan,
    IHealthCheck,
    INamedDatagrams,
    INames,
    IPlanned,
    IUpstream,
)
from nanotun.timer import Timer

#: How many addresses of a name are tried, of each family.
ATTEMPTS = 3


def forgotten(host: str) -> UpstreamError:
    """The error for a fake address without a name."""
    return UpstreamError(
        f"The address {host} stands for no name that is known; nanotun may have lost its "
        "dnsStateFile, and whoever uses it has to look the name up again."
    )


def shown(names: INames, destination: Endpoint, judged: str = "") -> str:
    """
    A destination for a log line, with the name that it is known by.

    @param judged: the name that the flow was judged by, which it may have said itself.
    """
    name = judged or names.nameOf(destination.host)
    return str(destination) if name is None else f"{destination} ({name})"


def dialled(names: INames, flow: Flow, decision: Decision) -> Endpoint:
    """
    What an upstream is asked for: the destination; by its own name if the app has said which of
    several it means.
    """
    destination, name = flow.destination, decision.name
    if not name or name == names.nameOf(destination.host):
        return destination
    if name not in names.namesOf(flow).names:
        return destination
    return KnownEndpoint(destination.host, destination.port, name)


@implementer(IUpstream, IHealthCheck, INamedDatagrams, IPlanned)
class NamedUpstream:
    """
    An upstream that is asked for addresses that may stand for names.

    @param upstream: provides L{IHealthCheck} if it is the member of a group.
    @param timeout: seconds for the lookups and dials of one flow together, if its name is
        looked up here.
    @param guesses: whether C{names} has names for real addresses, which may become others at
        any time.
    @ivar sendsNames: see L{IUpstream}; given, because it depends on C{dnsMode}.
    """

    def __init__(
        self,
        upstream: IUpstream,
        names: INames,
        clock: IReactorTime,
        timeout: float,
        sendsNames: bool,
        guesses: bool = True,
    ) -> None:
        self.sendsNames = sendsNames
        self._guesses = guesses
        self._planned: IPlanned | None = IPlanned(upstream, None)
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

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        if isinstance(destination, LiteralEndpoint):
            return self._upstream.connect(destination)
        host, port = destination
        upstream, names = self._upstream, self._names
        isFake = names.isFake(host)
        name = self._nameOf(destination, isFake)
        if name is None:
            return fail(forgotten(host)) if isFake else upstream.connect(destination)
        if self.sendsNames:
            return upstream.connect(Endpoint(name, port))
        dial = NamedDial(upstream, names, name, destination, self._clock, self._timeout)
        dial.start()
        return dial.deferred

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}; of destinations whose names are not looked up here."""
        planned = self._planned
        if planned is None or isinstance(destination, LiteralEndpoint):
            return None if planned is None else planned.plan(destination)
        host, port = destination
        isFake = self._names.isFake(host)
        name = self._nameOf(destination, isFake)
        if name is None:
            plan = None if isFake else planned.plan(destination)
        else:
            plan = planned.plan(Endpoint(name, port)) if self.sendsNames else None
        if plan is None or not plan.standing or not self.sendsNames:
            return plan
        said = isinstance(destination, KnownEndpoint)
        return plan._replace(standing=not said and (isFake or not self._guesses))

    def _nameOf(self, destination: Endpoint, isFake: bool) -> str | None:
        if isinstance(destination, KnownEndpoint):
            return destination.name if self.sendsNames else None
        return self._names.nameOf(destination.host) if isFake or self.sendsNames else None

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        return self._upstream.associate(family)

    def associateNamed(self, family: int) -> Deferred[DatagramLeg]:
        """See L{INamedDatagrams.associateNamed}."""
        named = INamedDatagrams(self._upstream, None) if self.sendsNames else None
        if named is None:
            text = f"The upstream {self.describe()} is sent addresses of UDP destinations."
            return fail(NamesUnsupported(text))
        return named.associateNamed(family)

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}."""
        return IHealthCheck(self._upstream).check()

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return self._upstream.dials(endpoint)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._upstream.describe()


# Also str, whose hash is not Python code.
class NamedDialState(enum.StrEnum):
    """What a L{NamedDial} is doing."""

    LOOKING_UP = "looking up"
    DIALLING = "dialling"
    CONNECTED = "connected"
    FAILED = "failed"
    CANCELLED = "cancelled"


class NamedDialEvent(enum.StrEnum):
    """What happens to a L{NamedDial}."""

    #: The name has addresses of this family.
    FOUND = "found"
    #: An address failed, and there is another one.
    NEXT_ADDRESS = "next address"
    #: This family has no address, or none that works.
    NEXT_FAMILY = "next family"
    CONNECTED = "connected"
    #: No family is left, or the error is one that no other address would mend.
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The state that follows each event.  Any other event is a bug.
TRANSITIONS = {
    (NamedDialState.LOOKING_UP, NamedDialEvent.FOUND): NamedDialState.DIALLING,
    (NamedDialState.LOOKING_UP, NamedDialEvent.NEXT_FAMILY): NamedDialState.LOOKING_UP,
    (NamedDialState.LOOKING_UP, NamedDialEvent.FAILED): NamedDialState.FAILED,
    (NamedDialState.LOOKING_UP, NamedDialEvent.CANCELLED): NamedDialState.CANCELLED,
    (NamedDialState.DIALLING, NamedDialEvent.NEXT_ADDRESS): NamedDialState.DIALLING,
    (NamedDialState.DIALLING, NamedDialEvent.NEXT_FAMILY): NamedDialState.LOOKING_UP,
    (NamedDialState.DIALLING, NamedDialEvent.CONNECTED): NamedDialState.CONNECTED,
    (NamedDialState.DIALLING, NamedDialEvent.FAILED): NamedDialState.FAILED,
    (NamedDialState.DIALLING, NamedDialEvent.CANCELLED): NamedDialState.CANCELLED,
}
_PENDING = (NamedDialState.LOOKING_UP, NamedDialState.DIALLING)


class NamedDial:
    """
    A dial to a name that is looked up here; see L{TRANSITIONS}.  The app's family is tried
    first, one address after the other, then the other family.

    It fails with the error that says most: the last one of a connect, but not that a
    network cannot be reached, which many networks say of all IPv6, if there is another.
    The error of a lookup counts only if no connect was tried.

    @ivar state: what it is doing now.
    @ivar deferred: fires with the leg; cancelling it cancels the dial.
    @param destination: a fake address of the name, and the port.
    @param timeout: seconds until it fails with L{UpstreamTimeout}.
    """

    __slots__ = (
        "_addresses",
        "_families",
        "_name",
        "_names",
        "_now",
        "_port",
        "_reason",
        "_timeout",
        "_timer",
        "_upstream",
        "deferred",
        "state",
    )

    def __init__(
        self,
        upstream: IUpstream,
        names: INames,
        name: str,
        destination: Endpoint,
        clock: IReactorTime,
        timeout: float,
    ) -> None:
        self.state = NamedDialState.LOOKING_UP
        self.deferred: Deferred[Connection] = Deferred(self._cancelled)
        self._upstream = upstream
        self._names = names
        self._name = name
        self._port = destination.port
        self._timeout = timeout
        self._timer = Timer(clock, self._expired)
        self._families = [4, 6] if ":" in destination.host else [6, 4]
        self._addresses: list[str] = []
        self._reason: Failure | None = None
        self._now: Deferred[list[str]] | Deferred[Connection] | None = None

    def start(self) -> None:
        """Begin with the first lookup."""
        self._timer.start(self._timeout)
        self._lookUp()

    def _to(self, event: NamedDialEvent) -> None:
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise UnexpectedEvent("A dial to a name", self.state, event) from None

    def _lookUp(self) -> None:
        if not self._families:
            self._fail(self._reason or NameUnknown(f"The name {self._name} has no address."))
            return
        lookup = self._now = self._names.resolve(self._name, self._families.pop())
        lookup.addCallbacks(self._found, self._notFound)

    def _found(self, addresses: list[str]) -> None:
        if addresses:
            self._to(NamedDialEvent.FOUND)
            self._addresses = addresses[ATTEMPTS - 1 :: -1]
            self._dial()
        else:
            self._tryNextFamily()

    def _notFound(self, reason: Failure) -> None:
        if not self._endsWith(reason):
            self._reason = self._reason or reason
            self._tryNextFamily()

    def _tryNextFamily(self) -> None:
        self._to(NamedDialEvent.NEXT_FAMILY)
        self._lookUp()

    def _dial(self) -> None:
        dial = self._now = self._upstream.connect(Endpoint(self._addresses.pop(), self._port))
        dial.addCallbacks(self._connected, self._notConnected)

    def _connected(self, connection: Connection) -> None:
        self._to(NamedDialEvent.CONNECTED)
        self._timer.close()
        self.deferred.callback(connection)

    def _notConnected(self, reason: Failure) -> None:
        if self._endsWith(reason):
            return
        if self._reason is None or not reason.check(UpstreamNetUnreachable):
            self._reason = reason
        if self._addresses:
            self._to(NamedDialEvent.NEXT_ADDRESS)
            self._dial()
        elif reason.check(ProxyError):
            self._fail(reason)
        else:
            self._tryNextFamily()

    def _endsWith(self, reason: Failure) -> bool:
        """Whether nothing else is tried after this error."""
        if self.state not in _PENDING:
            # The lookup or dial that was cancelled at the end.
            reason.trap(UpstreamError, CancelledError)
            return True
        if reason.check(UpstreamError) and not reason.check(UpstreamTimeout):
            return False
        self._fail(reason)
        return True

    def _fail(self, reason: Failure | UpstreamError) -> None:
        self._to(NamedDialEvent.FAILED)
        self._timer.close()
        self.deferred.errback(reason)

    def _expired(self) -> None:
        self._to(NamedDialEvent.FAILED)
        self._timer.close()
        self._cancelNow()
        error = (
            f"No connection to {self._name} was made within {self._timeout:g} s, its lookup "
            "included."
        )
        self.deferred.errback(DestinationSilent(error, news=True))

    def _cancelled(self, deferred: Deferred[Connection]) -> None:
        # Deferred.cancel itself fails it with CancelledError.
        self._to(NamedDialEvent.CANCELLED)
        self._timer.close()
        self._cancelNow()

    def _cancelNow(self) -> None:
        assert self._now is not None
        self._now.cancel()
