"""
Tests for L{nanotun.upstream.group.group} and L{nanotun.upstream.group.members}.
"""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet.defer import CancelledError
from twisted.logger import Logger, LogLevel
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    DatagramsUnsupported,
    NamesUnsupported,
    ProxyError,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.interfaces import INamedDatagrams, IUpstream, LegKind
from nanotun.log.trouble import REPORT_INTERVAL, TroubleLog
from nanotun.testing import FakeUpstream, NamedFakeUpstream
from nanotun.upstream.group.breaker import FAULTS, SUCCESSES
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.tries import PATIENCE
from tests.unit.upstream.group_cases import DESTINATION, GroupCase, fault
from tests.unit.upstream.upstream_cases import ReactorCase, UpstreamContract


class GroupTests(GroupCase):
    """
    Tests for L{GroupUpstream} with failover.
    """

    def test_interface(self) -> None:
        """
        It is an upstream and a service, and its description names all its members.
        """
        verifyClass(IUpstream, GroupUpstream)
        verifyObject(IUpstream, self.group)
        self.assertTrue(IService.providedBy(self.group))
        self.assertEqual(self.group.describe(), "failover of a, b")

    def test_sharesLegs(self) -> None:
        """
        It shares legs if any member does.
        """
        self.assertFalse(self.group.sharesLegs)
        self.fakes[1].sharesLegs = True
        self.assertTrue(self.makeGroup().sharesLegs)

    def test_sendsNames(self) -> None:
        """
        It sends names if any member does.
        """
        self.assertFalse(self.group.sendsNames)
        self.fakes[1].sendsNames = True
        self.assertTrue(self.makeGroup().sendsNames)

    def test_down(self) -> None:
        """
        After enough faults in a row new connections use the other proxy at once, and
        one line says so.
        """
        for number in range(1, FAULTS + 1):
            dial = self.dial()
            self.fakes[0].fail(fault())
            self.answer(1)
            self.took(dial)
            self.assertEqual(self.asked(), [number, number])
        self.through(1)
        self.assertEqual(self.asked(), [FAULTS, FAULTS + 1])
        (line,) = self.lines()
        self.assertEqual(
            line, "The proxy a is down, new connections go by b. The proxy a cannot be reached."
        )

    def test_silent(self) -> None:
        """
        The same is true of a proxy that stays silent.
        """
        for _ in range(FAULTS):
            dial = self.dial()
            self.clock.advance(PATIENCE)
            self.answer(1)
            self.took(dial)
        (line,) = self.lines()
        self.assertIn("The proxy a is down, new connections go by b. It was silent", line)

    def test_back(self) -> None:
        """
        A proxy that is back is used again, and one line says so.
        """
        self.bringDown(0)
        self.lines()
        for _ in range(SUCCESSES):
            self.through(1)
            self.group.members.succeeded(self.member(0))
        self.through(0)
        self.assertEqual(self.lines(), ["The proxy a is back."])

    def test_allDown(self) -> None:
        """
        If all are down, connections still try them, first the one whose back-off ends
        first.  A proxy that opens enough connections is back.
        """
        self.bringDown(1)
        self.clock.advance(1.0)
        self.bringDown(0)
        self.assertIn("a is down, and so are all others", self.lines()[-1])
        for number in range(1, SUCCESSES + 1):
            dial = self.dial()
            self.assertEqual(self.asked(), [0, number])
            self.answer(1)
            self.took(dial)
        self.assertEqual(self.lines(), ["The proxy b is back."])

    def test_flapping(self) -> None:
        """
        A line that repeats is logged once, then counted.
        """
        for _ in range(5):
            self.bringDown(0)
            for _ in range(SUCCESSES):
                self.group.members.succeeded(self.member(0))
        self.assertEqual(len([line for line in self.lines() if "down" in line]), 1)
        self.clock.advance(REPORT_INTERVAL)
        self.assertIn("(4 more in 10 s)", self.lines()[-1])
        self.trouble.stop()

    def test_liveFlows(self) -> None:
        """
        An open connection belongs to the caller: it stays open when its proxy goes
        down.
        """
        dial = self.dial()
        far = self.fakes[0].answer()
        self.addCleanup(far.close)
        self.bringDown(0)
        far.setblocking(False)
        self.assertRaises(BlockingIOError, far.recv, 1)
        self.took(dial)

    def test_logFlows(self) -> None:
        """
        With logFlows, a debug line names the upstream of each try.
        """
        self.group.logFlows = True
        dial = self.dial()
        self.fakes[0].fail(fault())
        self.answer(1)
        self.took(dial)
        association = self.group.associate(4)
        association.cancel()
        self.failureResultOf(association, CancelledError)
        self.assertEqual(
            self.lines(LogLevel.debug)[:3],
            [
                "A connection to 192.0.2.1:443 goes through a",
                "A connection to 192.0.2.1:443 goes through b",
                "A UDP association goes through a",
            ],
        )


class PlannedGroupTests(GroupTests):
    """The same, by dial plans."""

    plans = True


class PolicyTests(GroupCase):
    """
    Tests for L{GroupUpstream} with the other policies.
    """

    count = 3

    def test_roundRobin(self) -> None:
        """
        Flows use the healthy members in turn.
        """
        self.policy = "round-robin"
        self.group = self.makeGroup()
        for index in (0, 1, 2, 0):
            self.through(index)
        self.bringDown(1)
        for index in (0, 2, 0, 2):
            self.through(index)
        self.assertIn("new connections go by a, c.", self.lines()[0])

    def test_leastLatency(self) -> None:
        """
        Each is measured once, then flows use the one whose handshakes are the fastest
        on average.
        """
        self.policy = "least-latency"
        self.group = self.makeGroup()
        for index, seconds in ((0, 0.3), (1, 0.1), (2, 0.2), (1, 0.9), (2, 0.2), (2, 0.9)):
            dial = self.dial()
            self.clock.advance(seconds)
            self.answer(index)
            self.took(dial)
        self.assertAlmostEqual(self.member(1).latency or 0, 0.26)
        self.assertAlmostEqual(self.member(2).latency or 0, 0.34)
        self.through(1)


class PlannedPolicyTests(PolicyTests):
    """The same, by dial plans."""

    plans = True


class DatagramTests(GroupCase):
    """
    Tests for L{GroupUpstream.associate}.
    """

    count = 3

    def test_first(self) -> None:
        """
        The first is asked, with the app's family, and is then known to carry UDP.
        """
        dial = self.group.associate(6)
        self.fakes[0].answerDatagrams(LegKind.DIRECT)
        self.tookDatagrams(dial)
        self.assertEqual([fake.families for fake in self.fakes], [[6], [], []])
        self.assertTrue(self.member(0).datagrams)

    def test_next(self) -> None:
        """
        An upstream that carries no UDP is skipped, now and in the future.
        """
        dial = self.group.associate(4)
        self.fakes[0].failDatagrams(DatagramsUnsupported("x"))
        self.fakes[1].failDatagrams(DatagramsUnsupported("x"))
        self.fakes[2].answerDatagrams()
        self.tookDatagrams(dial)
        dial = self.group.associate(4)
        self.fakes[2].answerDatagrams()
        self.tookDatagrams(dial)
        self.assertEqual([len(fake.families) for fake in self.fakes], [1, 1, 2])

    def test_none(self) -> None:
        """
        If none carries UDP, the error names all of them.
        """
        dial = self.group.associate(4)
        for fake in self.fakes:
            fake.failDatagrams(DatagramsUnsupported("x"))
        text = str(self.failureResultOf(dial, DatagramsUnsupported).value)
        self.assertIn("None of the proxies a, b, c carries UDP", text)

    def test_fault(self) -> None:
        """
        If one that might carry UDP is at fault, that is the error; connections still
        use it.
        """
        dial = self.group.associate(4)
        self.fakes[0].failDatagrams(DatagramsUnsupported("x"))
        self.fakes[1].failDatagrams(fault("b"))
        self.fakes[2].failDatagrams(DatagramsUnsupported("x"))
        self.failureResultOf(dial, ProxyError)
        self.assertEqual(
            [member.datagrams for member in self.group.members.all], [False, None, False]
        )
        self.assertEqual(self.member(1).breaker.faults, 0)

    def test_silent(self) -> None:
        """
        If one is silent, the next is asked as well; an unexpected error of a destination
        is raised as it is.
        """
        dial = self.group.associate(4)
        self.clock.advance(PATIENCE)
        self.fakes[1].answerDatagrams(LegKind.DIRECT)
        self.tookDatagrams(dial)
        self.assertEqual(self.fakes[0].cancelled, 1)
        self.assertTrue(self.member(0).healthy)
        dial = self.group.associate(4)
        self.fakes[1].failDatagrams(UpstreamRefused("x"))  # type: ignore[arg-type]
        self.failureResultOf(dial, UpstreamRefused)


class ContractTests(UpstreamContract, ReactorCase):
    """
    A group whose first proxy is off keeps the promises of L{IUpstream}.
    """

    def makeUpstream(self, port: int, timeout: float = 5.0) -> IUpstream:
        """The scripted proxy behind one that is not there."""
        trouble = TroubleLog(self.reactor, Logger())
        members = [self.proxy(each, timeout) for each in (self.closedPort(), port)]
        return GroupUpstream(members, "failover", self.reactor, timeout, 30.0, trouble)

    async def test_hangs(self) -> None:
        """
        One deadline covers all tries.
        """
        upstream = self.makeUpstream(self.listen(), 0.05)
        await self.assertFailure(upstream.connect(DESTINATION), UpstreamTimeout, ProxyError)
        self.assertClean()
        await self.ended()


class FakesTests(GroupCase):
    """
    Tests for the fakes that these tests use.
    """

    def test_checks(self) -> None:
        """
        A fake's checks are answered in order, without those that were cancelled.
        """
        fake = FakeUpstream()
        given, passed, failed = (fake.check() for _ in range(3))
        given.cancel()
        self.failureResultOf(given)
        fake.answerCheck()
        fake.answerCheck(fault())
        self.successResultOf(passed)
        self.failureResultOf(failed, ProxyError)
        self.assertEqual((fake.cancelled, fake.checks), (1, []))


class NamedGroupTests(GroupCase):
    """Tests for associations by name, with failover."""

    def setUp(self) -> None:
        """The members may take names."""
        super().setUp()
        self.named = [NamedFakeUpstream(name) for name in "ab"]
        self.fakes = list(self.named)
        self.group = self.makeGroup()

    def families(self) -> list[int]:
        """How many legs by name each fake was asked for."""
        return [len(fake.namedFamilies) for fake in self.named]

    def test_order(self) -> None:
        """The first member that takes names is used; one that takes none is not at fault."""
        verifyObject(INamedDatagrams, self.group)
        for _ in range(FAULTS + 1):
            leg = self.group.associateNamed(6)
            self.fakes[0].failDatagrams(NamesUnsupported("none"))
            self.fakes[1].answerDatagrams()
            self.tookDatagrams(leg)
            # As if it had not shown that it carries UDP.
            self.member(1).datagrams = None
        self.assertEqual(self.families(), [FAULTS + 1] * 2)
        self.assertTrue(self.member(0).healthy)
        self.assertIsNone(self.member(0).datagrams)
        self.assertEqual((self.lines(), self.fakes[0].checks), ([], []))

    def test_none(self) -> None:
        """If one is down and the other takes no names, the flow can still go by address; so it
        can if the other carries no UDP."""
        for errors in (
            (fault(), NamesUnsupported("none")),
            (NamesUnsupported("none"), fault()),
            (NamesUnsupported("none"), DatagramsUnsupported("none")),
        ):
            leg = self.group.associateNamed(4)
            # The order may have changed.
            for member in self.group.members.datagramOrder():
                index = self.group.members.all.index(member)
                self.fakes[index].failDatagrams(errors[index])
            self.failureResultOf(leg, NamesUnsupported)

    def test_noDatagrams(self) -> None:
        """If none carries UDP, that is the error."""
        leg = self.group.associateNamed(4)
        for fake in self.fakes:
            fake.failDatagrams(DatagramsUnsupported("none"))
        self.failureResultOf(leg, DatagramsUnsupported)

    def test_unaware(self) -> None:
        """A member that knows nothing of names takes none, and is not asked."""
        self.fakes = [FakeUpstream("a"), self.named[1]]
        leg = self.makeGroup().associateNamed(4)
        self.named[1].answerDatagrams()
        self.tookDatagrams(leg)
        self.assertEqual(self.fakes[0].families, [])

    def test_cancelled(self) -> None:
        """Cancelling it cancels the member's."""
        leg = self.group.associateNamed(4)
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.assertEqual(self.fakes[0].cancelled, 1)
