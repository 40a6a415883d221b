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
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.addresses import isLocalhost
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import bareNames, firstHops, withFields
from nanotun.flow import (
    Decision,
    Endpoint,
    Flow,
    Known,
    Owner,
    Protocol,
    ScriptAnswer,
    Verdict,
)
from nanotun.interfaces import IJudge, IOwners, IScript, Sniff
from nanotun.policy.asked import scriptFlow
from nanotun.policy.behind import Behind, takenFor
from nanotun.policy.conditions import Now
from nanotun.policy.lists import NO_LISTS, Lists
from nanotun.policy.routecheck import RouteCheck
from nanotun.policy.rules import Rules
from nanotun.policy.ruletable import DESTINATIONS, AskedRule, RuleTable, usesOwners
from nanotun.policy.standing import StandingRules, UntilEdge
from nanotun.policy.subject import NAME, OWNER, SCRIPT, Found, Outcome, Subject, named

#: To look an enumeration's member up takes as long as to call a function.
_PROXIED = Verdict.PROXY

#: The fields of a user name that are taken from a flow's owner.
_OF_OWNERS = ("user", "uid", "process")


def runsLocally(settings: Settings, isLocal: Callable[[str], bool]) -> bool:
    """
    Whether any proxy runs on this machine: at a unix socket, at the loopback or at another
    of its addresses.

    @param isLocal: whether a literal address is one of this machine's.
    """
    return any(
        proxy.socketPath or isLocalhost(proxy.host.lower()) or isLocal(proxy.host.lower())
        for proxy in firstHops(settings)
    )


def needsOwner(settings: Settings, localProxy: bool, everybody: bool = False) -> bool:
    """
    Whether the owners of flows have to be found.

    @param localProxy: from L{runsLocally}.
    @param everybody: whether the owner of every flow is wanted, whatever the settings say.
    """
    processes = bool(settings.excludedProcesses) or usesOwners(settings.rules)
    return processes or localProxy or everybody or bool(perProgram(settings))


def perProgram(settings: Settings) -> frozenset[str]:
    """The upstreams with something of a flow's process in a user name."""
    fields = withFields(settings)
    return frozenset(name for name, each in fields.items() if not each.isdisjoint(_OF_OWNERS))


def rulesFor(
    settings: Settings,
    localProxy: bool,
    ownPid: Callable[[], int] = lambda: 0,
    isConnected: Callable[[str], bool] = lambda host: False,
    inCell: bool = False,
    isBehind: Callable[[str], bool] = lambda host: False,
    isLocal: Callable[[str], bool] = lambda host: False,
    script: IScript | None = None,
    lists: Lists = NO_LISTS,
    now: Now = lambda: (0, 0),
) -> Rules:
    """
    The rules of a configuration.

    @param localProxy: from L{runsLocally}.
    @param ownPid: the daemon's process; see L{Rules}.
    @param isConnected: see L{Rules}.
    @param inCell: whether the flows come from the cell of C{nanotun run}.
    @param isBehind: see L{Rules}.
    @param isLocal: see L{Rules}.
    @param script: see L{Rules}.
    @param lists: what the user's rules name.
    @param now: the local time.
    """
    fakes = settings.dnsMode == "fake-ip"
    return Rules(
        ownPid=ownPid,
        processes=bool(settings.excludedProcesses),
        localProxy=localProxy,
        dnsOverride=settings.dnsOverride,
        fakes=fakes,
        excludedIPs=settings.excludedIPs,
        lan=settings.lan,
        lanOnlyPorts=settings.lanOnlyPorts,
        isConnected=isConnected,
        linkDirect=not inCell,
        isBehind=isBehind,
        isLocal=isLocal,
        table=RuleTable(settings.rules, lists, now, fakes),
        script=script,
        default=settings.default,
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
    @ivar namesOf: what is known of the names of a flow's destination.
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
    @param namesOf: see the attribute.  Never raises.
    @param script: the user's, which is asked before the user's rules are; L{None} for none.
    @param directAllowed: whether the script may send flows past the proxy.
    @param nameOf: a user's name.
    @param lists: what the user's rules name.
    @param now: the local time; see L{Now}.
    @param forwards: see L{Behind}.
    @param past: see L{StandingRules}, like C{untilEdge}.
    @param letsPast: see L{Behind}.
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
        namesOf: Callable[[Flow], Known] = lambda flow: Known(),
        script: IScript | None = None,
        directAllowed: bool = True,
        nameOf: Callable[[int], str] = str,
        lists: Lists = NO_LISTS,
        now: Now = lambda: (0, 0),
        forwards: Callable[[], bool] = lambda: True,
        past: Callable[[str], bool] = lambda host: False,
        untilEdge: UntilEdge = lambda spans: 0.0,
        letsPast: Callable[[str], bool] = lambda host: False,
    ) -> None:
        localProxy = runsLocally(settings, isLocal)
        behind = Behind(settings, isLocal, passedOn, relatives, originalOf, forwards, letsPast)
        self._behind, isBehind = behind, behind.holds
        self.rules = rules = rulesFor(
            settings, localProxy, ownPid, isConnected, inCell, isBehind, isLocal, script, lists, now
        )
        everybody = script is not None and bool(script.needsProcess)
        self._needsOwner = needsOwner(settings, localProxy, everybody)
        self._owners = owners if self._needsOwner else None
        self._perProgram = perProgram(settings) if self._owners is not None else frozenset()
        self.namesOf = namesOf
        self._script = script
        self._nameOf = nameOf
        self._bare = frozenset() if directAllowed else bareNames(settings)
        self._directAllowed = directAllowed
        self._sniffPorts = frozenset(settings.sniffPorts if settings.sniff else ())
        self._isLocal = isLocal
        self._leadsIn = leadsIn
        self._check = RouteCheck(settings, rules.isFake, leadsIn, dials, behind.leaves)
        self.carrier = carrier
        #: Whether nothing but its destination matters of a flow of this machine.
        self._byDestination = not (settings.rules or script or self._needsOwner)
        self._known = lru_cache(maxsize=DESTINATIONS)(partial(_always, rules))
        looks = self._owners is not None
        self._standing = StandingRules(
            settings, rules, self._check, behind, looks, namesOf, past, untilEdge
        )

    def withOwners(
        self,
        owners: IOwners,
        script: IScript | None = None,
        namesOf: Callable[[Flow], Known] | None = None,
    ) -> Judge:
        """
        The same judge for an explanation: it asks somebody else about the owners of flows, and
        what it says is not in the log, so it neither counts as said nor is left out.

        @param script: asked instead of the user's, if there is one.
        @param namesOf: asked instead of L{namesOf}, if it is given.
        """
        other = self._untold()
        other._owners = owners if self._needsOwner else None
        other._script = self._script if script is None else script
        other.namesOf = self.namesOf if namesOf is None else namesOf
        other.carrier = lambda flow: None
        return other

    def _untold(self) -> Judge:
        """The same judge, of which nothing that it says counts as said."""
        other = copy(self)
        other._check = self._check.untold()
        return other

    def judge(self, flow: Flow, sniff: Sniff | None = None) -> Decision | Deferred[Decision]:
        """See L{IJudge.judge}."""
        local = self._isLocal(flow.source.host)
        if local and self._byDestination:
            known = self._known(flow.protocol, flow.destination)
            if known is not None:
                decision, mayCarry = known
                behind = self._hidden(flow) if takenFor(decision) else None
                return self._routed(flow, behind or decision, mayCarry)
        subject = self.rules.subject(flow, local)
        if self.rules.usesNames:
            subject.call(self.namesOf(flow))
        return self._begin(subject, sniff)

    def judgeAgain(
        self, flow: Flow, before: Decision
    ) -> Decision | Deferred[Decision | None] | None:
        """See L{IJudge.judgeAgain}."""
        subject, name = self.rules.subject(flow), before.name
        # No rule may have asked for it, but a fake address has one as long as the flow is open.
        fake = subject.place.fake and not name
        subject.call(self.namesOf(flow) if fake else Known((name,) if name else ()))
        subject.answer = ScriptAnswer()
        decided = self._untold()._begin(subject, None)
        looks = self._owners is not None
        if isinstance(decided, Deferred):
            return decided.addCallback(_again, subject, before, looks)
        return _again(decided, subject, before, looks)

    def stands(self, flow: Flow, decision: Decision) -> float | None:
        """See L{IJudge.stands}."""
        return self._standing.stands(flow, self._isLocal(flow.source.host), decision)

    def _begin(self, subject: Subject, sniff: Sniff | None) -> Decision | Deferred[Decision]:
        """Look first whether it is a proxy's own flow that the firewall hides."""
        if self._owners is None:
            subject.asked |= OWNER  # There is nobody to ask.
        decision, lacks = self.rules.evaluate(subject)
        if subject.local and (lacks or takenFor(decision)):
            behind = self._hidden(subject.flow)
            if behind is not None:
                return self._check.route(subject.flow, behind)
        if not lacks and self._owners is None:
            return self._decided(subject, decision)
        return self._next(subject, (decision, lacks), sniff)

    def _hidden(self, flow: Flow) -> Decision | None:
        """
        Decide about a flow of a proxy's own.  The firewall may have given a container's flow
        this machine's address.
        """
        original = self._behind.originalOf(flow)
        if original is None:
            return None
        subject = self.rules.subject(flow._replace(source=original.source))
        behind, _ = self.rules.evaluate(subject)
        return behind if behind.rule == "local-proxy" else None

    def _next(
        self, subject: Subject, outcome: Outcome, sniff: Sniff | None
    ) -> Decision | Deferred[Decision]:
        """Find out what is lacking, one after the other, and decide."""
        port = subject.flow.destination.port
        while True:
            decision, lacks = outcome
            lacks &= ~subject.asked
            owners = self._owners if subject.local and not subject.asked & OWNER else None
            if not lacks and owners is None:
                return self._decided(subject, decision)
            found: Found | Deferred[Owner | None] | Deferred[str] | Deferred[ScriptAnswer]
            if lacks & OWNER and owners is not None:
                subject.asked |= OWNER
                found = owners.ownerOf(subject.flow)
            elif lacks & NAME and sniff is not None and port in self._sniffPorts:
                subject.asked |= NAME
                found = sniff()
            elif lacks & SCRIPT and self._script is not None:
                subject.asked |= SCRIPT
                found = self._script.decide(
                    scriptFlow(
                        subject.flow,
                        subject.name,
                        subject.place.fake,
                        subject.local,
                        subject.owner,
                        bool(self._script.needsProcess),
                        self._nameOf,
                    )
                )
            elif owners is not None and self._ownerMatters(subject.flow, decision):
                subject.asked |= OWNER
                found = owners.ownerOf(subject.flow)
            else:
                return self._decided(subject, decision)
            if isinstance(found, Deferred):
                return found.addCallback(self._goOn, subject, sniff)
            subject.learn(found)
            outcome = self.rules.evaluate(subject)

    def _goOn(
        self, found: Found, subject: Subject, sniff: Sniff | None
    ) -> Decision | Deferred[Decision]:
        """Decide when something was found out, or was not."""
        subject.learn(found)
        return self._next(subject, self.rules.evaluate(subject), sniff)

    def _ownerMatters(self, flow: Flow, decision: Decision) -> bool:
        """Whether the owner counts, though no rule needs it."""
        if decision.verdict is Verdict.PROXY:
            return (decision.upstream or PROXY) in self._perProgram
        if decision.verdict is not Verdict.DIRECT or decision.rule != "reserved":
            return False
        # If it is routed here it will be proxied, but not if its process is excluded.
        return self._leadsIn(flow.destination.host)

    def _decided(self, subject: Subject, decision: Decision) -> Decision | Deferred[Decision]:
        """Change a decision that is not allowed, whose flow would come back or is a VPN's own."""
        flow = subject.flow
        if subject.owner is not None or subject.name is not None:
            decision = _completed(decision, subject.owner, subject.name or "")
        if decision.rule == "script" and not self._directAllowed:
            decision = _ifAllowed(decision, self._bare)
        return self._routed(flow, decision, subject.local and not subject.place.fake)

    def _routed(
        self, flow: Flow, decision: Decision, mayCarry: bool
    ) -> Decision | Deferred[Decision]:
        """Change a decision whose flow would come back, or C{mayCarry} another VPN."""
        decision = self._check.route(flow, decision)
        if not mayCarry or decision.verdict is not _PROXIED or decision.rule == "reserved-routed":
            return decision
        carrier = self.carrier(flow)
        if carrier is None:
            return decision
        if isinstance(carrier, Deferred):
            return carrier.addCallback(_carried, flow, decision)
        return _carried(carrier, flow, decision)


def _always(
    rules: Rules, protocol: Protocol, destination: Endpoint
) -> tuple[Decision, bool] | None:
    """
    Decide about all of this machine's flows to a destination, where nothing else matters.

    @return: the decision, and whether the flows may be another VPN's own; L{None} if the next
        one may be decided otherwise.
    """
    subject = rules.subject(Flow(0, protocol, destination, destination), True)
    decision, _ = rules.evaluate(subject)
    # Networks come and go.
    return None if decision.rule == "lan-only-port" else (decision, not subject.place.fake)


def _completed(decision: Decision, owner: Owner | None, name: str) -> Decision:
    """A decision with what is known of the flow; C{_replace} takes twice as long."""
    verdict, rule, reason, _, trouble, upstream, values, _ = decision
    return Decision(verdict, rule, reason, owner, trouble, upstream, values, name)


def _carried(carrier: Carrier | None, flow: Flow, decision: Decision) -> Decision:
    """What becomes of a decision to proxy a flow that may be another VPN's own."""
    if carrier is None:
        return decision
    reason = (
        f"{named(carrier.owner)} carries the VPN {carrier.device}, which routes "
        f"{flow.destination.host} past itself"
    )
    return Decision(Verdict.DIRECT, "vpn", reason, carrier.owner, name=decision.name)


def _ifAllowed(decision: Decision, bare: Container[str]) -> Decision:
    """What becomes of a script's decision if it may not send a flow past the proxy."""
    if decision.verdict is not Verdict.DIRECT and decision.upstream not in bare:
        return decision
    return Decision(
        Verdict.REJECT,
        "not-allowed",
        f"{decision.reason}, but that is past the proxy, and --allow-direct was not given",
        decision.owner,
        "Connections that the script sends past the proxy are refused, because 'nanotun run' was "
        "not given --allow-direct.",
        name=decision.name,
    )


def trace(judge: Judge, flow: Flow, decision: Decision) -> list[AskedRule]:
    """
    What each of the user's rules says of a flow, up to the first that holds.

    @param decision: what was decided about it; has its owner and its name.
    @return: nothing if none was asked.
    """
    if decision.rule in ("script", "not-allowed"):
        return []
    subject = judge.rules.subject(flow)
    subject.call(Known((decision.name,) if decision.name else ()))
    subject.owner = decision.owner
    return judge.rules.trace(subject)


def _again(decision: Decision, subject: Subject, before: Decision, looks: bool) -> Decision | None:
    """
    What L{IJudge.judgeAgain} says of a decision.

    @param looks: whether owners are looked for at all.
    """
    missing = looks and subject.owner is None and subject.asked & OWNER
    lost = before.owner is not None and missing
    return None if lost else decision._replace(trouble="")
