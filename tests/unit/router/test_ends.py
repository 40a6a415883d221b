"""
Tests for L{nanotun.router.ends} and L{nanotun.router.flowlines}, by way of the router.
"""

from __future__ import annotations

import errno

from twisted.logger import Logger, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.flow import Decision, Endpoint, FlowEnd, Note, Owner, Verdict
from nanotun.interfaces import IEndObserver
from nanotun.router import flowlines
from nanotun.router.ends import EndObservers
from nanotun.router.flowlines import NAMESPACE, FlowLines
from nanotun.testing import FakeNames
from tests.unit.router.dial_cases import PlannedCase
from tests.unit.router.test_router import RouterCase

PLACE = Endpoint("192.0.2.7", 443)
FAKE = Endpoint("198.19.0.1", 443)
RULED = Decision(Verdict.PROXY, "#2", "rule 2 says so", name="a.example")


@implementer(IEndObserver)
class Heard:
    """
    Who wants to know.

    @ivar ends: what it was told.
    @ivar error: raised each time, if set.
    """

    def __init__(self) -> None:
        self.ends: list[tuple[FlowEnd, Note | None]] = []
        self.error: Exception | None = None

    def flowEnded(self, end: FlowEnd, note: Note | None) -> None:
        """See L{IEndObserver.flowEnded}."""
        if self.error is not None:
            raise self.error
        self.ends.append((end, note))


class EndsCase(RouterCase):
    """Flows that the router joins, whose ends somebody wants to know."""

    def setUp(self) -> None:
        """A rule has decided about one place, and somebody wants to know."""
        super().setUp()
        self.judge.decisions[PLACE.host] = RULED
        self.heard = Heard()
        verifyObject(IEndObserver, self.heard)

    def join(self) -> int:
        """A flow is joined; returns its id."""
        request = self.engine.request(PLACE)
        self.addCleanup(self.upstream.answer().close)
        return request.flow.id

    def send(self) -> int:
        """Datagrams are attached; returns their flow's id."""
        request = self.engine.requestDatagrams(PLACE)
        self.upstream.answerDatagrams()
        return request.flow.id


class EndsTests(EndsCase):
    """L{EndObservers}."""

    def test_told(self) -> None:
        """Who wants to know is told of TCP and UDP flows, once, with what was decided."""
        self.router.ends.follow(self.heard)
        self.router.ends.follow(self.heard)
        first, second = self.join(), self.send()
        self.engine.carried[first] = 10, 20
        self.engine.ages[first] = 2.5, 0.5
        self.engine.end(first, errno.ECONNRESET)
        self.engine.endDatagrams(second)
        self.assertEqual([end.flow.id for end, _ in self.heard.ends], [first, second])
        end, note = self.heard.ends[0]
        self.assertEqual(end[1:4], (errno.ECONNRESET, 10, 20))
        self.assertEqual(end.seconds, 2.5)
        assert note is not None
        self.assertEqual(
            note[:5], (Verdict.PROXY, "#2", "proxy", self.upstream.describe(), "a.example")
        )

    def test_before(self) -> None:
        """Flows that began before are told as well, with what was decided then."""
        first = self.join()
        self.judge.decisions[PLACE.host] = RULED._replace(rule="#1")
        self.router.ends.follow(self.heard)
        self.engine.end(first)
        ((_, note),) = self.heard.ends
        assert note is not None
        self.assertEqual(note.rule, "#2")

    def test_nobody(self) -> None:
        """While nobody wants to know, the engine need not tell, and nothing is kept."""
        self.assertEqual((self.router.followsFlows, self.engine.followsDatagrams), (False, False))
        other = Heard()
        self.router.ends.follow(self.heard)
        self.router.ends.follow(other)
        self.assertEqual((self.router.followsFlows, self.engine.followsDatagrams), (True, True))
        self.router.ends.unfollow(self.heard)
        self.assertEqual((self.router.followsFlows, self.engine.followsDatagrams), (True, True))
        self.router.ends.unfollow(other)
        self.router.ends.unfollow(other)
        self.assertEqual((self.router.followsFlows, self.engine.followsDatagrams), (False, False))
        self.engine.end(self.join())
        self.assertEqual((self.heard.ends, other.ends), ([], []))

    def test_broken(self) -> None:
        """One that fails keeps nothing from the others, and its bug is in the log."""
        self.patch(EndObservers, "_log", Logger(observer=self.logged.append, namespace="test"))  # type: ignore[arg-type]
        broken = Heard()
        broken.error = ValueError("a bug")
        self.router.ends.follow(broken)
        self.router.ends.follow(self.heard)
        self.engine.end(self.join())
        self.assertEqual(len(self.heard.ends), 1)
        self.assertEqual(len(self.lines("critical")), 1)


class NamedEndsTests(PlannedCase):
    """What the names are told, where fake addresses have to be kept in use."""

    def makeNames(self) -> FakeNames:
        """Names that want to know of flows."""
        return FakeNames()

    def setUp(self) -> None:
        """Decisions about a fake address stand."""
        super().setUp()
        self.upstream.standing = True
        self.judge.standing[FAKE.host] = 60.0
        self.names.known[FAKE.host] = "a.example"
        self.observer = Heard()
        self.router.ends.follow(self.observer)

    def test_standing(self) -> None:
        """A flow of a standing decision is told, and its name stays in use as long as that."""
        ids = [self.engine.request(FAKE).flow.id for _ in range(3)]
        for each in ids:
            self.openDial(each)
        # Two were joined by the router, and the decision holds the name for the rest.
        self.assertEqual(len(self.names.open), 3)
        self.engine.end(ids[2])
        ((end, note),) = self.observer.ends
        self.assertTrue(end.standing)
        assert note is not None
        self.assertEqual((note.rule, note.name), ("default", "a.example"))
        self.assertEqual(len(self.names.open), 3)
        for each in ids[:2]:
            self.engine.end(each)
        self.router.withdraw()
        self.assertEqual(self.names.open, [])

    def test_datagrams(self) -> None:
        """The end of datagrams does not end the use of a name, which their association has."""
        request = self.engine.requestDatagrams(FAKE)
        self.upstream.answerDatagrams()
        self.names.answer("192.0.2.7")
        self.assertEqual(self.names.open, [FAKE.host])
        self.engine.endDatagrams(request.flow.id)
        self.assertEqual(self.names.open, [FAKE.host])
        (association,) = self.router.associations.present
        association.close()
        self.assertEqual(self.names.open, [])


class FlowLinesTests(EndsCase):
    """C{logFlows}."""

    def setUp(self) -> None:
        """Each flow is logged."""
        super().setUp()
        log = Logger(observer=self.logged.append, namespace=NAMESPACE)  # type: ignore[arg-type]
        self.patch(flowlines, "linesLog", log)

    def configure(self, logFlows: bool) -> None:
        """Read the configuration again."""
        upstreams = self.router._upstreams
        self.router.configure(self.judge, upstreams, False, logFlows=logFlows)

    def test_line(self) -> None:
        """Each flow that has ended is one line at info, with all that is known of it."""
        self.configure(True)
        owner = Owner(17, 1000, "curl", "/usr/bin/curl")
        self.judge.decisions[PLACE.host] = RULED._replace(owner=owner)
        number = self.join()
        self.engine.carried[number] = 1234, 56789
        self.engine.ages[number] = 12.5, 0.0
        self.assertEqual(self.lines("info"), [])
        self.engine.end(number)
        self.assertEqual(
            self.lines("info"),
            [
                f"TCP flow {number} of curl (pid 17) from 198.18.0.2:40000 to 192.0.2.7:443 "
                "(a.example) by proxy, fake:// (rule #2) ended: 1234 bytes up, 56789 down, "
                "12.500 s, closed"
            ],
        )
        (event,) = (each for each in self.logged if each["log_level"].name == "info")
        self.assertEqual((event["up"], event["pid"], event["how"]), (1234, 17, "closed"))
        self.assertEqual(event["log_namespace"], "nanotun.router.flows")

    def test_live(self) -> None:
        """A reload begins with it, also for open flows, and ends it."""
        first = self.join()
        self.configure(True)
        self.engine.end(first)
        self.assertEqual(len(self.lines("info")), 1)
        self.configure(True)
        self.engine.end(self.join())
        self.assertEqual(len(self.lines("info")), 2)
        second = self.join()
        self.configure(False)
        self.engine.end(second)
        self.assertEqual(len(self.lines("info")), 2)

    def test_ends(self) -> None:
        """A line says how the flow has ended."""
        self.configure(True)
        for error, word in (
            (errno.ECONNRESET, "reset"),
            (errno.ETIMEDOUT, "timed out"),
            (errno.ECONNABORTED, "ended by nanotun"),
            (errno.EPIPE, "EPIPE"),
        ):
            self.engine.end(self.join(), error)
            self.assertEqual(self.lines("info")[-1].rpartition(" s, ")[2], word)
        self.engine.endDatagrams(self.send())
        self.assertTrue(self.lines("info")[-1].endswith(" s, idle"))

    def test_unknown(self) -> None:
        """What is not known is left out, and what is served has no upstream."""
        lines = FlowLines(self.names)
        number = self.join()
        flow = self.engine._flows[number]
        lines.flowEnded(FlowEnd(flow, 0, 1, 2), None)
        served = Note(Verdict.SERVE, "gateway", "", "", owner=Owner(0, 1000))
        lines.flowEnded(FlowEnd(flow, 0, 1, 2), served)
        direct = Note(Verdict.DIRECT, "lan", "direct", "direct://")
        lines.flowEnded(FlowEnd(flow, 0, 1, 2), direct)
        source = "from 198.18.0.2:40000 to 192.0.2.7:443"
        ended = "ended: 1 bytes up, 2 down, 0.000 s, closed"
        self.assertEqual(
            [formatEvent(each) for each in self.logged if each["log_level"].name == "info"],
            [
                f"TCP flow {number} {source} {ended}",
                f"TCP flow {number} of uid 1000 {source} (rule gateway) {ended}",
                f"TCP flow {number} {source} by direct (rule lan) {ended}",
            ],
        )
