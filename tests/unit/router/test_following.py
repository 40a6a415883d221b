"""
Tests for L{nanotun.router.following}, L{nanotun.router.openflows} and
L{nanotun.router.rejudging}, by way of the router.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.router.openflows import OpenFlows
from nanotun.router.rejudging import ANSWER_LIMIT, BATCH, Rejudging
from nanotun.script import NotLookedUp
from nanotun.testing import FakeJudge, FakeScript, FakeUpstream, FakeUpstreams, MemoryRequest
from tests.unit.router.test_router import RouterCase

PLACE = Endpoint("192.0.2.7", 443)
OTHER = Endpoint("192.0.2.8", 443)
REJECTED = Decision(Verdict.REJECT, "#1", "rule 1 says so")


class FollowCase(RouterCase):
    """Flows that are followed."""

    def setUp(self) -> None:
        """Note what the rounds say."""
        super().setUp()
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(Rejudging, "_log", log)
        self.upstreams = FakeUpstreams(self.upstream, self.direct)

    def configure(self, judge: Any = None, script: Any = None, again: bool = False) -> None:
        """Read the configuration again."""
        self.judge = judge or FakeJudge()
        self.router.configure(self.judge, self.upstreams, False, script, again)

    def join(self, destination: Endpoint = PLACE, upstream: FakeUpstream | None = None) -> int:
        """A flow that is joined; returns its id."""
        request = self.engine.request(destination)
        self.addCleanup((upstream or self.upstream).answer().close)
        return request.flow.id

    def send(self, destination: Endpoint = PLACE) -> MemoryRequest:
        """A UDP flow whose datagrams are sent."""
        request = self.engine.requestDatagrams(destination)
        if self.upstream.families:
            self.upstream.answerDatagrams()
            self.upstream.families.clear()
        return request

    @property
    def open(self) -> set[int]:
        """The TCP flows that have not ended."""
        return set(self.engine._flows)


class ScriptTests(FollowCase):
    """
    Tests for what a script is told of ends.
    """

    def setUp(self) -> None:
        """A script that wants to know."""
        super().setUp()
        self.script = FakeScript()
        self.configure(self.judge, self.script)

    def test_ended(self) -> None:
        """It is told of each flow that was joined, once, with what the judge knew of it."""
        self.assertTrue(self.router.followsFlows)
        owner = Owner(5, 1000, "curl", "/usr/bin/curl")
        self.script.needsProcess = True
        self.judge.decisions[PLACE.host] = Decision(
            Verdict.PROXY, "#2", "why", owner, upstream="office", name="a.example"
        )
        self.upstreams.byName["office"] = self.upstream
        number = self.join()
        self.clock.advance(2.5)
        self.engine.end(number)
        ((flow, end),) = self.script.ends
        self.assertEqual(
            (flow.id, str(flow), flow.address), (number, "tcp a.example:443", PLACE.host)
        )
        assert flow.process is not None
        self.assertEqual((flow.process.name, flow.process.uid), ("curl", 1000))
        self.assertEqual(end, ("office", "#2", 0, 0, 2.5, "closed"))

    def test_reasons(self) -> None:
        """It is told why a flow ended, and by which upstream that has no name of the user's."""
        for error, reason in (
            (0, "closed"),
            (errno.ECONNRESET, "reset"),
            (errno.ETIMEDOUT, "timed out"),
            (errno.ECONNABORTED, "ended by nanotun"),
            (errno.EPIPE, "EPIPE"),
            (7777, "7777"),
        ):
            self.engine.end(self.join(), error)
            self.assertEqual(self.script.ends[-1][1].reason, reason)
        self.assertEqual(self.script.ends[-1][1].upstream, "proxy")
        self.judge.decisions[PLACE.host] = Decision(Verdict.DIRECT, "excluded-ip")
        self.engine.end(self.join(upstream=self.direct))
        self.assertEqual(self.script.ends[-1][1].upstream, "direct")

    def test_process(self) -> None:
        """A process that the script did not ask for is not None, which would be a lie."""
        self.engine.end(self.join())
        ((flow, _),) = self.script.ends
        self.assertRaises(NotLookedUp, getattr, flow, "process")

    def test_fake(self) -> None:
        """A fake address is not told."""
        self.judge.decisions["198.19.0.1"] = Decision(Verdict.PROXY, "#1", name="a.example")
        self.names.known["198.19.0.1"] = "a.example"
        self.engine.end(self.join(Endpoint("198.19.0.1", 443)))
        ((flow, _),) = self.script.ends
        self.assertEqual((flow.domain, flow.address), ("a.example", None))

    def test_notFollowed(self) -> None:
        """A script that does not want to know is not told, and nothing is kept for it."""
        self.script.followsFlows = False
        self.assertFalse(self.router.followsFlows)
        self.engine.end(self.join())
        self.assertEqual(self.script.ends, [])

    def test_reload(self) -> None:
        """
        After a reload the new script is told of the flows that were joined under the old one,
        but not of those that were joined when there was none.
        """
        self.configure()
        before = self.join()
        self.configure(script=self.script)
        during = self.join()
        new = FakeScript()
        self.configure(script=new)
        for number in (before, during):
            self.engine.end(number)
        self.assertEqual(([flow.id for flow, _ in new.ends], self.script.ends), ([during], []))
        last = self.join()
        self.configure()
        self.assertTrue(self.router.followsFlows)
        self.engine.end(last)
        self.assertFalse(self.router.followsFlows)
        self.assertEqual(len(new.ends), 1)


class AgainTests(FollowCase):
    """
    Tests for flows that are judged again.
    """

    def setUp(self) -> None:
        """Flows are to be judged again."""
        super().setUp()
        self.configure(self.judge, again=True)

    def reload(self, **decisions: Decision) -> FakeJudge:
        """There are other rules, by the last number of a destination's address."""
        judge = FakeJudge()
        judge.decisions = {f"192.0.2.{key[1:]}": each for key, each in decisions.items()}
        self.configure(judge, again=True)
        return judge

    def test_elsewhere(self) -> None:
        """Flows that would go elsewhere now end, and the others go on; the log tells how many."""
        first, second = self.join(), self.join(OTHER)
        judge = self.reload(_7=REJECTED)
        self.assertEqual(self.open, {second})
        self.assertEqual([name for _, name in judge.again], ["", ""])
        self.assertEqual(
            self.lines("info"),
            [
                "The rules have changed: of 2 open connections, 1 were ended, because they would "
                "go elsewhere now"
            ],
        )
        self.assertNotIn(first, self.engine._flows)

    def test_sameWay(self) -> None:
        """Another rule, or another name of an upstream, is no other way."""
        number = self.join()
        self.upstreams.byName["office"] = self.upstream
        self.reload(_7=Decision(Verdict.PROXY, "#5", upstream="office"))
        self.assertEqual((self.open, self.lines("info")), ({number}, []))

    def test_name(self) -> None:
        """A flow is judged by the name that it was judged by."""
        self.judge.decisions[PLACE.host] = Decision(Verdict.PROXY, "#1", name="a.example")
        self.join()
        self.assertEqual([name for _, name in self.reload().again], ["a.example"])

    def test_keep(self) -> None:
        """Flows that began while they were to be kept are left alone, and so are all if that is
        what the new configuration says."""
        self.configure(self.judge)
        kept = self.join()
        self.assertFalse(self.router.followsFlows)
        self.reload(_7=REJECTED)
        self.assertEqual(self.open, {kept})
        other = self.join(OTHER)
        judge = FakeJudge()
        judge.decisions[OTHER.host] = REJECTED
        self.configure(judge)
        self.assertEqual((self.open, judge.again), ({kept, other}, []))

    def test_doubt(self) -> None:
        """
        A flow is left alone if the judge is in doubt, if routes are the reason, or if the script
        has decided about it.
        """
        decisions = (
            (Decision(Verdict.PROXY, "#1"), Decision(Verdict.REJECT, "no-way")),
            (Decision(Verdict.PROXY, "#1"), Decision(Verdict.REJECT, "loop")),
            (Decision(Verdict.PROXY, "script"), REJECTED),
        )
        for before, after in decisions:
            judge = self.reload()
            judge.decisions[PLACE.host] = before
            number = self.join()
            self.reload(_7=after)
            self.assertIn(number, self.open)
        number = self.join(OTHER)
        judge = FakeJudge()
        judge.doubts.add(OTHER.host)
        self.configure(judge, again=True)
        self.assertIn(number, self.open)

    def test_batches(self) -> None:
        """Many flows are judged in several turns of the reactor."""
        for _ in range(2 * BATCH):
            self.join()
        judge = self.reload(_7=REJECTED)
        self.assertEqual(len(judge.again), BATCH)
        self.clock.advance(0)
        self.assertEqual((len(judge.again), self.open), (2 * BATCH, set()))
        self.clock.advance(0)
        self.assertEqual(len(self.lines("info")), 1)

    def test_anotherReload(self) -> None:
        """A reload in the middle of a round begins anew, with the newest rules only."""
        for _ in range(BATCH + 1):
            self.join()
        first = self.reload()
        second = self.reload()
        self.clock.advance(0)
        self.assertEqual((len(first.again), len(second.again)), (BATCH, BATCH + 1))

    def test_later(self) -> None:
        """Where the decision takes a while, the flow is open meanwhile; a decision that comes too
        late changes nothing."""
        first, second = self.join(), self.join(OTHER)
        answers: list[Deferred[Decision]] = []

        def judgeAgain(flow: Flow, before: Decision) -> Deferred[Decision]:
            answers.append(Deferred())
            return answers[-1]

        judge = FakeJudge()
        self.patch(judge, "judgeAgain", judgeAgain)
        self.configure(judge, again=True)
        answers[0].callback(REJECTED)
        self.assertEqual((self.open, self.lines("info")), ({second}, []))
        self.clock.advance(ANSWER_LIMIT)
        self.assertEqual(self.open, {second})
        self.assertIn("of 2 open connections, 1 were ended", self.lines("info")[0])
        self.assertNotIn(first, self.open)

    def test_broken(self) -> None:
        """An internal error is logged, and the flow is left alone."""
        number = self.join()
        judge = FakeJudge()
        broken: Deferred[Decision] = Deferred()
        self.patch(judge, "judgeAgain", lambda flow, before: broken)
        self.configure(judge, again=True)
        broken.errback(ZeroDivisionError())
        self.assertEqual((self.open, len(self.lines("critical"))), ({number}, 1))

    def test_dialled(self) -> None:
        """A flow whose dial, or decision, was under way is judged again when it is joined."""
        self.engine.request()
        undecided: Deferred[Decision] = Deferred()
        judge = FakeJudge()
        self.patch(judge, "judge", lambda flow, sniff: undecided)
        self.configure(judge, again=True)
        self.engine.request(OTHER)
        self.reload(_1=REJECTED, _8=REJECTED)
        self.addCleanup(self.upstream.answer().close)
        undecided.callback(Decision(Verdict.PROXY, "default"))
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.open, set())
        self.assertEqual(len(self.engine.joined), 2)

    def test_datagrams(self) -> None:
        """
        With the first UDP flow that would go elsewhere its association ends; those of other
        sources go on.
        """
        self.send()
        self.send(OTHER)
        (association,) = self.engine.associations
        self.engine.requestDatagrams(PLACE, Endpoint("198.18.0.2", 40001))
        self.upstream.answerDatagrams()
        self.assertEqual(len(self.engine.associations), 2)
        self.reload(_8=REJECTED)
        self.assertEqual(len(self.engine.associations), 1)
        self.assertNotIn(association, self.engine.associations)
        self.assertIn("1 were ended", self.lines("info")[0])

    def test_stop(self) -> None:
        """At the stop nothing is judged any more."""
        for _ in range(BATCH + 1):
            self.join()
        judge = self.reload()
        self.router.stop()
        self.clock.advance(0)
        self.assertEqual(len(judge.again), BATCH)


class OpenFlowsTests(SynchronousTestCase):
    """
    Tests for L{OpenFlows}.
    """

    def test_bounded(self) -> None:
        """Of too many UDP flows the earliest is forgotten; one decided anew is a new one."""
        flows = OpenFlows(Clock(), 2)
        decision, upstream = Decision(Verdict.PROXY, "default"), FakeUpstream()
        for number, port in enumerate((1, 2, 1, 3)):
            source = Endpoint("198.18.0.2", port)
            flows.send(Flow(number, Protocol.UDP, source, PLACE), decision, upstream, "way")
        self.assertEqual([each.flow.id for each in flows.again()], [2, 3])
