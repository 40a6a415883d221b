"""
The rules, in the order in which they are asked, and what each of them decides.

L{RULES} has the order; docs/rules.md explains the rules to users.  It is expensive to find
a flow's owner, and only some rules look at it.  So what is not known of a flow is a value of
its own (L{nanotun.policy.subject}), and the rules say whether it could change where the flow
goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from nanotun.addresses import (
    DNS_PORT,
    LINK_LOCAL6,
    LOCAL_NETWORKS,
    SPECIALS,
    Reach,
    isFake,
    mayDial,
)
from nanotun.config.networks import Network
from nanotun.config.upstreamentries import PROXY
from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.interfaces import IScript
from nanotun.policy.decisions import decisionTo, nameOf
from nanotun.policy.networkmap import NetworkMap
from nanotun.policy.ruletable import DESTINATIONS, AskedRule, RuleTable
from nanotun.policy.subject import (
    NAME,
    OWNER,
    SCRIPT,
    Doubt,
    Outcome,
    Subject,
    lacking,
    named,
    placeOf,
)

#: The value of L{Owner.excluded} for the process of a proxy on this machine.
LOCAL_PROXY = "local proxy"

#: The rules' names, in order, and the flows that each is about.
RULES = {
    "gateway": "the gateway's addresses",
    "no-host": "multicast, broadcast and other addresses that no host has",
    "host-only": "the loopback and other addresses that never leave a host",
    "forwarded": "other machines' flows to addresses of this machine or its link",
    "loop": "nanotun's own flows that came back",
    "local-proxy": "the proxy's own flows, where it runs on this machine or behind it",
    "script": "what the script is asked about and answers",
    "#1": "rules, each by its number",
    "excluded-process": "excludedProcesses",
    "excluded-ip": "excludedIPs",
    "dns-override": "DNS queries of this machine under dnsOverride",
    "lan-only-port": "lanOnlyPorts",
    "link-local": "link-local addresses",
    "reserved": "private and other reserved addresses",
    "default": "all other flows",
}

#: What becomes of a decision where routes lead into the tunnel; L{nanotun.policy.judge}.
OUTCOMES = {
    "reserved-routed": "reserved addresses that somebody has routed into the tunnel",
    "no-way": "flows past the tunnel whose route leads into it",
    "loop": "flows that would come back for ever",
    "vpn": "another VPN's own packets",
    "not-allowed": "flows that a script sends past the proxy of C{nanotun run}",
}

_SERVED = Decision(Verdict.SERVE, "gateway", "the address is the gateway's")
_GATEWAY = Decision(
    Verdict.DROP, "gateway", "the address is the gateway's, and no service of it has this port"
)
_NOWHERE = Decision(Verdict.DROP, "no-host", "the address cannot be one host's")
_LINK = {
    special: Decision(Verdict.DIRECT, "link-local", f"{special} is never proxied")
    for special in SPECIALS
    if special.reach is Reach.LINK
}
_LINK_CLOSED = {
    special: Decision(
        Verdict.REJECT,
        "link-local",
        f"{special} is this machine's own link, which a command of 'nanotun run' does not reach",
    )
    for special in _LINK
}
_RESERVED = {
    lan: {
        special: decisionTo(lan, "reserved", f"{special} is not on the Internet, and lan is {lan}")
        for special in SPECIALS
        if special.reach is Reach.SITE
    }
    for lan in ("direct", "proxy")
}
#: Where the ports of lanOnlyPorts may lead without a look at the interfaces.
_LOCAL = NetworkMap(
    (network, network) for network in (*LOCAL_NETWORKS[4], *LOCAL_NETWORKS[6], LINK_LOCAL6)
)
_OVERRIDE = Decision(
    Verdict.SERVE, "dns-override", "dnsOverride has the relay answer this machine's DNS queries"
)


#: What a flow's process could be: excluded, or a proxy on this machine.
_PASSED = Doubt(frozenset(("direct",)), OWNER)


class Rules:
    """
    All rules of one configuration.

    @ivar usesNames: whether any rule or the script is about the names of destinations.
    @ivar table: the user's rules; L{None} if there are none.
    @ivar neverCertain: whether any flow that leaves may be decided by what a script answers.
    @param ownPid: this process's number, or 0 for no process at all.  Its own flows must
        not come back.  Asked at need, because twistd forks after the rules are made.
    @param processes: whether processes are excluded; L{Owner.excluded} says whether an
        owner is one of them.
    @param localProxy: whether the proxy runs on this machine.
    @param dnsOverride: whether the relay answers DNS queries to any server.
    @param fakes: whether there are fake addresses.
    @param excludedIPs: networks that go past the proxy.
    @param lan: where private addresses go, C{"direct"} or C{"proxy"}.
    @param lanOnlyPorts: what is for local networks only, by protocol and port.
    @param isConnected: whether a literal address belongs to a network that is connected to
        this machine.  Never raises.
    @param linkDirect: whether link-local addresses go past the proxy; otherwise they are
        refused.
    @param isBehind: whether a literal address is that of a proxy, or of a proxy's next hop.
        Asked about other machines only.  Never raises.
    @param isLocal: whether a literal address is one of this machine's.
    @param script: whose answer comes before those; L{None} for none.
    @param default: where all other flows go.
    """

    def __init__(
        self,
        ownPid: Callable[[], int] = lambda: 0,
        processes: bool = False,
        localProxy: bool = False,
        dnsOverride: bool = False,
        fakes: bool = False,
        excludedIPs: Iterable[Network] = (),
        lan: str = "direct",
        lanOnlyPorts: frozenset[tuple[Protocol, int]] = frozenset(),
        isConnected: Callable[[str], bool] = lambda host: False,
        linkDirect: bool = True,
        isBehind: Callable[[str], bool] = lambda host: False,
        isLocal: Callable[[str], bool] = lambda host: False,
        table: RuleTable | None = None,
        script: IScript | None = None,
        default: str = PROXY,
    ) -> None:
        self.table = table if table is not None and len(table) else None
        self._asksScript = self.neverCertain = script is not None and bool(script.decides)
        self._everyOwner = script is not None and bool(script.needsProcess)
        self._processes = processes
        self._localProxy = localProxy
        self._byName = self.table is not None and self.table.usesNames
        self.usesNames = self._byName or script is not None
        self._ownPid = ownPid
        self._dnsOverride = dnsOverride
        self._fakes = fakes
        self._excluded = NetworkMap((network, network) for network in excludedIPs)
        link = _LINK if linkDirect else _LINK_CLOSED
        # By default everything is proxied, so that lan: proxy makes no difference.
        self._specials = link if lan == default == PROXY else {**link, **_RESERVED[lan]}
        reason = f"no other rule applies, and default is {default}"
        self._default = decisionTo(default, "default", reason)
        self._lanOnlyPorts = lanOnlyPorts
        self._isConnected = isConnected
        self._isBehind = isBehind
        self._isLocal = isLocal
        self._fixed = lru_cache(maxsize=DESTINATIONS)(self._find)

    def isFake(self, host: str) -> bool:
        """Whether a host is a fake address, which no real host has."""
        return self._fakes and isFake(host)

    def subject(self, flow: Flow, local: bool | None = None) -> Subject:
        """
        A flow of which nothing is known yet but its ends.

        @param local: whether it is this machine's own; L{None} to find out.
        """
        if local is None:
            local = self._isLocal(flow.source.host)
        return Subject(flow, local, placeOf(flow.destination.host, self._fakes))

    def evaluate(self, subject: Subject) -> Outcome:
        """Ask the rules in their order."""
        if subject.owner is not None or not (subject.local and subject.place.ordinary):
            early = self._early(subject)
            if early is not None:
                return early, 0
        answer = subject.answer
        doubts: list[Doubt] = []
        lacks = 0
        if subject.owner is None and subject.local and not subject.asked & OWNER:
            if self._everyOwner:
                lacks |= OWNER
            if self._localProxy:
                doubts.append(_PASSED)
        if answer is None:
            if self._asksScript:
                for doubt in doubts:
                    lacks |= doubt.lacks
                lacks |= SCRIPT if subject.name is not None else SCRIPT | NAME
                # It will be asked before anything below is.
                return self._byDestination(subject), lacks
        elif answer.to:
            decision = decisionTo(answer.to, "script", answer.reason, values=answer.values)
            return decision, lacks | lacking(doubts, decision)
        if self._byName and (len(subject.names) > 1 or not subject.whole):
            decision, others = self._byNames(subject, doubts)
        else:
            decision = self._byRules(subject, doubts)
            others = lacking(doubts, decision)
        return decision, lacks | others

    def certain(self, subject: Subject) -> Decision | None:
        """
        As L{evaluate}, for flows of which no more is known than is.

        @return: L{None} if any rule before the one that decides could hold if more were known,
            wherever it would send them.
        """
        early = self._early(subject)
        if early is not None:
            return early
        looks = subject.local and not subject.asked & OWNER
        if self.neverCertain or (looks and (self._everyOwner or self._localProxy)):
            return None
        doubts: list[Doubt] = []
        decision = self._byRules(subject, doubts)
        return None if doubts else decision

    def trace(self, subject: Subject) -> list[AskedRule]:
        """What the user's rules say of a flow, for an explanation; nothing if none is asked."""
        if self.table is None or self._early(subject) is not None:
            return []
        return self.table.trace(subject)

    def _early(self, subject: Subject) -> Decision | None:
        """
        Ask the rules that come before the script and the user's.  None of them is about this
        machine's flows to ordinary destinations, if their owner is not known.
        """
        barred = self._barred(subject)
        if barred is not None:
            return barred
        if subject.owner is not None:
            return self._byOwner(subject.owner)
        if not subject.local and self._isBehind(subject.flow.source.host):
            reason = f"{subject.flow.source.host} is the proxy's own address"
            return Decision(Verdict.DIRECT, "local-proxy", reason)
        return None

    def _byNames(self, subject: Subject, doubts: list[Doubt]) -> tuple[Decision, int]:
        """Ask the rules about a flow whose destination may have several names."""
        found = []
        lacks = 0
        for name in subject.names if subject.whole else ():
            subject.name = name
            inDoubt = doubts.copy()
            decision = self._byRules(subject, inDoubt)
            lacks |= lacking(inDoubt, decision)
            found.append(decision)
        if found and len(set(map(nameOf, found))) == 1:
            subject.name = subject.names[0]
            return found[0], lacks
        subject.name = None
        decision = self._byRules(subject, doubts)
        return decision, lacks | lacking(doubts, decision) | NAME

    def _byRules(self, subject: Subject, doubts: list[Doubt]) -> Decision:
        """
        Ask the user's rules, and those that follow.

        @param doubts: gets what could decide before, if more were known.
        """
        if self.table is not None:
            decision = self.table.decide(subject, doubts)
            if decision is not None:
                return decision
        owner = subject.owner
        if owner is not None:
            if owner.excluded:
                reason = f"{named(owner)} is excluded by {owner.excluded}"
                return Decision(Verdict.DIRECT, "excluded-process", reason)
        elif self._processes and subject.local and not subject.asked & OWNER:
            doubts.append(_PASSED)
        return self._byDestination(subject)

    def _barred(self, subject: Subject) -> Decision | None:
        """Ask the rules that hold for every process."""
        flow, place = subject.flow, subject.place
        if place.ordinary and subject.local:
            return None
        if place.gateway:
            return _SERVED if flow.protocol is Protocol.TCP else _GATEWAY
        if not place.unicast:
            return _NOWHERE
        if place.fake:
            return None
        special = place.special
        if special is not None and special.reach is Reach.HOST:
            return Decision(Verdict.REJECT, "host-only", f"{special} never leaves a host")
        host = flow.destination.host
        if not subject.local and (not mayDial(host) or self._isLocal(host)):
            reason = (
                f"{flow.source.host} is another machine's, and its flows may not reach what "
                "belongs to this machine or its links"
            )
            return Decision(Verdict.REJECT, "forwarded", reason)
        return None

    def _byOwner(self, owner: Owner) -> Decision | None:
        """Ask the rules about our own processes and the proxy's."""
        if owner.pid and owner.pid == self._ownPid():
            reason = "it is nanotun's own connection, which came back into the tunnel"
            return Decision(Verdict.REJECT, "loop", reason)
        if owner.excluded == LOCAL_PROXY:
            reason = f"{named(owner)} is the proxy on this machine"
            return Decision(Verdict.DIRECT, "local-proxy", reason)
        return None

    def _byDestination(self, subject: Subject) -> Decision:
        """Ask the rules about destinations."""
        flow = subject.flow
        return self._fixed(flow.protocol, flow.destination, subject.local) or _lanOnly(
            subject, self._isConnected
        )

    def _find(self, protocol: Protocol, destination: Endpoint, local: bool) -> Decision | None:
        """
        Ask the rules about destinations that say the same each time.

        @param local: whether the flow is this machine's own.
        @return: L{None} for one of lanOnlyPorts, since networks come and go.
        """
        host, port = destination
        place = placeOf(host, self._fakes)
        # A name's fake address says nothing about the networks that the name leads to.
        network = None if place.fake else self._excluded.find(host)
        if network is not None:
            reason = f"{network} is one of excludedIPs"
            return Decision(Verdict.DIRECT, "excluded-ip", reason)
        if self._dnsOverride and local and port == DNS_PORT and protocol is Protocol.UDP:
            return _OVERRIDE
        if (protocol, port) in self._lanOnlyPorts:
            return None
        if place.special is None:
            return self._default
        return self._specials.get(place.special, self._default)


def _lanOnly(subject: Subject, isConnected: Callable[[str], bool]) -> Decision:
    """Decide about a flow to one of lanOnlyPorts."""
    host = subject.flow.destination.host
    port = f"{subject.flow.protocol.name} port {subject.flow.destination.port}"
    reason = f"{port} is one of lanOnlyPorts"
    if subject.place.fake:
        reason += f", and {host} stands for a name, which may lead anywhere"
        trouble = (
            f"Flows to {port} of names are refused, because lanOnlyPorts keeps that port to "
            "local networks and fake-ip cannot tell where a name leads; put local domains "
            "into fakeIpExclude, or set lanOnlyPorts: [] to send such flows through the proxy."
        )
        return Decision(Verdict.REJECT, "lan-only-port", reason, trouble=trouble)
    if _LOCAL.find(host) is not None or isConnected(host):
        return Decision(Verdict.DIRECT, "lan-only-port", reason)
    reason += f", and {host} is not on a local network"
    trouble = (
        f"Flows to {port} of Internet hosts are refused, because lanOnlyPorts keeps that port "
        "to local networks; with lanOnlyPorts: [] they would go through the proxy."
    )
    return Decision(Verdict.REJECT, "lan-only-port", reason, trouble=trouble)
