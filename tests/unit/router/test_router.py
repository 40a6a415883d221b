"""
Tests for L{nanotun.router.router}.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    AuthenticationError,
    DestinationSilent,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import AbsoluteForm, Decision, Endpoint, Owner, Refusal, Verdict
from nanotun.interfaces import IFlowHandler, LegKind
from nanotun.log.trouble import REPORT_INTERVAL, TroubleLog
from nanotun.router import router
from nanotun.router.router import SAID_LIMIT, FlowRouter, firstLeaving, firstPending
from nanotun.testing import (
    FakeGateway,
    FakeJudge,
    FakeNames,
    FakeUpstream,
    FakeUpstreams,
    MemoryEngine,
    MemoryTunOpener,
)


class RouterCase(SynchronousTestCase):
    """A router between a memory engine and fake upstreams."""

    tellsFlows = False

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.judge = FakeJudge()
        self.upstream = FakeUpstream()
        self.direct = FakeUpstream("direct://")
        self.engine = MemoryEngine()
        self.gateway = FakeGateway()
        self.names = self.makeNames()
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(FlowRouter, "_log", log)
        self.trouble = TroubleLog(self.clock, log)
        self.patch(router, "saidLog", log)
        self.router = self.makeRouter(self.tellsFlows)
        self.engine.start(MemoryTunOpener().open("nano0", 1500, "off"), self.router)
        self.addCleanup(self.engine.stop)

    def makeNames(self) -> FakeNames:
        """Without fake addresses, unless the test makes others."""
        names = FakeNames()
        names.followsFlows = False
        return names

    def makeRouter(self, debug: bool) -> FlowRouter:
        """A router for the engine."""
        return FlowRouter(
            self.judge,
            FakeUpstreams(self.upstream, self.direct),
            self.engine,
            self.gateway,
            self.clock,
            debug,
            self.names,
            self.trouble,
        )

    def lines(self, level: str = "error") -> list[str]:
        """What was logged at a level."""
        return [formatEvent(each) for each in self.logged if each["log_level"].name == level]


class FlowTests(RouterCase):
    """
    Tests for a flow's life.
    """

    def test_interface(self) -> None:
        """
        It provides what an engine calls.
        """
        verifyObject(IFlowHandler, self.router)

    def test_joined(self) -> None:
        """
        The destination is dialled first, then the flow is joined to the leg.
        """
        request = self.engine.request(Endpoint("192.0.2.7", 443))
        self.assertEqual(self.upstream.asked, [Endpoint("192.0.2.7", 443)])
        self.assertEqual(self.engine.joined, {})
        self.assertEqual(self.router.pending, 1)
        self.assertEqual((firstPending(self.router), self.router.carried), ("192.0.2.7:443", 0))
        far = self.upstream.answer(b"220 hello")
        self.addCleanup(far.close)
        fd, leftover = self.engine.joined[request.flow.id]
        self.assertEqual(leftover, b"220 hello")
        os.write(fd, b"x")
        self.assertEqual(far.recv(10), b"x")
        self.assertEqual(self.router.pending, 0)
        self.assertEqual((firstPending(self.router), self.router.carried), ("", 1))
        # Only the debug lines need to know of the end.
        self.assertEqual(self.router.followsFlows, self.tellsFlows)
        self.engine.end(request.flow.id)
        self.assertEqual(self.lines(), [])

    def test_refusals(self) -> None:
        """
        Each error becomes the refusal that the app is to see.
        """
        for kind, refusal in (
            (UpstreamRefused, Refusal.RESET),
            (UpstreamHostUnreachable, Refusal.HOST_UNREACHABLE),
            (UpstreamNetUnreachable, Refusal.NET_UNREACHABLE),
            (UpstreamProhibited, Refusal.PROHIBITED),
            (UpstreamForbids, Refusal.RESET),
            (DestinationSilent, Refusal.RESET),
            (UpstreamTimeout, Refusal.RESET),
            (ProxyError, Refusal.RESET),
            (HandshakeError, Refusal.RESET),
            (AuthenticationError, Refusal.RESET),
            (UpstreamError, Refusal.RESET),
        ):
            request = self.engine.request()
            self.upstream.fail(kind("why"))
            self.assertEqual(self.engine.refused[request.flow.id], refusal, kind)
        self.assertEqual(self.router.pending, 0)

    def test_logged(self) -> None:
        """
        An error that the app sees itself is not logged; any other is.
        """
        for kind in (UpstreamRefused, UpstreamHostUnreachable, UpstreamProhibited):
            self.engine.request()
            self.upstream.fail(kind("not logged"))
        self.engine.request()
        self.upstream.fail(AuthenticationError("The proxy wants a password."))
        self.assertEqual(self.lines(), ["The proxy wants a password."])

    def test_said(self) -> None:
        """
        What the app does not see of a refusal is one line at info, and then a number; of a
        scan there are ten lines.
        """
        for _ in range(3):
            self.engine.request()
            self.upstream.fail(UpstreamForbids("The proxy forbids it (status 403).", news=True))
        self.engine.request()
        self.upstream.fail(DestinationSilent("No answer about it came.", news=True))
        self.assertEqual(
            self.lines("info"), ["The proxy forbids it (status 403).", "No answer about it came."]
        )
        for number in range(20):
            self.engine.request()
            self.upstream.fail(UpstreamForbids(f"It forbids {number}.", news=True))
        self.assertEqual(len(self.lines("info")), SAID_LIMIT)
        self.router.stop()
        self.assertIn("The proxy forbids it (status 403). (2 more)", self.lines("info"))
        self.assertEqual(self.lines(), [])

    def test_abandoned(self) -> None:
        """
        When the app gives up, the dial is cancelled.
        """
        request = self.engine.request()
        self.engine.abandon(request.flow.id)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertEqual(self.router.pending, 0)
        self.assertEqual(self.engine.refused, {})
        # An id that does not wait is harmless.
        self.router.flowAbandoned(99)

    def test_goneAtJoin(self) -> None:
        """
        If the app gives up just before the join, the leg is closed.
        """
        request = self.engine.request()
        self.engine.vanish(request.flow.id)
        far = self.upstream.answer()
        self.addCleanup(far.close)
        self.assertEqual(far.recv(1), b"")
        self.assertNotIn(request.flow.id, self.engine.joined)

    def test_joinFails(self) -> None:
        """
        A join that fails is logged.
        """

        def joinFlow(
            flowID: int, fd: int, leftover: bytes, form: AbsoluteForm | None, note: int = 0
        ) -> bool:
            os.close(fd)
            raise OSError(errno.EINVAL, "ns_join: Invalid argument")

        self.engine.joinFlow = joinFlow  # type: ignore[method-assign]
        self.engine.request()
        self.upstream.answer().close()
        self.assertIn("cannot be joined", self.lines()[0])

    def test_flowLimit(self) -> None:
        """
        Reaching the limit is logged once, not for each flow, and no flow is refused.
        """
        self.engine.flowLimit = 2
        for _ in range(5):
            self.engine.request()
            self.upstream.answer().close()
        (line,) = self.lines()
        self.assertIn("2 connections are open", line)
        self.assertEqual((len(self.engine.joined), len(self.engine.dropped)), (2, 3))
        self.assertEqual((self.engine.refused, self.router.pending), ({}, 0))
        self.clock.advance(REPORT_INTERVAL)
        self.assertIn("(2 more in 10 s)", self.lines()[1])
        self.router.stop()

    def test_bug(self) -> None:
        """
        An internal error costs one flow and is logged as one.
        """
        request = self.engine.request()
        bug: Any = ZeroDivisionError()
        self.upstream.fail(bug)
        self.assertEqual(self.engine.refused[request.flow.id], Refusal.RESET)
        self.assertIn("internal error", self.lines("critical")[0])

    def test_stop(self) -> None:
        """
        The stop cancels all dials, and refuses their flows and later ones.
        """
        first, second = self.engine.request(), self.engine.request()
        self.router.stop()
        third = self.engine.request()
        self.assertEqual(self.upstream.cancelled, 2)
        self.assertEqual(
            self.engine.refused,
            {each.flow.id: Refusal.RESET for each in (first, second, third)},
        )
        self.assertEqual(len(self.upstream.asked), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class VerdictTests(RouterCase):
    """
    Tests for where each verdict takes a flow.
    """

    ELSEWHERE = Endpoint("192.0.2.7", 443)

    def decide(self, verdict: Verdict, trouble: str = "") -> None:
        """Have the judge return this verdict for flows to L{ELSEWHERE}."""
        decision = Decision(verdict, verdict.value, "the test says so", trouble=trouble)
        self.judge.decisions[self.ELSEWHERE.host] = decision

    def assertEachVerdict(self, ask: Callable[[Endpoint], object], *places: Any) -> None:
        """
        Assert that a flow ends in the place of its verdict and in no other.

        @param ask: makes a flow.
        @param places: one per verdict, in their order.
        """
        for number, verdict in enumerate(Verdict):
            self.decide(verdict)
            ask(self.ELSEWHERE)
            found = [len(place) for place in places]
            self.assertEqual(found, [int(number == x) for x in range(len(places))], verdict)
            places[number].clear()
        self.assertEqual(len(self.judge.judged), len(places))
        self.router.stop()

    def test_stream(self) -> None:
        """
        A connection is taken where the judge says, and is judged once.
        """
        engine = self.engine
        carried = self.upstream.asked, self.direct.asked, self.gateway.accepted
        self.assertEachVerdict(engine.request, *carried, engine.refused, engine.dropped)

    def test_named(self) -> None:
        """
        A flow that a decision sends to an upstream by name leaves by that one and no other.
        """
        office = FakeUpstream("socks5://office:1080")
        others = self.upstream, self.direct
        self.router.configure(self.judge, FakeUpstreams(*others, office=office), False)
        decision = Decision(Verdict.PROXY, "#1", "the test says so", upstream="office")
        self.judge.decisions[self.ELSEWHERE.host] = decision
        self.engine.request(self.ELSEWHERE)
        self.engine.requestDatagrams(self.ELSEWHERE)
        self.assertEqual(firstLeaving(self.router), "office")
        self.assertEqual((office.asked, office.families), ([self.ELSEWHERE], [4]))
        for other in others:
            self.assertEqual((other.asked, other.families), ([], []))
        self.assertEqual(self.router.report()["upstreams"], {"office": 2})

    def test_datagramsEachVerdict(self) -> None:
        """
        A flow of datagrams is taken where the judge says, and is judged once.
        """
        engine = self.engine
        carried = self.upstream.families, self.direct.families, engine.served
        self.assertEachVerdict(engine.requestDatagrams, *carried, engine.refused, engine.dropped)

    def test_twoAssociations(self) -> None:
        """
        A source whose datagrams leave through two upstreams has an association for each.
        """
        self.decide(Verdict.DIRECT)
        first = self.engine.requestDatagrams(self.ELSEWHERE)
        second = self.engine.requestDatagrams(Endpoint("192.0.2.8", 443))
        self.direct.answerDatagrams(LegKind.DIRECT)
        self.upstream.answerDatagrams()
        self.assertEqual(set(self.engine.attached), {first.flow.id, second.flow.id})
        self.assertEqual(self.router.report()["legs"], 2)
        self.router.stop()

    def test_refused(self) -> None:
        """
        The app sees a refused flow as prohibited; the decision's trouble is logged once.
        """
        self.decide(Verdict.REJECT, "Do something.")
        requests = [self.engine.request(self.ELSEWHERE) for _ in range(3)]
        requests.append(self.engine.request(self.ELSEWHERE))
        self.assertEqual(set(self.engine.refused.values()), {Refusal.PROHIBITED})
        self.assertEqual(self.lines(), ["Do something."])
        self.router.stop()

    def test_report(self) -> None:
        """
        Flows are counted by verdict, by rule and by upstream.
        """
        self.decide(Verdict.REJECT)
        self.engine.request(self.ELSEWHERE)
        self.engine.requestDatagrams(self.ELSEWHERE)
        self.engine.request()
        report = self.router.report()
        self.assertEqual(report["verdicts"], {"reject": 2, "proxy": 1})
        self.assertEqual(report["rules"], {"reject": 2, "default": 1})
        self.assertEqual(report["upstreams"], {"reject": 2, "proxy": 1})
        self.assertEqual((report["dialling"], report["legs"]), (1, 0))
        self.assertEqual(report["paths"], {"engine": 0, "standing": 0, "general": 0})

    def test_configure(self) -> None:
        """
        New flows are judged by the new judge and leave through the new upstream; earlier
        dials go on.
        """
        first = self.engine.request()
        upstream, judge = FakeUpstream("new://"), FakeJudge()
        upstreams = FakeUpstreams(upstream, FakeUpstream("direct://"))
        for _ in range(2):  # The second call changes nothing.
            self.router.configure(judge, upstreams, True)
        self.assertTrue(self.router.tally.debug)
        second = self.engine.request()
        self.assertEqual(
            (len(self.judge.judged), len(judge.judged), len(upstream.asked)), (1, 1, 1)
        )
        for each in (self.upstream, upstream):
            self.addCleanup(each.answer().close)
        self.assertEqual(set(self.engine.joined), {first.flow.id, second.flow.id})
        self.assertEqual(self.upstream.cancelled, 0)

    def test_onward(self) -> None:
        """
        A connection that the gateway passes on later leaves by the rules of that moment, not by
        those of its beginning.
        """
        self.decide(Verdict.SERVE)
        request = self.engine.request(self.ELSEWHERE)
        self.assertEqual(self.gateway.accepted, [request])
        judge, upstream = FakeJudge(), FakeUpstream("new://")
        self.router.configure(judge, FakeUpstreams(upstream, self.direct), False)
        self.gateway.openOnward(request.flow)
        self.assertEqual(upstream.asked, [request.flow.destination])
        self.assertEqual(self.upstream.asked, [])

    def test_datagrams(self) -> None:
        """
        Datagrams leave through an association of the upstream.
        """
        request = self.engine.requestDatagrams(Endpoint("192.0.2.7", 443))
        self.upstream.answerDatagrams()
        self.assertEqual(self.upstream.families, [4])
        self.assertEqual(list(self.engine.attached), [request.flow.id])
        self.router.stop()
        self.assertEqual(self.lines(), [])

    def test_proxyDown(self) -> None:
        """
        An app whose datagrams cannot leave is refused; the log has one line for all of
        them, and their number.
        """
        for _ in range(5):
            request = self.engine.requestDatagrams()
            self.upstream.failDatagrams(ProxyError("It is down."))
            self.assertEqual(self.engine.refused[request.flow.id], Refusal.PORT_UNREACHABLE)
        self.assertEqual(self.lines(), ["It is down."])
        self.clock.advance(REPORT_INTERVAL)
        self.assertEqual(self.lines()[1], "It is down. (4 more in 10 s)")
        self.router.stop()

    def test_dns(self) -> None:
        """
        A query to a DNS server elsewhere leaves as all datagrams do.
        """
        request = self.engine.requestDatagrams(Endpoint("192.0.2.53", 53))
        self.upstream.answerDatagrams()
        self.assertIn(request.flow.id, self.engine.attached)
        self.router.stop()

    def test_stop(self) -> None:
        """
        The stop cancels the dials of associations, and drops their flows and later ones.
        """
        self.engine.requestDatagrams()
        self.router.stop()
        self.engine.requestDatagrams()
        self.assertEqual((self.upstream.cancelled, self.upstream.families), (1, [4]))
        self.assertEqual(len(self.engine.dropped), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class LoggingFlowTests(FlowTests):
    """
    The same with debug lines for each flow.
    """

    tellsFlows = True

    def test_lines(self) -> None:
        """
        The lines say where each flow went, and when it ended.
        """
        owner = Owner(77, 1000, "curl")
        self.judge.decisions["192.0.2.1"] = Decision(Verdict.PROXY, "some-rule", "", owner)
        request = self.engine.request()
        far = self.upstream.answer()
        self.addCleanup(far.close)
        self.clock.advance(1.5)
        self.engine.end(request.flow.id, errno.EPIPE)
        where = "from 198.18.0.2:40000 to 192.0.2.1:80 by fake:// (rule some-rule)"
        self.assertEqual(
            self.lines("debug"),
            [
                f"TCP flow 1 of curl (pid 77) {where}",
                f"TCP flow 1 of curl (pid 77) {where} ended: 0 bytes up, 0 down, 1.500 s, "
                "errno EPIPE",
            ],
        )

    def test_switchedOff(self) -> None:
        """
        When the lines are switched off, the router still follows the flows that had one,
        and keeps nothing once they have ended.
        """
        request = self.engine.request()
        self.addCleanup(self.upstream.answer().close)
        self.router.configure(self.judge, FakeUpstreams(self.upstream, self.direct), False)
        self.assertTrue(self.router.followsFlows)
        self.engine.end(request.flow.id)
        self.assertFalse(self.router.followsFlows)

    def test_haltLine(self) -> None:
        """
        A flow that is dropped has a line that says why.
        """
        self.judge.decisions["192.0.2.1"] = Decision(Verdict.DROP, "no-host", "it is nobody's")
        self.engine.request()
        (line,) = self.lines("debug")
        self.assertIn("192.0.2.1:80: drop (rule no-host), because it is nobody's", line)

    def test_datagramLine(self) -> None:
        """
        A flow of datagrams has a line too.
        """
        self.engine.requestDatagrams(Endpoint("192.0.2.1", 443))
        (line,) = self.lines("debug")
        self.assertIn("UDP flow 1 from 198.18.0.2:40000 to 192.0.2.1:443 by fake://", line)
        self.router.stop()
