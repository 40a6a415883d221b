"""
The proxies' own flows that come by this machine: from a proxy in a container, say.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from nanotun.addresses import isAddress
from nanotun.config.settings import Settings
from nanotun.config.upstreams import firstHops
from nanotun.flow import Decision, Flow, Verdict
from nanotun.policy.reserved import specialOf
from nanotun.policy.routecheck import canonical

#: To look an enumeration's member up takes as long as to call a function.
_PROXIED = Verdict.PROXY


def takenFor(decision: Decision) -> bool:
    """Whether the rules would decide so about a proxy's own flow that they take for another."""
    return decision.verdict is _PROXIED or decision.rule == "default" or decision.rule[0] == "#"


class Behind:
    """
    Knows from which addresses the proxies' own flows may come by.

    @param isLocal: whether a literal address is one of this machine's.
    @param passedOn: where proxies on this machine pass connections on to, at the moment.
    @param relatives: the other addresses of some hosts.  Never raises.
    @param originalOf: a flow before the firewall changed it.  Never raises.
    @param forwards: whether this machine forwards packets of others at all.  Never raises.
    @param letsPast: see L{nanotun.routing.routes.Routes.letsPast}.
    """

    def __init__(
        self,
        settings: Settings,
        isLocal: Callable[[str], bool],
        passedOn: Callable[[], frozenset[str]],
        relatives: Callable[[frozenset[str]], Container[str]],
        originalOf: Callable[[Flow], Flow | None],
        forwards: Callable[[], bool],
        letsPast: Callable[[str], bool],
    ) -> None:
        hosts = [canonical(proxy.host) for proxy in firstHops(settings) if isAddress(proxy.host)]
        self._literal = frozenset(each for each in hosts if not isLocal(each))
        # Nobody hides a public address behind one of this machine.
        self._private = any(specialOf(each) is not None for each in self._literal)
        self._isLocal = isLocal
        self._passedOn = passedOn
        self._relatives = relatives
        self._originalOf = originalOf
        self._forwards = forwards
        self._letsPast = letsPast

    @property
    def hosts(self) -> frozenset[str]:
        """The addresses of the proxies, and of where they pass connections on to."""
        return self._literal | self._passedOn()

    @property
    def mayHide(self) -> bool:
        """Whether the firewall may give a proxy's own flows this machine's address."""
        return self._private and self._forwards()

    def holds(self, host: str) -> bool:
        """Whether flows from a literal address are a proxy's own."""
        hosts = self.hosts
        return bool(hosts) and (host in hosts or host in self._relatives(hosts))

    def originalOf(self, flow: Flow) -> Flow | None:
        """
        A flow of another machine before the firewall gave it this machine's address.

        @param flow: from an address of this machine.
        @return: L{None} if it is this machine's own, or no proxy's anyway.
        """
        original = self._originalOf(flow) if self.mayHide else None
        if original is None or self._isLocal(original.source.host):
            return None
        return original

    def leaves(self, flow: Flow) -> bool:
        """
        Whether the next packet of a proxy's own flow, one that is no process of this machine, goes
        past the tunnel: it does not find here what has begun here.
        """
        host = flow.source.host
        if self._isLocal(host):
            original = self._originalOf(flow)
            host = host if original is None else original.source.host
        return not self._isLocal(host) and self._letsPast(host)
