"""
Decides where flows go: by the rules, by their owners, and by the routes of marked packets.

What is not known of a flow is looked up only if it could change where the flow goes; then the
rules are asked again.

If another VPN has the default route, the proxy is reached through it.  The VPN's own flows, to a
server that it has routed past itself, are sent past the tunnel: proxied, they would come back.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from copy import copy
from typing import NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.addresses import isAddress, isLocalhost
from nanotun.config.settings import Settings
from nanotun.flow import Decision, Endpoint, Flow, Owner, Verdict
from nanotun.interfaces import IJudge, IOwners, Sniff
from nanotun.policy.reserved import specialOf
from nanotun.policy.routecheck import RouteCheck, canonical
from nanotun.policy.rules import Rules, named
from nanotun.policy.subject import OWNER, Outcome, Subject


def runsLocally(settings: Settings, isLocal: Callable[[str], bool]) -> bool:
    """
    Whether any proxy runs on this machine: at a unix socket, at the loopback or at another
    of its addresses.

    @param isLocal: whether a literal address is one of this machine's.
    """
    return any(
        proxy.socketPath or isLocalhost(proxy.host.lower()) or isLocal(proxy.host.lower())
        for proxy in settings.proxy
        if proxy.host
    )


def rulesFor(
    settings: Settings,
    localProxy: bool,
    ownPid: Callable[[], int] = lambda: 0,
    isConnected: Callable[[str], bool] = lambda host: False,
    inCell: bool = False,
    isBehind: Callable[[str], bool] = lambda host: False,
    isLocal: Callable[[str], bool] = lambda host: False,
) -> Rules:
    """
    The rules of a configuration.

    @param localProxy: from L{runsLocally}.
    @param ownPid: the daemon's process; see L{Rules}.
    @param isConnected: see L{Rules}.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param isBehind: see L{Rules}.
    @param isLocal: see L{Rules}.
    """
    return Rules(
        ownPid=ownPid,
        processes=bool(settings.excludedProcesses),
        localProxy=localProxy,
        dnsOverride=settings.dnsOverride,
        fakes=settings.dnsMode == "fake-ip",
        excludedIPs=settings.excludedIPs,
        lanDirect=settings.lan == "direct",
        lanOnlyPorts=settings.lanOnlyPorts,
        isConnected=isConnected,
        linkDirect=not inCell,
        isBehind=isBehind,
        isLocal=isLocal,
    )


class Carrier(NamedTuple):
    """
    A process that carries another VPN.

    @ivar device: the VPN's.
    """

    owner: Owner
    device: str


Carries: TypeAlias = "Callable[[Flow], Carrier | Deferred[Carrier | None] | None]"


@implementer(IJudge)
class Judge:
    """
    The judge of one configuration.

    @ivar rules: the L{Rules}.
    @ivar carrier: whose flow it is, if it is one of another VPN's own to a server that the VPN
        has routed past itself; asked about flows of this machine.
    @param owners: asked where a rule is about processes; L{None} where no flow's process
        can be found.
    @param isLocal: whether a literal address is one of this machine's.
    @param leadsIn: whether the route of marked packets to a literal address leads into
        the device.  Never raises.
    @param dials: whether a proxy whose URL has a host name is dialled at an endpoint.
    @param ownPid: the daemon's process; see L{Rules}.
    @param isConnected: see L{Rules}.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param passedOn: where proxies on this machine pass connections on to, at the moment.
    @param relatives: the other addresses of some hosts.  Never raises.
    @param originalOf: a flow before the firewall changed it.  Never raises.
    """

    def __init__(
        self,
        settings: Settings,
        owners: IOwners | None,
        isLocal: Callable[[str], bool],
        leadsIn: Callable[[str], bool],
        dials: Callable[[Endpoint], bool] = lambda endpoint: False,
        ownPid: Callable[[], int] = lambda: 0,
        isConnected: Callable[[str], bool] = lambda host: False,
        inCell: bool = False,
        passedOn: Callable[[], frozenset[str]] = frozenset,
        carrier: Carries = lambda flow: None,
        relatives: Callable[[frozenset[str]], Container[str]] = lambda hosts: (),
        originalOf: Callable[[Flow], Flow | None] = lambda flow: None,
    ) -> None:
        localProxy = runsLocally(settings, isLocal)
        hosts = [canonical(proxy.host) for proxy in settings.proxy if isAddress(proxy.host)]
        self._literal = frozenset(each for each in hosts if not isLocal(each))
        # Nobody hides a public address behind one of this machine.
        self._mayHide = any(specialOf(each) is not None for each in self._literal)
        self._passedOn = passedOn
        self._relatives = relatives
        self._originalOf = originalOf
        self.rules = rules = rulesFor(
            settings,
            localProxy,
            ownPid,
            isConnected,
            inCell,
            self._isBehind,
            isLocal,
        )
        self._owners = owners if rules.needsOwner else None
        self._isLocal = isLocal
        self._leadsIn = leadsIn
        self._check = RouteCheck(settings, rules.isFake, leadsIn, dials)
        self.carrier = carrier

    def withOwners(self, owners: IOwners) -> Judge:
        """
        The same judge for an explanation: it asks somebody else about the owners of flows, and
        what it says is not in the log, so it neither counts as said nor is left out.
        """
        other = copy(self)
        other._check = self._check.untold()
        other._owners = owners if self.rules.needsOwner else None
        other.carrier = lambda flow: None
        return other

    def _isBehind(self, host: str) -> bool:
        hosts = self._literal | self._passedOn()
        return host in hosts or host in self._relatives(hosts)

    def judge(self, flow: Flow, sniff: Sniff | None = None) -> Decision | Deferred[Decision]:
        """See L{IJudge.judge}."""
        subject = self.rules.subject(flow)
        decision = self.rules.evaluate(subject).decision
        if decision.verdict is Verdict.PROXY and subject.local and self._mayHide:
            behind = self._hidden(flow)
            if behind is not None:
                return self._check.route(flow, behind)
        return self._next(subject)

    def _hidden(self, flow: Flow) -> Decision | None:
        """
        Decide about a flow of a proxy's own.  The firewall may have given a container's flow
        this machine's address.
        """
        original = self._originalOf(flow)
        if original is None or self._isLocal(original.source.host):
            return None
        subject = self.rules.subject(flow._replace(source=original.source))
        behind = self.rules.evaluate(subject).decision
        return behind if behind.rule == "local-proxy" else None

    def _next(self, subject: Subject) -> Decision | Deferred[Decision]:
        """Find out what is lacking, one after the other, and decide."""
        while True:
            outcome = self.rules.evaluate(subject)
            if not self._wantsOwner(subject, outcome):
                return self._decided(subject, outcome.decision)
            assert self._owners is not None
            subject.asked |= OWNER
            owner = self._owners.ownerOf(subject.flow)
            if isinstance(owner, Deferred):
                return owner.addCallback(self._withOwner, subject)
            subject.owner = owner

    def _withOwner(self, owner: Owner | None, subject: Subject) -> Decision | Deferred[Decision]:
        """Go on when the owner is known."""
        subject.owner = owner
        return self._next(subject)

    def _wantsOwner(self, subject: Subject, outcome: Outcome) -> bool:
        """Whether the flow's owner has to be looked up."""
        if self._owners is None or not subject.local or subject.asked & OWNER:
            return False
        # A reserved address that is routed here would be proxied.
        return bool(outcome.lacks & OWNER) or (
            outcome.decision.rule == "reserved" and self._leadsIn(subject.flow.destination.host)
        )

    def _decided(self, subject: Subject, decision: Decision) -> Decision | Deferred[Decision]:
        """Change a decision where the flow is another VPN's own, or would come back."""
        flow = subject.flow
        decision = self._check.route(flow, decision)
        if (
            decision.verdict is not Verdict.PROXY
            or decision.rule == "reserved-routed"
            or not subject.local
            or subject.place.fake
        ):
            return decision

        def decide(found: Carrier | None) -> Decision:
            if found is None:
                return decision
            reason = (
                f"{named(found.owner)} carries the VPN {found.device}, which routes "
                f"{flow.destination.host} past itself"
            )
            return Decision(Verdict.DIRECT, "vpn", reason, found.owner)

        carrier = self.carrier(flow)
        return carrier.addCallback(decide) if isinstance(carrier, Deferred) else decide(carrier)
