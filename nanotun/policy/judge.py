"""
Decides where flows go: by the rules, by their owners, and by the routes of marked packets.

A flow that is sent past the tunnel leaves by a marked socket.  If the route of marked
packets leads into the device, the flow would come back as a new one.  Then

 - a flow to a reserved address is proxied: somebody has routed that address into the
   tunnel by hand, and wants it to go through the proxy;
 - every other flow is refused, and one log line says how to cure it.

The same holds for the proxy itself: if the route to it leads into the device, no flow
can leave, and each attempt comes back.

If another VPN has the default route, the proxy is reached through it.  The VPN's own flows, to a
server that it has routed past itself, are sent past the tunnel: proxied, they would come back.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from copy import copy
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK, isAddress, isLocalhost
from nanotun.config.settings import Settings
from nanotun.flow import Decision, Endpoint, Flow, Owner, Verdict
from nanotun.interfaces import IJudge, IOwners
from nanotun.policy.reserved import specialOf
from nanotun.policy.rules import Rules, named

#: The cure for packets that come back.
CURE = (
    f"give packets marked {SOCKET_MARK:#x} a route of their own, as autoDefaultRoute does, or "
    f"'ip rule add fwmark {SOCKET_MARK:#x} lookup main' where main knows one"
)


def _canonical(host: str) -> str:
    """An address in the form that flows have; other hosts unchanged."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, host))
    except (OSError, ValueError):
        return host


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
) -> Rules:
    """
    The rules of a configuration.

    @param localProxy: from L{runsLocally}.
    @param ownPid: the daemon's process; see L{Rules}.
    @param isConnected: see L{Rules}.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param isBehind: see L{Rules}.
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
        hosts = [_canonical(proxy.host) for proxy in settings.proxy if isAddress(proxy.host)]
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
        )
        self._owners = owners if rules.needsOwner else None
        self._isLocal = isLocal
        self._leadsIn = leadsIn
        self.carrier = carrier
        self._device = settings.tunName
        self._proxies = {
            Endpoint(_canonical(proxy.host), proxy.port): proxy for proxy in settings.proxy
        }
        self._ports = {proxy.port for proxy in settings.proxy}
        self._dials = dials
        #: The sentences about lanOnlyPorts that were given out; at most two for each port.
        self._told: set[str] = set()
        # With direct:// alone, proxied flows too are dialled at the destination itself.
        dialled = [proxy.scheme.dialsDestination for proxy in settings.proxy]
        self._noProxy = all(dialled)
        # What the relay asks itself.
        direct = settings.dnsVia == "direct" or any(dialled)
        self._servers = frozenset(settings.dns if direct else ())

    def withOwners(self, owners: IOwners) -> Judge:
        """
        The same judge for an explanation: it asks somebody else about the owners of flows, and
        what it says is not in the log, so it neither counts as said nor is left out.
        """
        other = copy(self)
        other._told = set()
        other._owners = owners if self.rules.needsOwner else None
        other.carrier = lambda flow: None
        return other

    def _isBehind(self, host: str) -> bool:
        hosts = self._literal | self._passedOn()
        return host in hosts or host in self._relatives(hosts)

    def judge(self, flow: Flow) -> Decision | Deferred[Decision]:
        """See L{IJudge.judge}."""
        decided = self._judge(flow)
        if isinstance(decided, Deferred):
            return decided.addCallback(lambda decision: self._pastVpn(flow, decision))
        return self._pastVpn(flow, decided)

    def _pastVpn(self, flow: Flow, decision: Decision) -> Decision | Deferred[Decision]:
        """Change a decision if its flow is another VPN's own."""
        if decision.rule != "proxy" or not self._isLocal(flow.source.host):
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

    def _judge(self, flow: Flow) -> Decision | Deferred[Decision]:
        """Decide by the rules, by owners, and by the routes."""
        decision = self.rules.decide(flow, self._isLocal)
        if decision.verdict is Verdict.PROXY and self._mayHide:
            # The firewall may have given a container's flow this machine's address.
            original = self._originalOf(flow)
            if original is not None and not self._isLocal(original.source.host):
                behind = self.rules.decide(flow._replace(source=original.source), self._isLocal)
                if behind.rule == "local-proxy":
                    return self._route(flow, behind)
        # It would be proxied, so ask first whether its process is excluded.
        routed = decision.rule == "reserved" and self._leadsIn(flow.destination.host)
        if (
            self._owners is None
            or not (routed or self.rules.ownerMatters(decision))
            or not self._isLocal(flow.source.host)
        ):
            return self._route(flow, decision)
        owner = self._owners.ownerOf(flow)
        if isinstance(owner, Deferred):
            return owner.addCallback(lambda found: self._decide(flow, decision, found))
        return self._decide(flow, decision, owner)

    def _decide(self, flow: Flow, decision: Decision, owner: Owner | None) -> Decision:
        """
        Decide by the flow's owner, if it is known.

        @param decision: about a flow whose owner is unknown.
        """
        if owner is not None:
            decision = self.rules.decide(flow, self._isLocal, owner)
        return self._route(flow, decision)

    def _route(self, flow: Flow, decision: Decision) -> Decision:
        """Change a decision if its flow would come back as a new one."""
        if decision.rule == "lan-only-port" and decision.trouble:
            return self._once(decision)
        rules = self.rules
        host = flow.destination.host
        verdict = decision.verdict
        if verdict is Verdict.DIRECT:
            # A fake address is never dialled; the name's own address is found later.
            if not rules.isFake(host) and self._leadsIn(host):
                return self._noWay(decision, flow.destination)
        elif verdict is Verdict.PROXY:
            mayLoop = self._noProxy or self._proxyAt(flow.destination)
            if mayLoop and not rules.isFake(host) and self._leadsIn(host):
                return self._noWay(decision, flow.destination)
        elif decision.rule == "loop":
            return self._loop(decision, f"nanotun's own connections come back by {self._device}")
        elif decision.rule == "dns-override" and flow.destination in self._servers:
            # Perhaps the relay's own query.
            if self._leadsIn(host):
                return self._loop(
                    decision, f"the route to the DNS server {host} leads into {self._device} itself"
                )
        return decision

    def _once(self, decision: Decision) -> Decision:
        """
        The decision without its trouble if that was given out before.  A program that tries
        again for ever should not fill the log with what is meant to be so.
        """
        if decision.trouble in self._told:
            return decision._replace(trouble="")
        self._told.add(decision.trouble)
        return decision

    def _noWay(self, decision: Decision, destination: Endpoint) -> Decision:
        """Decide about a flow that would come back if it were dialled at its destination."""
        proxy = self._proxyAt(destination)
        if proxy:
            what = f"the route to the proxy {proxy} leads into {self._device} itself"
            return self._loop(decision, what)
        again = f"the route past the tunnel leads into {self._device} again"
        if decision.rule == "reserved" and not self._noProxy:
            reason = f"{decision.reason}, but {again}"
            return Decision(Verdict.PROXY, "reserved-routed", reason, decision.owner)
        cause = "there is no proxy" if self._noProxy else self._cause(decision)
        return Decision(
            Verdict.REJECT,
            "no-way",
            f"{cause}, and {again}",
            decision.owner,
            f"Flows past the tunnel are refused ({cause}), as {again}; {CURE}.",
        )

    def _proxyAt(self, destination: Endpoint) -> str:
        """The proxy that is dialled at a destination, for a sentence; empty for none."""
        if destination.port not in self._ports:
            return ""
        proxy = self._proxies.get(destination)
        if proxy is not None:
            return str(proxy)
        return f"at {destination}" if self._dials(destination) else ""

    def _loop(self, decision: Decision, what: str) -> Decision:
        trouble = f"{what[0].upper()}{what[1:]}, and its flows are refused; {CURE}."
        return Decision(Verdict.REJECT, "loop", what, decision.owner, trouble)

    def _cause(self, decision: Decision) -> str:
        """The decision's reason without the pid, so that one log line covers all such flows."""
        owner = decision.owner
        if owner is None or decision.rule not in ("excluded-process", "local-proxy"):
            return decision.reason
        return decision.reason.replace(named(owner), owner.name or named(owner))
