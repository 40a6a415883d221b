"""
Which decisions stand: those that hold for every flow to a destination, so that the engine may
dial the next ones without a question.

The rules say so themselves.  They are asked about a flow of which nothing is known but where it
goes, and a decision stands if no rule up to the one that decides is in doubt then.  So it never
stands where one could look at a process, at another machine's address, at a name that comes and
goes, or at a script's answer.

What is not of the rules may change at any time: routes, networks, another VPN, the addresses of
proxies.  Whoever notices has all standing decisions withdrawn
(L{nanotun.daemon.standing.Withdrawals}).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from nanotun.config.settings import Settings
from nanotun.config.times import TimeSpan
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import withFields
from nanotun.flow import Decision, Endpoint, Flow, Known, Verdict
from nanotun.policy.behind import Behind, takenFor
from nanotun.policy.decisions import leadsOut
from nanotun.policy.routecheck import RouteCheck
from nanotun.policy.rules import Rules
from nanotun.policy.subject import OWNER

#: Seconds for which a decision stands at most.  The kernel's word of a change may be lost, and a
#: fake address cannot be given to another name as long as a decision about it stands.
LIMIT = 60.0

#: Seconds; for less it is not worth it.
LEAST = 1.0

#: From spans of time to the seconds until any of them begins or ends, or fewer.
UntilEdge: TypeAlias = "Callable[[Collection[TimeSpan]], float]"


class StandingRules:
    """
    The standing decisions of one configuration.

    @param rules: of the configuration.
    @param check: what becomes of a decision by the routes.
    @param behind: knows the proxies' own flows.
    @param looks: whether owners are looked for.
    @param namesOf: what is known of the names of a flow's destination.
    @param past: whether another VPN may have routed a literal address past itself, so that flows
        to it may be the VPN's own.  Never raises.
    @param untilEdge: see L{UntilEdge}.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        check: RouteCheck,
        behind: Behind,
        looks: bool,
        namesOf: Callable[[Flow], Known],
        past: Callable[[str], bool],
        untilEdge: UntilEdge,
    ) -> None:
        self._rules = rules
        self._check = check.untold()
        self._behind = behind
        self._looks = looks
        self._namesOf = namesOf
        self._past = past
        self._untilEdge = untilEdge
        # Each flow may have another log-in.
        self._perFlow = frozenset(withFields(settings))
        sniffs = settings.sniff and rules.usesNames
        self._sniffPorts = frozenset(settings.sniffPorts if sniffs else ())
        self._spans = frozenset(
            span
            for rule in settings.rules
            for conditions in (rule.wants, rule.never)
            for span in conditions.times
        )

    def stands(self, flow: Flow, local: bool, decision: Decision) -> float | None:
        """
        See L{nanotun.interfaces.IJudge.stands}.

        @param local: whether it is a flow of this machine.
        """
        if self._rules.neverCertain or not leadsOut(decision) or self._isOwn(decision):
            return None
        host, port = flow.destination
        fake = self._rules.isFake(host)
        if not fake and port in self._sniffPorts:
            return None
        if decision.verdict is Verdict.PROXY:
            if (decision.upstream or PROXY) in self._perFlow:
                return None
            if not fake and self._past(host):
                return None
        if self._behind.mayHide and (self._rules.usesNames or takenFor(decision)):
            return None
        if not local and (self._looks or self._behind.hosts):
            # A proxy's own flows may be among them.
            return None
        # The engine takes this machine's flows for its own if they come from the device's
        # address; those from its other addresses are among all others.
        for side in (True,) if local else (True, False):
            other = self._certain(flow, side)
            if other is None or not _same(other, decision):
                return None
        seconds = min(LIMIT, self._untilEdge(self._spans)) if self._spans else LIMIT
        return seconds if seconds >= LEAST else None

    def _isOwn(self, decision: Decision) -> bool:
        """Whether there is something in a decision that the next flow may not have."""
        if decision.owner is not None or decision.trouble or decision.values:
            return True
        # Networks come and go.
        return decision.rule == "lan-only-port"

    def _certain(self, flow: Flow, local: bool) -> Decision | None:
        """
        What is decided about every flow to a destination.

        @param local: whether flows of this machine are meant.
        @return: L{None} if it depends on anything else.
        """
        whoever = Flow(0, flow.protocol, Endpoint("", 0), flow.destination)
        subject = self._rules.subject(whoever, local)
        if subject.place.fake and self._rules.usesNames:
            subject.call(self._namesOf(flow))
        if not self._looks:
            subject.asked |= OWNER
        decision = self._rules.certain(subject)
        return None if decision is None else self._check.route(whoever, decision)


def _same(one: Decision, other: Decision) -> bool:
    """Whether two decisions are the same, by whatever name the destination is known."""
    return (
        one.verdict is other.verdict and one.rule == other.rule and one.upstream == other.upstream
    )
