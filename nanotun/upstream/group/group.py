"""
Several upstreams as one, and the report on the health of each.

Each flow uses the first upstream in the policy's order that opens its leg; see
L{nanotun.upstream.group.tries}.  Open flows keep their sockets, even if the upstream that
opened them goes down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import DatagramsUnsupported, NamesUnsupported, UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, INamedDatagrams, IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.health import Watch
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.members import Members
from nanotun.upstream.group.outcomes import (
    DatagramOutcomes,
    IOutcomes,
    ProgramOutcomes,
    StreamOutcomes,
)
from nanotun.upstream.group.policies import POLICIES
from nanotun.upstream.group.tries import Tries
from nanotun.upstream.proxy import ProxyUpstream

#: How many upstreams one connection may try.
TRIES = 2

#: From a member to the upstream that is asked in its name.
Own = Callable[[Member], IUpstream]


def common(member: Member) -> IUpstream:
    """The member's own upstream."""
    return member.upstream


@implementer(IUpstream, INamedDatagrams)
class GroupUpstream(Service):
    """
    An upstream that chooses one of others for each flow.  As a service it checks their
    health; if it is not started, it learns only from flows.

    @ivar members: what is known of the upstreams.
    @param upstreams: in the configuration's order; each also provides L{IHealthCheck}.
    @param policy: one of L{POLICIES}.
    @param timeout: seconds for one connection, all tries together.
    @param interval: seconds between two checks of an upstream that is idle.
    @param trouble: told of upstreams that go down.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @param chance: a number from 0 to 1, less than 1.
    """

    _log = Logger()
    _probes = True

    def __init__(
        self,
        upstreams: Sequence[IUpstream],
        policy: str,
        clock: IReactorTime,
        timeout: float,
        interval: float,
        trouble: TroubleLog,
        logFlows: bool = False,
        chance: Callable[[], float] = random,
    ) -> None:
        self.sharesLegs = any(upstream.sharesLegs for upstream in upstreams)
        self.sendsNames = any(upstream.sendsNames for upstream in upstreams)
        self.carriesDatagrams = any(upstream.carriesDatagrams for upstream in upstreams)
        self.logFlows = logFlows
        self._policy = policy
        self._clock = clock
        self._timeout = timeout
        self.members = Members(
            upstreams, POLICIES[policy](chance), clock, chance, trouble, self._changed
        )
        self._watches = {
            member: Watch(member, self.members, clock, interval, timeout, chance, self._probes)
            for member in self.members.all
        }
        self._streams = StreamOutcomes(self.members, clock, self.doubt)
        self._datagrams = DatagramOutcomes(self.members, self.doubt)

    @property
    def policyName(self) -> str | None:
        """The policy's name; L{None} if there is nothing to choose."""
        return self._policy

    def connect(self, destination: Endpoint, own: Own = common) -> Deferred[Connection]:
        """
        See L{IUpstream.connect}.

        @param own: see L{Own}; as for L{associate} and L{associateNamed}.
        """

        def ask(member: Member) -> Deferred[Connection]:
            upstream = own(member)
            if self.logFlows:
                self._log.debug(
                    "A connection to {destination} goes through {upstream}",
                    destination=destination,
                    upstream=upstream.describe(),
                )
            return upstream.connect(destination)

        candidates = self.members.order()[:TRIES]
        return self._try(candidates, ask, self._outcomes(own), str(destination))

    def associate(self, family: int, own: Own = common) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""

        def ask(member: Member) -> Deferred[DatagramLeg]:
            upstream = own(member)
            self._logAssociation(upstream)
            return upstream.associate(family)

        tries = self._try(self.members.datagramOrder(), ask, self._datagrams)
        return tries.addErrback(self._noDatagrams)

    def associateNamed(self, family: int, own: Own = common) -> Deferred[DatagramLeg]:
        """
        See L{INamedDatagrams.associateNamed}.  If no upstream opens a leg, and at least one
        only because its UDP relay takes no names, that is the error: the flow can go by
        address then.
        """
        unnamed: list[Failure] = []

        def noted(reason: Failure) -> Failure:
            if reason.check(NamesUnsupported):
                unnamed.append(reason)
            return reason

        def ask(member: Member) -> Deferred[DatagramLeg]:
            upstream = own(member)
            self._logAssociation(upstream)
            return associateNamed(upstream, family).addErrback(noted)

        def failed(reason: Failure) -> Failure:
            if unnamed and reason.check(UpstreamError):
                return unnamed[0]
            return self._noDatagrams(reason)

        return self._try(self.members.datagramOrder(), ask, self._datagrams).addErrback(failed)

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return any(member.upstream.dials(endpoint) for member in self.members.all)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        names = ", ".join(member.name for member in self.members.all)
        return f"{self._policy} of {names}"

    def startService(self) -> None:
        """Begin to check the upstreams."""
        super().startService()
        for watch in self._watches.values():
            watch.start()

    def stopService(self) -> None:
        """Cancel all checks."""
        super().stopService()
        for watch in self._watches.values():
            watch.stop()

    def networkMoved(self) -> None:
        """Check at once the upstreams that are down."""
        for watch in self._watches.values():
            watch.networkMoved()

    def refresh(self) -> Deferred[Any]:
        """Fires once the health of all is known as of now."""
        waiting = [watch.refresh() for watch in self._watches.values()]
        return DeferredList(waiting, consumeErrors=True)

    def doubt(self, member: Member) -> None:
        """Check a member soon, since a flow's outcome raised a doubt about it."""
        self._watches[member].doubt()

    def _outcomes(self, own: Own) -> IOutcomes:
        if own is common:
            return self._streams
        return ProgramOutcomes(self._streams, lambda member: own(member) is not member.upstream)

    def _try(
        self,
        candidates: Sequence[Member],
        ask: Callable[[Member], Deferred[Any]],
        outcomes: IOutcomes,
        destination: str = "",
    ) -> Deferred[Any]:
        tries = Tries(candidates, ask, self._clock, self._timeout, outcomes, destination)
        tries.askNext()
        return tries.deferred

    def _changed(self, member: Member) -> None:
        self._watches[member].changed()

    def _logAssociation(self, upstream: IUpstream) -> None:
        if self.logFlows:
            self._log.debug(
                "A UDP association goes through {upstream}", upstream=upstream.describe()
            )

    def _noDatagrams(self, reason: Failure) -> Failure:
        if reason.check(DatagramsUnsupported):
            names = ", ".join(member.name for member in self.members.all)
            raise DatagramsUnsupported(
                f"None of the proxies {names} carries UDP, so that apps do without it."
            )
        return reason


def associateNamed(upstream: IUpstream, family: int) -> Deferred[DatagramLeg]:
    """See L{INamedDatagrams.associateNamed}; of an upstream that need not provide it."""
    named = INamedDatagrams(upstream, None)
    if named is None:
        text = f"The upstream {upstream.describe()} knows nothing of names for UDP."
        return fail(NamesUnsupported(text))
    return named.associateNamed(family)


def upstreamReport(upstream: IUpstream, single: Sequence[IUpstream], now: float) -> dict[str, Any]:
    """
    Report on the upstreams that flows use.

    @param upstream: where flows leave.
    @param single: the upstreams that it is made of, in their order, unwrapped.
    @param now: seconds of the upstream's clock.
    @return: C{policy}, or L{None} for a single upstream; and C{proxies}, each with C{url}
        (no password), C{health} (C{"up"}: it answered last, C{"down"}: it did not,
        C{"unknown"}: it was never asked), C{trouble} (why it is down, a sentence, or
        empty), C{state} (C{"closed"}: it is in use, C{"open"}: it is down, C{"half
        open"}: it is being tried again; L{None} if nothing checks it), C{latency} (seconds
        of a handshake, on average), C{udp} (whether it carries UDP), C{udpNames} (whether
        its UDP relay takes names) and C{pool} (C{idle} and C{dialling} connections), each
        L{None} if it is not known.
    """
    proxies: list[dict[str, Any]] = [
        {
            "url": each.describe(),
            "health": "unknown",
            "trouble": "",
            "state": None,
            "latency": None,
            "udp": None,
            "udpNames": each.relayNames.known if isinstance(each, ProxyUpstream) else None,
            "pool": _pool(each),
        }
        for each in single
    ]
    if not isinstance(upstream, GroupUpstream):
        return {"policy": None, "proxies": proxies}
    for proxy, member in zip(proxies, upstream.members.all, strict=True):
        proxy["health"] = member.health(now)
        proxy["trouble"] = member.trouble(now)
        proxy["state"] = member.breaker.state.value
        proxy["latency"] = member.latency
        proxy["udp"] = member.datagrams
    return {"policy": upstream.policyName, "proxies": proxies}


def _pool(upstream: IUpstream) -> dict[str, int] | None:
    pool = upstream.pool if isinstance(upstream, ProxyUpstream) else None
    return None if pool is None else {"idle": len(pool.idle), "dialling": len(pool.dialling)}
