"""
Tests for L{nanotun.upstream.group.sole}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.logger import Logger, LogLevel
from zope.interface.verify import verifyClass

from nanotun.errors import AuthenticationError, DestinationSilent, ProxyError, UpstreamRefused
from nanotun.interfaces import IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.testing import FakeUpstream, NamedFakeUpstream
from nanotun.upstream.group.breaker import FAULTS, SUCCESSES
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.health import CHECK_TIMEOUT, FRESH
from nanotun.upstream.group.member import SILENCE, Member
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.group.tries import DOUBT_TIME
from tests.unit.upstream.group_cases import DESTINATION, INTERVAL, TIMEOUT, GroupCase, fault
from tests.unit.upstream.upstream_cases import ReactorCase, UpstreamContract

DOWN = "The proxy a cannot be reached."


class SoleTests(GroupCase):
    """
    Tests for L{SoleUpstream}.
    """

    count = 1

    def makeGroup(self, timeout: float = TIMEOUT) -> GroupUpstream:
        """The fake, on its own."""
        verifyClass(IUpstream, SoleUpstream)
        self.trouble = TroubleLog(self.clock, Logger(namespace="test"))
        return SoleUpstream(self.fakes[0], self.clock, timeout, INTERVAL, self.trouble, lambda: 0.5)

    def begin(self) -> None:
        """Start it; the first check is under way."""
        self.group.startService()
        self.addCleanup(self.trouble.stop)
        self.addCleanup(self.group.stopService)

    def health(self) -> tuple[str, str]:
        """Its health, and what is wrong."""
        now = self.clock.seconds()
        return self.member(0).health(now), self.member(0).trouble(now)

    def test_described(self) -> None:
        """It looks like the upstream itself: no policy, and no other name."""
        self.assertEqual((self.group.describe(), self.group.policyName), ("a", None))

    def test_own(self) -> None:
        """Another upstream may be asked in its name, and the outcome is about it."""
        own = NamedFakeUpstream("own")
        asked = []

        def ownOf(member: Member) -> FakeUpstream:
            asked.append(member)
            return own

        dial = self.group.connect(DESTINATION, ownOf)
        legs = self.group.associate(4, ownOf), self.group.associateNamed(6, ownOf)
        self.assertEqual(asked, [self.member(0)] * 3)
        self.assertEqual((own.asked, own.families, own.namedFamilies), ([DESTINATION], [4], [6]))
        own.fail(fault())
        self.failureResultOf(dial, ProxyError)
        self.assertEqual(self.health(), ("down", DOWN))
        for leg in legs:
            own.answerDatagrams()
            self.tookDatagrams(leg)
        self.assertEqual((self.asked(), self.fakes[0].families), ([0], []))

    def test_firstCheck(self) -> None:
        """If the first check fails, the proxy is down at once, with one error line."""
        self.begin()
        self.assertEqual(self.health(), ("unknown", ""))
        self.fakes[0].answerCheck(fault())
        self.assertEqual(self.health(), ("down", DOWN))
        self.assertEqual(self.lines(LogLevel.error), [DOWN])

    def test_well(self) -> None:
        """A check that passes says that it is up; no UDP association is opened for that."""
        self.begin()
        self.fakes[0].answerCheck()
        self.assertEqual(self.health(), ("up", ""))
        self.assertEqual((self.fakes[0].families, self.lines()), ([], []))

    def test_silent(self) -> None:
        """A proxy that is silent is down before the check's own deadline."""
        self.begin()
        self.clock.advance(SILENCE)
        health, trouble = self.health()
        self.assertEqual(health, "down")
        self.assertIn("has not answered for 2 s; check that it runs there", trouble)
        self.clock.advance(CHECK_TIMEOUT - SILENCE)
        self.assertIn("a did not answer a check in 4 s", self.health()[1])

    def test_flows(self) -> None:
        """Flows tell of its health as well, and of how long a handshake takes."""
        self.begin()
        self.fakes[0].answerCheck(fault())
        dial = self.dial()
        self.clock.advance(0.5)
        self.answer(0)
        self.took(dial)
        self.assertEqual((self.health(), self.member(0).latency), (("up", ""), 0.5))
        dial = self.dial()
        self.fakes[0].fail(fault())
        self.failureResultOf(dial, ProxyError)
        self.assertEqual(self.health(), ("down", DOWN))
        dial = self.dial()
        self.fakes[0].fail(UpstreamRefused("x"))
        self.failureResultOf(dial, UpstreamRefused)
        self.assertEqual(self.health(), ("up", ""))

    def test_logIn(self) -> None:
        """
        A log-in that only flows try stays wrong until one works, whatever checks say.  Any other
        fault ends with a check that passes.
        """
        self.begin()
        self.fakes[0].answerCheck()
        wrong = AuthenticationError("The proxy a does not accept this password; correct it.")
        for error, after in ((wrong, ("down", str(wrong))), (fault(), ("up", ""))):
            for _ in range(FAULTS):
                dial = self.dial()
                self.fakes[0].fail(error)
                self.failureResultOf(dial, ProxyError)
            for _ in range(SUCCESSES):
                self.clock.advance(FRESH)
                self.group.refresh()
                self.fakes[0].answerCheck()
            self.assertEqual(self.health(), after)
            dial = self.dial()
            self.answer(0)
            self.took(dial)
            self.assertEqual(self.health(), ("up", ""))

    def test_doubt(self) -> None:
        """Silence about a destination, and a flow that is given up, cause a check."""
        self.begin()
        self.fakes[0].answerCheck()
        self.clock.advance(INTERVAL / 2)
        dial = self.dial()
        self.fakes[0].fail(DestinationSilent("x"))
        self.failureResultOf(dial, DestinationSilent)
        self.assertEqual((len(self.fakes[0].checks), self.health()[0]), (1, "up"))
        self.fakes[0].answerCheck()
        self.clock.advance(INTERVAL / 2)
        dial = self.dial()
        self.clock.advance(DOUBT_TIME)
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual((len(self.fakes[0].checks), self.fakes[0].cancelled), (1, 1))

    def test_oneLine(self) -> None:
        """The same sentence of the check and of flows is one line, with their number."""
        self.begin()
        self.fakes[0].answerCheck(fault())
        self.trouble.report(DOWN)
        self.assertEqual(self.lines(LogLevel.error), [DOWN])
        self.trouble.stop()
        self.assertEqual(self.lines(LogLevel.error), [f"{DOWN} (1 more)"])

    def test_refresh(self) -> None:
        """
        Whoever asks waits for the check under way, or for a new one if the last is old, also
        while it is down; what is new is not asked again.
        """
        self.assertNoTimer(self.group)
        self.begin()
        first, second = self.group.refresh(), self.group.refresh()
        self.assertNoResult(first)
        self.fakes[0].answerCheck(fault())
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.group.refresh())
        self.clock.advance(FRESH)
        third = self.group.refresh()
        self.assertNoResult(third)
        self.fakes[0].answerCheck()
        self.successResultOf(third)
        self.assertEqual(self.health(), ("up", ""))
        self.clock.advance(FRESH)
        last = self.group.refresh()
        self.group.stopService()
        self.successResultOf(last)
        self.group.startService()

    def assertNoTimer(self, group: GroupUpstream) -> None:
        """One that is not started is not asked."""
        self.successResultOf(group.refresh())
        self.assertEqual(self.fakes[0].checks, [])


class PlannedSoleTests(SoleTests):
    """The same, by dial plans."""

    plans = True


class ContractTests(UpstreamContract, ReactorCase):
    """
    It keeps the promises of L{IUpstream}.
    """

    def makeUpstream(self, port: int, timeout: float = 5.0) -> IUpstream:
        """The scripted proxy alone."""
        trouble = TroubleLog(self.reactor, Logger())
        return SoleUpstream(self.proxy(port, timeout), self.reactor, timeout, 30.0, trouble)
