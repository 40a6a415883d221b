"""
Decides where flows go: the rules, whose flow it is, and whether there is a way.

What is decided to go past the tunnel leaves by a marked socket.  Where the route of
marked packets leads into the device again, it would come back as a new flow:

 - a reserved address is proxied then: somebody has routed it here by hand, and wants it
   to go through the proxy;
 - everything else is refused, with one line about the cure.

The same goes for the proxy itself: where the way to it leads into the device no flow
can get out, and each that tries comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK, isLocalhost
from nanotun.config.settings import Settings
from nanotun.flow import Decision, Endpoint, Flow, Verdict
from nanotun.interfaces import IJudge, IOwners
from nanotun.policy.rules import Rules, named

#: What to do where packets come back.
CURE = (
    f"give packets marked {SOCKET_MARK:#x} a way of their own, as autoDefaultRoute does, or "
    f"'ip rule add fwmark {SOCKET_MARK:#x} lookup main' where main knows one"
)


def _canonical(host: str) -> str:
    """An address as flows have it; anything else as it is."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, host))
    except (OSError, ValueError):
        return host


def runsLocally(settings: Settings, isLocal: Callable[[str], bool]) -> bool:
    """
    Whether a proxy runs on this machine: behind a unix socket, the loopback or any
    other address of it.

    @param isLocal: whether a literal address is one of this machine's.
    """
    return any(
        host.startswith("/") or isLocalhost(host) or isLocal(host)
        for host in (proxy.host.lower() for proxy in settings.proxy)
        if host
    )


def rulesFor(settings: Settings, localProxy: bool, ownPid: Callable[[], int] = lambda: 0) -> Rules:
    """
    The rules of a configuration.

    @param localProxy: from L{runsLocally}.
    @param ownPid: the daemon's process; see L{Rules}.
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
    )


@implementer(IJudge)
class Judge:
    """
    The judge of one configuration.

    @ivar rules: the L{Rules}.
    @param owners: asked where the rules need it; L{None} for nobody's.
    @param isLocal: whether a literal address is one of this machine's.
    @param leadsIn: whether the route of marked packets to a literal address leads into
        the device.  Never raises.
    @param dials: whether an endpoint is a proxy's whose URL has a name.
    @param ownPid: the daemon's process; see L{Rules}.
    """

    def __init__(
        self,
        settings: Settings,
        owners: IOwners | None,
        isLocal: Callable[[str], bool],
        leadsIn: Callable[[str], bool],
        dials: Callable[[Endpoint], bool] = lambda endpoint: False,
        ownPid: Callable[[], int] = lambda: 0,
    ) -> None:
        self.rules = rules = rulesFor(settings, runsLocally(settings, isLocal), ownPid)
        self._owners = owners if rules.needsOwner else None
        self._isLocal = isLocal
        self._leadsIn = leadsIn
        self._device = settings.tunName
        self._proxies = {
            Endpoint(_canonical(proxy.host), proxy.port): proxy for proxy in settings.proxy
        }
        self._ports = {proxy.port for proxy in settings.proxy}
        self._dials = dials
        self._servers = frozenset(settings.dns)
        # Whether what is "proxied" leaves by sockets to the destination itself.
        self._noProxy = all(proxy.scheme == "direct" for proxy in settings.proxy)

    def judge(self, flow: Flow) -> Decision:
        """See L{IJudge.judge}."""
        rules = self.rules
        decision = rules.decide(flow, self._isLocal)
        host = flow.destination.host
        # A reserved address would be proxied then, which no excluded process is.
        routed = decision.rule == "reserved" and self._leadsIn(host)
        if routed or rules.ownerMatters(decision):
            decision = self._ask(flow, decision)
        verdict = decision.verdict
        if verdict is Verdict.DIRECT:
            # What a name stands for is known later, and dialled in the open.
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
                    decision, f"the way to the DNS server {host} leads into {self._device} itself"
                )
        return decision

    def _ask(self, flow: Flow, decision: Decision) -> Decision:
        """Decide again, with the flow's owner, if that can be found."""
        if self._owners is None or not self._isLocal(flow.source.host):
            return decision
        owner = self._owners.ownerOf(flow)
        return decision if owner is None else self.rules.decide(flow, self._isLocal, owner)

    def _noWay(self, decision: Decision, destination: Endpoint) -> Decision:
        """What leaves by a socket to the destination itself, which comes back."""
        proxy = self._proxyAt(destination)
        if proxy:
            way = f"the way to the proxy {proxy} leads into {self._device} itself"
            return self._loop(decision, way)
        again = f"the way out leads into {self._device} again"
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
        """The proxy that is dialled there, or nothing."""
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
        """The decision's reason without what is another for each flow."""
        owner = decision.owner
        if owner is None or decision.rule not in ("excluded-process", "local-proxy"):
            return decision.reason
        return decision.reason.replace(named(owner), owner.name or named(owner))
