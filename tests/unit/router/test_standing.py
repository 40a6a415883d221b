"""
Tests for L{nanotun.router.standing}: flows that the engine dials without asking.
"""

from __future__ import annotations

import errno
import math

from twisted.internet.defer import Deferred

from nanotun.flow import Decision, Endpoint, Flow, Known, Refusal, Verdict
from nanotun.interfaces import DialEnd, DialEndKind
from nanotun.router import standing
from nanotun.testing import FakeJudge, FakeNames, FakeScript, FakeUpstreams
from tests.unit.router.dial_cases import PlannedCase

WEB = Endpoint("192.0.2.1", 80)
FAKE = Endpoint("198.19.0.1", 443)
GUEST = Endpoint("198.51.100.7", 50000)
REFUSED = DialEnd(DialEndKind.HANDED, 0, 1, 0, -1, b"\5\5", 0.1)


class StandingCase(PlannedCase):
    """A judge whose decisions about two destinations stand, and plans that do."""

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.upstream.standing = True
        self.judge.standing = {WEB.host: math.inf, FAKE.host: 60.0}

    def ask(self, destination: Endpoint = WEB, source: Endpoint | None = None) -> int:
        """An app asks for a connection, which the engine opens.  Returns the flow's id."""
        if source is None:
            request = self.engine.request(destination)
        else:
            request = self.engine.request(destination, source)
        self.openDial(request.flow.id)
        return request.flow.id

    def standing(self) -> list[tuple[Endpoint, bool, float]]:
        """The decisions that stand in the engine: for which flows, and for how long."""
        return [
            (each.destination, each.ours, each.seconds)
            for each in self.engine.standing.values()
            if each.current
        ]


class StandingTests(StandingCase):
    """
    Tests for when a decision stands.
    """

    def test_second(self) -> None:
        """
        The decision stands once a second flow to a destination is dialled, and not for a
        destination that is asked for once, as by a scan; the next flows are not judged.
        """
        for port in range(1, 50):
            self.ask(Endpoint(WEB.host, port))
        self.assertEqual(self.standing(), [])
        self.ask(Endpoint(WEB.host, 7))
        self.assertEqual(self.standing(), [(Endpoint(WEB.host, 7), True, math.inf)])
        judged = len(self.judge.judged)
        self.ask(Endpoint(WEB.host, 7))
        self.assertEqual(len(self.judge.judged), judged)

    def test_forgotten(self) -> None:
        """
        A destination that was asked for long before many others counts as new.
        """
        self.router.dialling.standing._seenLimit = 10
        self.ask()
        for port in range(100, 110):
            self.ask(Endpoint(WEB.host, port))
        self.ask()
        self.assertEqual(self.standing(), [])
        self.ask()
        self.assertEqual(len(self.standing()), 1)

    def test_notForgotten(self) -> None:
        """
        A destination that is asked for again and again is not forgotten for others.
        """
        self.router.dialling.standing._seenLimit = 10
        self.judge.standing.clear()
        for port in range(100, 120):
            self.ask()
            self.ask(Endpoint(WEB.host, port))
        self.judge.standing[WEB.host] = math.inf
        self.clock.advance(standing.RENEWAL)
        self.ask()
        self.assertEqual(self.standing(), [(WEB, True, math.inf)])

    def test_askedSeldom(self) -> None:
        """
        The judge is asked now and then about a destination whose decision does not stand.
        """
        asked: list[Flow] = []
        self.patch(self.judge, "stands", lambda flow, _: asked.append(flow))
        for expected in (1, 2):
            for _ in range(5):
                self.ask()
            self.assertEqual(len(asked), expected)
            self.clock.advance(standing.RENEWAL)

    def test_others(self) -> None:
        """
        Flows of this machine and of others have decisions of their own.
        """
        self.gateway.strangers = {GUEST.host}
        for _ in range(2):
            self.ask()
        self.ask(source=GUEST)
        self.assertEqual(self.standing(), [(WEB, True, math.inf)])
        self.ask(source=GUEST)
        self.assertEqual(self.standing(), [(WEB, True, math.inf), (WEB, False, math.inf)])

    def test_mayNot(self) -> None:
        """
        It does not if the judge or the upstream says no, or if there is no plan.
        """
        for _ in range(3):
            self.ask(Endpoint("192.0.2.9", 80))
        self.upstream.standing = False
        for _ in range(3):
            self.ask()
        self.upstream.plans = False
        for _ in range(3):
            self.engine.request()
        self.assertEqual(self.engine.standing, {})

    def test_followed(self) -> None:
        """
        It does not while anybody wants to know of each flow: for debug lines, for a script, or to
        judge it again.
        """
        script = FakeScript()
        script.followsFlows = True
        upstreams = FakeUpstreams(self.upstream, self.direct)
        for debug, told, again in (
            (True, None, False),
            (False, script, False),
            (False, None, True),
        ):
            self.router.configure(self.judge, upstreams, debug, told, again)
            for _ in range(3):
                self.ask()
            self.assertEqual(self.engine.standing, {}, (debug, told, again))

    def test_said(self) -> None:
        """
        It does not if the flow has said a name that others may not mean.
        """
        self.names.known[WEB.host] = "last.example"
        self.names.several[WEB.host] = Known(("last.example", "first.example"))
        decision = Decision(Verdict.PROXY, "#1", "why", name="first.example")
        self.judge.decisions[WEB.host] = decision
        for _ in range(3):
            self.ask()
        self.assertEqual(self.standing(), [])

    def test_noRoom(self) -> None:
        """
        If the engine takes no decision, or not this one, everything goes on without, and it is
        asked again after a while.
        """
        asked: list[Endpoint] = []

        def stand(destination: Endpoint, *_: object) -> int:
            asked.append(destination)
            if destination == FAKE:
                raise OSError(errno.EINVAL, "no such course")
            return 0

        self.patch(self.engine, "stand", stand)
        for destination in (WEB, FAKE):
            for _ in range(4):
                self.ask(destination)
            self.clock.advance(standing.RENEWAL)
            self.ask(destination)
            self.assertEqual(asked, [destination] * 2)
            asked.clear()
        self.assertEqual(self.router.report()["paths"]["engine"], 10)
        self.assertEqual(self.router.dialling.standing.known, {})

    def test_renewed(self) -> None:
        """
        If there is a request in spite of a decision, because there was no room for the flow, the
        decision is given again after a while, or when it has expired.
        """
        for destination, least in ((WEB, standing.RENEWAL), (FAKE, 2.0)):
            self.judge.standing[FAKE.host] = 2.0
            self.engine.room = True
            self.ask(destination)
            self.ask(destination)
            self.engine.room = False
            (number,) = [n for n, each in self.engine.standing.items() if each.current]
            self.clock.advance(least - 0.1)
            self.ask(destination)
            self.assertEqual([*self.engine.standing], [number])
            self.clock.advance(0.1)
            self.ask(destination)
            self.assertEqual([*self.engine.standing], [number + 1])
            self.router.withdraw()

    def test_limit(self) -> None:
        """
        There are not more than a limit: one more, and they begin anew.
        """
        self.router.dialling.standing._limit = 2
        for port in (1, 2, 3):
            for _ in range(2):
                self.ask(Endpoint(WEB.host, port))
        self.assertEqual([each[0].port for each in self.standing()], [3])


class StandingFlowTests(StandingCase):
    """
    Tests for flows to a destination whose decision stands.
    """

    def setUp(self) -> None:
        """A decision that stands."""
        super().setUp()
        for _ in range(2):
            self.engine.end(self.ask())
        self.heard.clear()

    def test_counted(self) -> None:
        """
        Each flow counts as if it had been judged, and the outcomes hear of all of them at once.
        """
        before = self.router.report()["verdicts"]["proxy"]
        for _ in range(5):
            self.ask()
        self.assertEqual(self.heard, [])
        report = self.router.report()
        self.assertEqual(report["verdicts"], {"proxy": before + 5})
        self.assertEqual(report["rules"], {"default": before + 5})
        self.assertEqual(report["paths"], {"engine": 2, "standing": 5, "general": 0})
        self.assertEqual(self.heard, [("opened", 5, 0.01, 0)])
        self.assertEqual(self.router.carried, 7)

    def test_underWay(self) -> None:
        """
        A flow that is being dialled counts, and is not joined yet.
        """
        self.engine.request()
        report = self.router.report()
        self.assertEqual((report["rules"]["default"], report["paths"]["standing"]), (3, 0))
        self.assertEqual(self.heard, [])

    def test_failed(self) -> None:
        """
        A flow that the engine could not dial goes on as any other: it may be joined, or the app
        sees the error.
        """
        first, second = self.engine.request(), self.engine.request()
        for each in (first, second):
            self.engine.endDial(each.flow.id, REFUSED)
        self.assertEqual(self.heard, [("resume", REFUSED)] * 2)
        self.assertEqual(self.router.pending, 2)
        self.assertEqual(self.router.report()["rules"], {"default": 4})
        self.addCleanup(self.upstream.answer(b"x").close)
        self.assertEqual(self.engine.joined[first.flow.id][1], b"x")
        self.engine.abandon(second.flow.id)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertEqual(self.router.report()["paths"], {"engine": 2, "standing": 0, "general": 1})

    def test_silent(self) -> None:
        """
        A dial that takes long is told to the outcomes, with the patience that is over, and so is
        its end.
        """
        request = self.engine.request()
        self.engine.goSilent(request.flow.id)
        self.assertEqual(self.heard, [("silent", 3.0)])
        self.engine.endDial(request.flow.id, REFUSED)
        (dial,) = self.upstream.silences
        self.assertEqual(self.successResultOf(dial), REFUSED)
        self.assertEqual(self.router.pending, 1)

    def test_abandoned(self) -> None:
        """
        The outcomes hear for how long a dial had gone on when its app gave up, though nobody knew
        the flow.
        """
        for seconds in (4.0, 7.0, 1.0):
            self.engine.abandon(self.engine.request().flow.id, seconds)
        self.engine.tellStood()
        self.assertEqual(self.heard, [("abandoned", 7.0)])

    def test_withdrawn(self) -> None:
        """
        Once they are withdrawn the next flow is judged; those that were dialled before go on, by
        what was decided about them.
        """
        old = self.engine.request()
        self.router.withdraw()
        judged = len(self.judge.judged)
        self.ask()
        self.assertEqual(len(self.judge.judged), judged + 1)
        self.heard.clear()
        self.engine.endDial(old.flow.id, REFUSED)
        self.assertEqual(self.heard, [("resume", REFUSED)])
        # The destination is a known one, so the decision stands again at once.
        self.assertEqual(len(self.standing()), 1)

    def test_cheap(self) -> None:
        """
        To withdraw them again and again does nothing.
        """
        self.router.withdraw()
        self.patch(self.engine, "withdraw", lambda: self.fail("withdrawn"))
        self.router.withdraw()

    def test_forgotten(self) -> None:
        """
        When a decision is over and its last flow has ended, nothing is left of it.
        """
        flowID = self.ask()
        self.router.withdraw()
        self.assertEqual(len(self.router.dialling.standing.known), 1)
        self.engine.end(flowID)
        self.assertEqual(self.router.dialling.standing.known, {})
        self.assertEqual(self.engine.standing, {})

    def test_expired(self) -> None:
        """
        When a decision has expired and its last flow has ended, the next flow brings it back.
        """
        (number,) = self.engine.standing
        self.engine.expire(number)
        self.assertEqual(self.router.dialling.standing.known, {})
        self.ask()
        self.assertEqual(self.standing(), [(WEB, True, math.inf)])

    def test_configured(self) -> None:
        """
        Another configuration withdraws them, and what they decided before counts as before.
        """
        self.judge.decisions[WEB.host] = Decision(Verdict.PROXY, "#1", "why")
        self.configure()
        for _ in range(3):
            self.ask()
        self.assertEqual(self.heard[-1], ("opened", 1, 0.01, 0))
        self.configure()
        self.assertEqual(self.standing(), [])
        self.router.tally.rulesChanged()
        self.assertEqual(self.router.report()["rules"], {"default": 2})

    def test_changedMeanwhile(self) -> None:
        """
        They may be withdrawn by whoever hears that a dial has succeeded.
        """
        self.patch(self.upstream, "opened", lambda *_: self.router.withdraw())
        self.ask()
        self.engine.tellStood()
        self.assertEqual(self.standing(), [])
        self.assertEqual(self.router.report()["paths"]["standing"], 1)

    def test_olderJudge(self) -> None:
        """
        A decision of an older judge, which took a while, does not stand.
        """
        self.router.withdraw()
        late: Deferred[Decision] = Deferred()
        self.patch(self.judge, "judge", lambda *_: late)
        request = self.engine.request()
        other = FakeJudge()
        other.standing = self.judge.standing
        self.router.configure(other, FakeUpstreams(self.upstream, self.direct), False)
        late.callback(Decision(Verdict.PROXY, "#1", "why"))
        self.assertIn(request.flow.id, self.engine.dialled)
        self.assertEqual(self.standing(), [])

    def test_followedLater(self) -> None:
        """
        A flow of theirs that the engine could not dial is followed if there are debug lines by
        then.
        """
        request = self.engine.request()
        self.configure(debug=True)
        self.engine.endDial(request.flow.id, REFUSED)
        self.addCleanup(self.upstream.answer().close)
        self.engine.end(request.flow.id)
        self.assertIn("ended: 0 bytes up", self.lines("debug")[-1])

    def test_stop(self) -> None:
        """
        The stop withdraws them; a dial that fails after it is refused.
        """
        first, second = self.engine.request(), self.engine.request()
        self.router.stop()
        self.assertEqual(self.standing(), [])
        self.engine.endDial(first.flow.id, REFUSED)
        self.assertEqual(self.engine.refused, {first.flow.id: Refusal.RESET})
        end, far = self.handed()
        self.engine.endDial(second.flow.id, end)
        self.assertEqual(far.recv(1), b"")


class StandingFakeTests(StandingCase):
    """
    Tests for flows to a fake address whose decision stands.
    """

    def makeNames(self) -> FakeNames:
        """One name, with a fake address."""
        names = FakeNames()
        names.known = {FAKE.host: "a.example"}
        return names

    def test_pinned(self) -> None:
        """
        The address stays in use while the decision stands, and until the last flow has ended.
        """
        self.engine.end(self.ask(FAKE))
        self.assertEqual(self.names.open, [])
        self.engine.end(self.ask(FAKE))
        self.assertEqual(self.names.open, [FAKE.host])
        flowID = self.ask(FAKE)
        self.assertEqual(self.names.open, [FAKE.host])
        self.router.withdraw()
        self.assertEqual(self.names.open, [FAKE.host])
        self.engine.end(flowID)
        self.assertEqual(self.names.open, [])

    def test_failed(self) -> None:
        """
        A flow of its own that the general way has joined is counted by itself.
        """
        for _ in range(2):
            self.engine.end(self.ask(FAKE))
        request = self.engine.request(FAKE)
        end = DialEnd(DialEndKind.FAILED, errno.ECONNREFUSED)
        self.engine.endDial(request.flow.id, end)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.names.open, [FAKE.host] * 2)
        self.engine.end(request.flow.id)
        self.router.withdraw()
        self.assertEqual(self.names.open, [])
