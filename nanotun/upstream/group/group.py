"""
Several upstreams as one, and the report on the health of each.

Each flow uses the first upstream in the policy's order that opens its leg; see
L{nanotun.upstream.group.tries}.  Open flows keep their sockets, even if the upstream that
opened them goes down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialPlan,
    INamedDatagrams,
    IPlanned,
    IUpstream,
)
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.dials import MemberCourses, MemberDials, planOf
from nanotun.upstream.group.health import Watch
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.members import Members
from nanotun.upstream.group.outcomes import (
    DatagramOutcomes,
    IOutcomes,
    ProgramOutcomes,
    StreamOutcomes,
)
from nanotun.upstream.group.policies import POLICIES, STEADY
from nanotun.upstream.group.tries import Tries, patience
from nanotun.upstream.proxy import ProxyUpstream

#: How many upstreams one connection may try.
TRIES = 2

#: From a member to the upstream that is asked in its name.
Own = Callable[[Member], IUpstream]


def common(member: Member) -> IUpstream:
    """The member's own upstream."""
    return member.upstream


@implementer(IUpstream, INamedDatagrams, IPlanned)
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
    @param changed: called when a member goes down or comes back, so that no plan stands any
        more.
    @param settle: see L{nanotun.interfaces.UpstreamContext}.
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
        changed: Callable[[], None] = lambda: None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.sharesLegs = any(upstream.sharesLegs for upstream in upstreams)
        self.sendsNames = any(upstream.sendsNames for upstream in upstreams)
        self.carriesDatagrams = any(upstream.carriesDatagrams for upstream in upstreams)
        self.logFlows = logFlows
        self._policy = policy
        self._clock = clock
        self._timeout = timeout
        self._tellChange = changed
        self.members = Members(
            upstreams, POLICIES[policy](chance), clock, chance, trouble, self._changed, settle
        )
        self._watches = {
            member: Watch(member, self.members, clock, interval, timeout, chance, self._probes)
            for member in self.members.all
        }
        self._streams = StreamOutcomes(self.members, clock, self.doubt)
        self._datagrams = DatagramOutcomes(self.members, self.doubt)
        self._alone = MemberCourses(timeout, 0.0)
        self._followed = MemberCourses(timeout, patience(timeout))

    @property
    def policyName(self) -> str | None:
        """The policy's name; L{None} if there is nothing to choose."""
        return self._policy

    def connect(self, destination: Endpoint, own: Own = common) -> Deferred[Connection]:
        """
        See L{IUpstream.connect}.

        @param own: see L{Own}; as for L{associate}, L{associateNamed} and L{plan}.
        """
        tries = self._tries(self.members.order()[:TRIES], destination, own)
        tries.askNext()
        return tries.deferred

    def plan(self, destination: Endpoint, own: Own = common) -> DialPlan | None:
        """
        See L{IPlanned.plan}.  It is the first member's plan.  If that fails or is silent, the
        tries go on as if L{connect} had asked it.  It stands only if every flow would have the
        same members to try: by L{STEADY} policies, and not while the first is down, as then its
        back-off is what counts.
        """
        order = self.members.order()
        candidates = order[:TRIES]
        first = candidates[0]
        upstream = own(first)
        plan = planOf(upstream, destination)
        if plan is None:
            self.members.giveBack(order)
            return None
        self._logConnection(destination, upstream)

        def follow(dial: Deferred[Connection], seconds: float) -> Deferred[Connection]:
            tries = self._tries(candidates, destination, own)
            tries.goOn(dial, seconds)
            return tries.deferred

        dials = MemberDials(plan.outcomes, first, self._outcomes(own), follow)
        # Whatever is logged for each flow has to be asked for by each.
        same = self._policy in STEADY and first.healthy and own is common and not self.logFlows
        standing = plan.standing and same
        hasNext = len(candidates) > 1 and candidates[1].healthy
        course = (self._followed if hasNext else self._alone).of(plan.course)
        return DialPlan(course, plan.request, dials, plan.fd, plan.first, standing)

    def associate(self, family: int, own: Own = common) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""

        def ask(member: Member) -> Deferred[DatagramLeg]:
            upstream = own(member)
            self._logAssociation(upstream)
            return upstream.associate(family)

        return self._tryDatagrams(ask).addErrback(self._noDatagrams)

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

        return self._tryDatagrams(ask).addErrback(failed)

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

    def _tries(self, candidates: Sequence[Member], destination: Endpoint, own: Own) -> Tries:
        ask = partial(self._ask, destination, own)
        outcomes = self._outcomes(own)
        return Tries(candidates, ask, self._clock, self._timeout, outcomes, str(destination))

    def _ask(self, destination: Endpoint, own: Own, member: Member) -> Deferred[Connection]:
        upstream = own(member)
        self._logConnection(destination, upstream)
        return upstream.connect(destination)

    def _tryDatagrams(
        self, ask: Callable[[Member], Deferred[DatagramLeg]]
    ) -> Deferred[DatagramLeg]:
        order = self.members.datagramOrder()
        tries = Tries(order, ask, self._clock, self._timeout, self._datagrams)
        tries.askNext()
        return tries.deferred

    def _changed(self, member: Member) -> None:
        self._watches[member].changed()
        self._tellChange()

    def _logConnection(self, destination: Endpoint, upstream: IUpstream) -> None:
        if self.logFlows:
            self._log.debug(
                "A connection to {destination} goes through {upstream}",
                destination=destination,
                upstream=upstream.describe(),
            )

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
