"""
Checks whether the flows of a decision would come back, by the routes of marked packets.

A flow that is sent past the tunnel leaves by a marked socket.  If the route of marked
packets leads into the device, the flow would come back as a new one.  Then

 - a flow to a reserved address is proxied: somebody has routed that address into the
   tunnel by hand, and wants it to go through the proxy;
 - every other flow is refused, and one log line says how to cure it.

The same holds for the proxy itself: if the route to it leads into the device, no flow
can leave, and each attempt comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.addresses import SOCKET_MARK
from nanotun.config.askedservers import directEndpoints
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import bareNames, firstHops
from nanotun.flow import Decision, Endpoint, Flow, Verdict
from nanotun.policy.subject import named

#: The cure for packets that come back.
CURE = (
    f"give packets marked {SOCKET_MARK:#x} a route of their own, as autoDefaultRoute does, or "
    f"'ip rule add fwmark {SOCKET_MARK:#x} lookup main' where main knows one"
)


def canonical(host: str) -> str:
    """An address in the form that flows have; other hosts unchanged."""
    family = AF_INET6 if ":" in host else AF_INET
    try:
        return inet_ntop(family, inet_pton(family, host))
    except (OSError, ValueError):
        return host


#: To look an enumeration's member up takes as long as to call a function.
_PROXIED = Verdict.PROXY


class RouteCheck:
    """
    The check of one configuration.

    @param isFake: whether a literal address is a fake one.
    @param leadsIn: whether the route of marked packets to a literal address leads into
        the device.  Never raises.
    @param dials: whether a proxy whose URL has a host name is dialled at an endpoint.
    @param leaves: see L{nanotun.policy.behind.Behind.leaves}.
    """

    def __init__(
        self,
        settings: Settings,
        isFake: Callable[[str], bool],
        leadsIn: Callable[[str], bool],
        dials: Callable[[Endpoint], bool],
        leaves: Callable[[Flow], bool] = lambda flow: False,
    ) -> None:
        self._isFake = isFake
        self._leadsIn = leadsIn
        self._device = settings.tunName
        self._proxies = {
            Endpoint(canonical(proxy.host), proxy.port): proxy for proxy in firstHops(settings)
        }
        self._ports = {end.port for end in self._proxies}
        self._dials = dials
        self._leaves = leaves
        #: The sentences about lanOnlyPorts that were given out; at most two for each port.
        self._told: set[str] = set()
        # With direct:// alone, proxied flows too are dialled at the destination itself.
        self._bare = bareNames(settings)
        # What the relay asks itself.
        self._servers = directEndpoints(settings)

    def untold(self) -> RouteCheck:
        """The same check, which has given out no sentence yet, and has no routes changed."""
        other = copy(self)
        other._told = set()
        other._leaves = lambda flow: False
        return other

    def route(self, flow: Flow, decision: Decision) -> Decision:
        """Change a decision if its flow would come back as a new one."""
        host, port = flow.destination
        verdict = decision.verdict
        if verdict is _PROXIED and not self._bare and port not in self._ports:
            # Most flows: they leave through a proxy, and not to it.
            return decision
        if decision.rule == "lan-only-port" and decision.trouble:
            return self._once(decision)
        if verdict is Verdict.DIRECT:
            if decision.rule == "local-proxy" and self._isElsewhere(decision, flow):
                return decision._replace(verdict=Verdict.DROP)
            # A fake address is never dialled; the name's own address is found later.
            if not self._isFake(host) and self._leadsIn(host):
                return self._noWay(decision, flow.destination)
        elif verdict is Verdict.PROXY:
            mayLoop = (decision.upstream or PROXY) in self._bare or self._proxyAt(flow.destination)
            if mayLoop and not self._isFake(host) and self._leadsIn(host):
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
        if decision.rule == "reserved" and PROXY not in self._bare:
            reason = f"{decision.reason}, but {again}"
            return Decision(Verdict.PROXY, "reserved-routed", reason, decision.owner)
        cause = self._cause(decision)
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

    def _isElsewhere(self, decision: Decision, flow: Flow) -> bool:
        """
        Whether a flow of a proxy's own goes past the tunnel from now on.  Accepted here it would
        break; left without an answer, its sender tries again a second later.
        """
        owner = decision.owner
        return (owner is None or not owner.pid) and self._leaves(flow)

    def _loop(self, decision: Decision, what: str) -> Decision:
        trouble = f"{what[0].upper()}{what[1:]}, and its flows are refused; {CURE}."
        return Decision(Verdict.REJECT, "loop", what, decision.owner, trouble)

    def _cause(self, decision: Decision) -> str:
        """The decision's reason without the pid, so that one log line covers all such flows."""
        if decision.upstream in self._bare:
            return f"{decision.upstream} is no proxy"
        if PROXY in self._bare:
            return "there is no proxy"
        owner = decision.owner
        if owner is None or decision.rule not in ("excluded-process", "local-proxy"):
            return decision.reason
        return decision.reason.replace(named(owner), owner.name or named(owner))
