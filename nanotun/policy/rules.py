"""
The rules, in the order in which they are asked, and what each of them decides.

L{RULES} has the order; docs/rules.md explains the rules to users.  It is expensive to find
a flow's owner, and only some rules look at it.  So what is not known of a flow is a value of
its own (L{nanotun.policy.subject}), and the rules say whether it could change where the flow
goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
from nanotun.flow import Decision, Flow, Owner, Protocol, Verdict
from nanotun.policy.networkmap import NetworkMap
from nanotun.policy.subject import OWNER, Outcome, Subject, placeOf

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
    "excluded-process": "excludedProcesses",
    "excluded-ip": "excludedIPs",
    "dns-override": "DNS queries of this machine under dnsOverride",
    "lan-only-port": "lanOnlyPorts",
    "link-local": "link-local addresses",
    "reserved": "private and other reserved addresses under lan: direct",
    "default": "all other flows",
}

#: What becomes of a decision where routes lead into the tunnel; L{nanotun.policy.judge}.
OUTCOMES = {
    "reserved-routed": "reserved addresses that somebody has routed into the tunnel",
    "no-way": "flows past the tunnel whose route leads into it",
    "loop": "flows that would come back for ever",
    "vpn": "another VPN's own packets",
}

_DEFAULT = Decision(Verdict.PROXY, "default", "no other rule applies")
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
    special: Decision(
        Verdict.DIRECT, "reserved", f"{special} is not on the Internet, and lan is direct"
    )
    for special in SPECIALS
    if special.reach is Reach.SITE
}
#: Where the ports of lanOnlyPorts may lead without a look at the interfaces.
_LOCAL = NetworkMap(
    (network, network) for network in (*LOCAL_NETWORKS[4], *LOCAL_NETWORKS[6], LINK_LOCAL6)
)
_OVERRIDE = Decision(
    Verdict.SERVE, "dns-override", "dnsOverride has the relay answer this machine's DNS queries"
)


class Rules:
    """
    All rules of one configuration.

    @ivar needsOwner: whether any rule is about flows' owners.
    @param ownPid: this process's number, or 0 for no process at all.  Its own flows must
        not come back.  Asked at need, because twistd forks after the rules are made.
    @param processes: whether processes are excluded; L{Owner.excluded} says whether an
        owner is one of them.
    @param localProxy: whether the proxy runs on this machine.
    @param dnsOverride: whether the relay answers DNS queries to any server.
    @param fakes: whether there are fake addresses.
    @param excludedIPs: networks that go past the proxy.
    @param lanDirect: whether private addresses go past the proxy.
    @param lanOnlyPorts: what is for local networks only, by protocol and port.
    @param isConnected: whether a literal address belongs to a network that is connected to
        this machine.  Never raises.
    @param linkDirect: whether link-local addresses go past the proxy; otherwise they are
        refused.
    @param isBehind: whether a literal address is that of a proxy, or of a proxy's next hop.
        Asked about other machines only.  Never raises.
    @param isLocal: whether a literal address is one of this machine's.
    """

    def __init__(
        self,
        ownPid: Callable[[], int] = lambda: 0,
        processes: bool = False,
        localProxy: bool = False,
        dnsOverride: bool = False,
        fakes: bool = False,
        excludedIPs: Iterable[Network] = (),
        lanDirect: bool = True,
        lanOnlyPorts: frozenset[tuple[Protocol, int]] = frozenset(),
        isConnected: Callable[[str], bool] = lambda host: False,
        linkDirect: bool = True,
        isBehind: Callable[[str], bool] = lambda host: False,
        isLocal: Callable[[str], bool] = lambda host: False,
    ) -> None:
        self.needsOwner = processes or localProxy
        self._ownPid = ownPid
        self._dnsOverride = dnsOverride
        self._fakes = fakes
        self._excluded = NetworkMap((network, network) for network in excludedIPs)
        link = _LINK if linkDirect else _LINK_CLOSED
        self._specials = {**link, **_RESERVED} if lanDirect else link
        self._lanOnlyPorts = lanOnlyPorts
        self._isConnected = isConnected
        self._isBehind = isBehind
        self._isLocal = isLocal

    def isFake(self, host: str) -> bool:
        """Whether a host is a fake address, which no real host has."""
        return self._fakes and isFake(host)

    def subject(self, flow: Flow) -> Subject:
        """A flow of which nothing is known yet but its ends."""
        place = placeOf(flow.destination.host, self._fakes)
        return Subject(flow, self._isLocal(flow.source.host), place)

    def evaluate(self, subject: Subject) -> Outcome:
        """Ask the rules in their order."""
        barred = self._barred(subject)
        owner = subject.owner
        if barred is not None:
            return Outcome(barred if owner is None else barred._replace(owner=owner))
        if not subject.local and self._isBehind(subject.flow.source.host):
            reason = f"{subject.flow.source.host} is the proxy's own address"
            return Outcome(Decision(Verdict.DIRECT, "local-proxy", reason))
        if owner is not None:
            decision = self._byOwner(owner) or self._byDestination(subject)
            return Outcome(decision._replace(owner=owner))
        decision = self._byDestination(subject)
        # A flow that goes direct does so whoever sends it, but for our own.
        matters = self.needsOwner and subject.local and decision.verdict is not Verdict.DIRECT
        return Outcome(decision, OWNER if matters else 0)

    def _barred(self, subject: Subject) -> Decision | None:
        """Ask the rules that hold for every process."""
        flow, place = subject.flow, subject.place
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
        """Ask the rules about processes, which hold for every destination."""
        if owner.pid and owner.pid == self._ownPid():
            reason = "it is nanotun's own connection, which came back into the tunnel"
            return Decision(Verdict.REJECT, "loop", reason)
        if owner.excluded == LOCAL_PROXY:
            reason = f"{named(owner)} is the proxy on this machine"
            return Decision(Verdict.DIRECT, "local-proxy", reason)
        if owner.excluded:
            reason = f"{named(owner)} is excluded by {owner.excluded}"
            return Decision(Verdict.DIRECT, "excluded-process", reason)
        return None

    def _byDestination(self, subject: Subject) -> Decision:
        """Ask the rules about destinations."""
        protocol, (host, port) = subject.flow.protocol, subject.flow.destination
        fake, special = subject.place.fake, subject.place.special
        # A name's fake address says nothing about the networks that the name leads to.
        network = None if fake else self._excluded.find(host)
        if network is not None:
            reason = f"{network} is one of excludedIPs"
            return Decision(Verdict.DIRECT, "excluded-ip", reason)
        if self._dnsOverride and subject.local and port == DNS_PORT and protocol is Protocol.UDP:
            return _OVERRIDE
        if (protocol, port) in self._lanOnlyPorts:
            return self._lanOnly(f"{protocol.name} port {port}", host, fake)
        return _DEFAULT if special is None else self._specials.get(special, _DEFAULT)

    def _lanOnly(self, port: str, host: str, fake: bool) -> Decision:
        """
        Decide about a flow to one of lanOnlyPorts.

        @param port: the protocol and the port, for sentences.
        """
        reason = f"{port} is one of lanOnlyPorts"
        if fake:
            reason += f", and {host} stands for a name, which may lead anywhere"
            trouble = (
                f"Flows to {port} of names are refused, because lanOnlyPorts keeps that port to "
                "local networks and fake-ip cannot tell where a name leads; put local domains "
                "into fakeIpExclude, or set lanOnlyPorts: [] to send such flows through the proxy."
            )
            return Decision(Verdict.REJECT, "lan-only-port", reason, trouble=trouble)
        if _LOCAL.find(host) is not None or self._isConnected(host):
            return Decision(Verdict.DIRECT, "lan-only-port", reason)
        reason += f", and {host} is not on a local network"
        trouble = (
            f"Flows to {port} of Internet hosts are refused, because lanOnlyPorts keeps that port "
            "to local networks; with lanOnlyPorts: [] they would go through the proxy."
        )
        return Decision(Verdict.REJECT, "lan-only-port", reason, trouble=trouble)


def named(owner: Owner) -> str:
    """An owner's name, for a sentence."""
    if owner.name:
        return f"{owner.name} (pid {owner.pid})" if owner.pid else owner.name
    return f"pid {owner.pid}" if owner.pid else f"uid {owner.uid}"
