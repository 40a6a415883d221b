"""
An upstream that the test answers for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.flow import Decision, Endpoint, Flow, Protocol, Verdict
from nanotun.interfaces import (
    Connection,
    Course,
    DatagramLeg,
    DialEnd,
    DialPlan,
    IDialOutcomes,
    IHealthCheck,
    ILegControl,
    INamedDatagrams,
    IPlanned,
    IUpstream,
    IUpstreams,
    LegKind,
    PlainHttp,
)

#: Where the plans of a L{PlannedFakeUpstream} lead: C{192.0.2.9}, port 1080 (C{struct
#: sockaddr_in}).
FAKE_ADDRESS = struct.pack("=H", socket.AF_INET) + struct.pack(
    "!H4s8x", 1080, socket.inet_aton("192.0.2.9")
)

#: Seconds that those plans allow.
FAKE_TIMEOUT = 10.0


@implementer(ILegControl)
class FakeControl:
    """
    A control connection that ends when the test says so.

    @ivar closed: whether L{close} was called.
    @ivar doubts: how often L{doubt} was called.
    """

    def __init__(self) -> None:
        self.closed = False
        self.doubts = 0
        self._sentence = ""
        self._lost: Callable[[str], None] | None = None

    def watch(self, lost: Callable[[str], None]) -> None:
        """See L{ILegControl.watch}."""
        assert self._lost is None and not self.closed
        self._lost = lost
        if self._sentence:
            lost(self._sentence)

    def doubt(self) -> None:
        """See L{ILegControl.doubt}."""
        self.doubts += 1

    def close(self) -> None:
        """See L{ILegControl.close}."""
        self.closed = True

    def lose(self, sentence: str = "The proxy closed it.") -> None:
        """Let the other side end it."""
        self._sentence = sentence
        if self._lost is not None and not self.closed:
            self._lost(sentence)


@implementer(IUpstream, IHealthCheck)
class FakeUpstream:
    """
    An upstream that the test answers for: legs, datagram legs and checks, each kind in
    the order in which they were asked for.

    @ivar sharesLegs: see L{IUpstream}, as for C{sendsNames} and C{carriesDatagrams}.
    @ivar proxy: the endpoint that L{dials} is true for.
    @ivar asked: the destinations that legs were asked for.
    @ivar families: the families that datagram legs were asked for.
    @ivar cancelled: how many legs and checks were cancelled.
    @ivar checks: those that wait for their answer.
    @param name: what L{describe} returns.
    """

    def __init__(self, name: str = "fake://") -> None:
        self.name = name
        self.proxy: Endpoint | None = None
        self.sharesLegs = False
        self.sendsNames = False
        self.carriesDatagrams = True
        self.asked: list[Endpoint] = []
        self.families: list[int] = []
        self.cancelled = 0
        self.checks: list[Deferred[None]] = []
        self._legs: list[Deferred[Connection]] = []
        self._datagramLegs: list[Deferred[DatagramLeg]] = []

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        self.asked.append(destination)
        return self._leg()

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        self.families.append(family)
        leg: Deferred[DatagramLeg] = Deferred(self._cancelDatagrams)
        self._datagramLegs.append(leg)
        return leg

    def dials(self, endpoint: Endpoint) -> bool:
        """See L{IUpstream.dials}."""
        return endpoint == self.proxy

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self.name

    def check(self) -> Deferred[None]:
        """See L{IHealthCheck.check}."""
        check: Deferred[None] = Deferred(self._cancelCheck)
        self.checks.append(check)
        return check

    def _leg(self) -> Deferred[Connection]:
        leg: Deferred[Connection] = Deferred(self._cancel)
        self._legs.append(leg)
        return leg

    def _cancelCheck(self, check: Deferred[None]) -> None:
        self.cancelled += 1
        self.checks.remove(check)

    def _cancel(self, leg: Deferred[Connection]) -> None:
        self.cancelled += 1
        self._legs.remove(leg)

    def _cancelDatagrams(self, leg: Deferred[DatagramLeg]) -> None:
        self.cancelled += 1
        self._datagramLegs.remove(leg)

    def answer(self, leftover: bytes = b"", http: PlainHttp | None = None) -> socket.socket:
        """Open the oldest leg.  Returns the far end, which the test closes."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self._legs.pop(0).callback(Connection(near.detach(), leftover, http))
        return far

    def fail(self, error: UpstreamError) -> None:
        """Let the oldest leg fail."""
        self._legs.pop(0).errback(error)

    def answerDatagrams(self, kind: LegKind = LegKind.SOCKS5) -> FakeControl:
        """
        Open the oldest datagram leg.

        @return: its control, which a direct leg does not have.
        """
        stream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.setblocking(False)
        control = FakeControl()
        leg = DatagramLeg(stream.detach(), kind, control if kind == LegKind.SOCKS5 else None)
        self._datagramLegs.pop(0).callback(leg)
        return control

    def failDatagrams(self, error: UpstreamError) -> None:
        """Let the oldest datagram leg fail."""
        self._datagramLegs.pop(0).errback(error)

    def answerCheck(self, error: UpstreamError | None = None) -> None:
        """Let the oldest check pass, or fail with C{error}."""
        check = self.checks.pop(0)
        if error is None:
            check.callback(None)
        else:
            check.errback(error)


@implementer(INamedDatagrams)
class NamedFakeUpstream(FakeUpstream):
    """
    One whose UDP relay may take names.

    @ivar namedFamilies: the families that legs by name were asked for; the test answers
        them as any other datagram leg.
    """

    def __init__(self, name: str = "fake://") -> None:
        super().__init__(name)
        self.namedFamilies: list[int] = []

    def associateNamed(self, family: int) -> Deferred[DatagramLeg]:
        """See L{INamedDatagrams.associateNamed}."""
        self.namedFamilies.append(family)
        leg = self.associate(family)
        self.families.pop()
        return leg


@implementer(IDialOutcomes)
class FakeDials:
    """
    Notes what it is told of a plan's dials.

    @ivar successes: the arguments of L{opened}.
    @ivar ends: those of L{resume}.
    @ivar silences: the seconds of L{silent}.
    @ivar abandonments: those of L{abandoned}.
    @param goOn: makes the leg for a dial that ended without a connection.
    """

    def __init__(self, goOn: Callable[[], Deferred[Connection]]) -> None:
        self.successes: list[tuple[int, float, int]] = []
        self.ends: list[DialEnd] = []
        self.silences: list[float] = []
        self.abandonments: list[float] = []
        self._goOn = goOn

    def opened(self, count: int, seconds: float, address: int) -> None:
        """See L{IDialOutcomes.opened}."""
        self.successes.append((count, seconds, address))

    def resume(self, end: DialEnd) -> Deferred[Connection]:
        """
        See L{IDialOutcomes.resume}.  There is no handshake, so a connection is the leg;
        without one, the test answers.
        """
        self.ends.append(end)
        if end.fd >= 0:
            return succeed(Connection(end.fd, end.received))
        return self._goOn()

    def silent(self, engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """See L{IDialOutcomes.silent}."""
        self.silences.append(seconds)
        return engine.addCallback(self.resume)

    def abandoned(self, seconds: float) -> None:
        """See L{IDialOutcomes.abandoned}."""
        self.abandonments.append(seconds)


@implementer(IPlanned)
class PlannedFakeUpstream(FakeUpstream):
    """
    One whose dials the engine may carry out.  A dial that ended without a connection is a leg
    for the test to answer, but it is not among C{asked}.

    @ivar plans: whether it gives any.
    @ivar course: of its plans.
    @ivar standing: whether its plans stand.
    @ivar planned: the destinations of the plans that it gave.
    @ivar outcomes: what they were told, plan by plan.
    """

    def __init__(self, name: str = "fake://") -> None:
        super().__init__(name)
        self.plans = True
        self.course = Course((FAKE_ADDRESS,), FAKE_TIMEOUT)
        self.standing = False
        self.planned: list[Endpoint] = []
        self.outcomes: list[FakeDials] = []

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}."""
        if not self.plans:
            return None
        self.planned.append(destination)
        outcomes = FakeDials(self._resumed)
        self.outcomes.append(outcomes)
        return DialPlan(self.course, str(destination).encode(), outcomes, standing=self.standing)

    def _resumed(self) -> Deferred[Connection]:
        """The leg for a dial that ended."""
        return self._leg()


@implementer(IUpstreams)
class FakeUpstreams:
    """
    Upstreams by their names.

    @ivar byName: all of them; C{proxy} and C{direct} are always there.
    """

    def __init__(self, proxy: IUpstream, direct: IUpstream, **named: IUpstream) -> None:
        self.byName = {"proxy": proxy, "direct": direct, **named}

    def leaving(self, decision: Decision, flow: Flow) -> IUpstream:
        """See L{IUpstreams.leaving}."""
        direct = decision.verdict is Verdict.DIRECT
        return self.byName["direct" if direct else decision.upstream or "proxy"]

    def wayOf(self, decision: Decision) -> Hashable:
        """See L{IUpstreams.wayOf}: it is the upstream."""
        if decision.verdict in (Verdict.PROXY, Verdict.DIRECT):
            return self.leaving(decision, Flow(0, Protocol.TCP, Endpoint("", 0), Endpoint("", 0)))
        return decision.verdict
