"""
Tests for L{nanotun.upstream.group.health}, for the checks of real upstreams, and for the
greetings that those use.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
)
from nanotun.interfaces import IHandshake, IHealthCheck
from nanotun.testing import FakeUpstream
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.group.breaker import BACKOFF_FIRST, FAULTS, BreakerState
from nanotun.upstream.group.health import (
    CHECK_TIMEOUT,
    DATAGRAMS_INTERVAL,
    DOUBT_INTERVAL,
    RECHECK_TIME,
)
from nanotun.upstream.group.tries import DOUBT_TIME
from nanotun.upstream.handshakes.socks5 import Socks5Handshake
from nanotun.upstream.reject import RejectUpstream
from tests.unit.upstream.group_cases import INTERVAL, GroupCase, fault
from tests.unit.upstream.upstream_cases import FakeReactor, ReactorCase, unmarkedContext

#: The first back-off with the tests' chance of one half.
FIRST = BACKOFF_FIRST * 0.75


class WatchTests(GroupCase):
    """
    Tests for L{nanotun.upstream.group.health.Watch}, through a group that is started.
    """

    def setUp(self) -> None:
        """Start the group; the first checks pass, and both fakes carry UDP."""
        super().setUp()
        verifyClass(IHealthCheck, FakeUpstream)
        self.group.startService()
        self.addCleanup(self.stopAll)
        for fake in self.fakes:
            fake.answerCheck()
            fake.answerDatagrams()

    def stopAll(self) -> None:
        """At the end no timer and no check is left."""
        if self.group.running:
            self.group.stopService()
        self.trouble.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([fake.checks for fake in self.fakes], [[], []])

    def checks(self) -> list[int]:
        """How many checks of each fake are under way."""
        return [len(fake.checks) for fake in self.fakes]

    def failChecks(self, count: int, error: UpstreamError) -> None:
        """This many checks of the first fake fail, one after the other."""
        for _ in range(count):
            self.fakes[0].answerCheck(error)
            if self.member(0).healthy:
                self.clock.advance(RECHECK_TIME)

    def test_start(self) -> None:
        """
        All members are checked at the start, and again after the interval.
        """
        self.assertEqual(self.checks(), [0, 0])
        self.clock.advance(INTERVAL - 0.1)
        self.assertEqual(self.checks(), [0, 0])
        self.clock.advance(0.1)
        self.assertEqual(self.checks(), [1, 1])

    def test_busy(self) -> None:
        """
        A member that answers flows is not checked.
        """
        self.clock.advance(INTERVAL / 2)
        self.through(0)
        self.clock.advance(INTERVAL / 2)
        self.assertEqual(self.checks(), [0, 1])

    def test_down(self) -> None:
        """
        A check that fails is soon repeated; enough of them open the breaker.
        """
        self.clock.advance(INTERVAL)
        self.failChecks(FAULTS, fault())
        self.assertIs(self.member(0).breaker.state, BreakerState.OPEN)
        (line,) = self.lines()
        self.assertIn("The proxy a is down, new connections go by b. The proxy a cannot", line)
        self.through(1)

    def test_networkMoved(self) -> None:
        """
        In another network a member that is down is checked at once, even if a check of before
        is still to fail; one that is well is not.
        """
        self.clock.advance(INTERVAL)
        self.fakes[1].answerCheck()
        self.failChecks(FAULTS, fault())
        self.assertEqual(self.checks(), [0, 0])
        for _ in range(3):
            self.group.networkMoved()
            self.clock.advance(0)
            self.assertEqual(self.checks(), [1, 0])
            self.group.networkMoved()
            self.fakes[0].answerCheck(fault())
        # A back-off begins, with the shortest time.
        self.assertEqual(self.checks(), [0, 0])
        self.clock.advance(FIRST)
        self.assertEqual(self.checks(), [1, 0])
        self.fakes[0].answerCheck()
        self.clock.advance(RECHECK_TIME)
        self.fakes[0].answerCheck()
        self.assertTrue(self.member(0).healthy)
        self.group.stopService()
        self.group.networkMoved()
        self.assertEqual(self.checks(), [0, 0])

    def test_silent(self) -> None:
        """
        Checks that are not answered in time open it as well.
        """
        self.clock.advance(INTERVAL)
        self.fakes[1].answerCheck()
        for _ in range(FAULTS):
            self.assertEqual(self.checks(), [1, 0])
            self.clock.advance(CHECK_TIMEOUT)
            self.assertEqual(self.checks(), [0, 0])
            self.clock.advance(RECHECK_TIME)
        self.assertIs(self.member(0).breaker.state, BreakerState.OPEN)
        self.assertIn("a did not answer a check in 4 s", self.lines()[0])

    def test_back(self) -> None:
        """
        After its back-off a member is checked twice; then flows use it again, and it is
        asked again whether it carries UDP.
        """
        self.bringDown(0)
        self.clock.advance(FIRST - 0.1)
        self.assertEqual(self.checks(), [0, 0])
        self.clock.advance(0.1)
        self.fakes[0].answerCheck()
        self.assertIs(self.member(0).breaker.state, BreakerState.HALF_OPEN)
        self.through(1)
        self.clock.advance(RECHECK_TIME)
        self.fakes[0].answerCheck()
        self.through(0)
        self.assertEqual(self.lines()[-1], "The proxy a is back.")
        self.assertEqual(self.fakes[0].families, [4, 4])
        self.fakes[0].failDatagrams(DatagramsUnsupported("x"))
        self.assertIs(self.member(0).datagrams, False)

    def test_stillDown(self) -> None:
        """
        If the check after the back-off fails, the next back-off is twice as long.
        """
        self.bringDown(0)
        self.clock.advance(FIRST)
        self.fakes[0].answerCheck(AuthenticationError("x"))
        self.clock.advance(2 * FIRST - 0.1)
        self.assertEqual(self.checks(), [0, 0])
        self.clock.advance(0.1)
        self.assertEqual(self.checks(), [1, 0])

    def test_passedIsNoPardon(self) -> None:
        """
        A check that passes does not clear the faults that flows found.
        """
        for _ in range(FAULTS - 1):
            self.group.members.failed(self.member(0), "x")
        self.clock.advance(INTERVAL)
        self.fakes[0].answerCheck()
        self.assertEqual(self.member(0).breaker.faults, FAULTS - 1)

    def test_notItsFault(self) -> None:
        """
        Running out of sockets says nothing about a proxy; an internal error is logged.
        The checks continue after both.
        """
        self.clock.advance(INTERVAL)
        self.fakes[0].answerCheck(UpstreamError("no more"))
        self.fakes[1].answerCheck(KeyError("x"))  # type: ignore[arg-type]
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual([self.member(each).breaker.faults for each in (0, 1)], [0, 0])
        self.clock.advance(INTERVAL)
        self.assertEqual(self.checks(), [1, 1])

    def test_doubt(self) -> None:
        """
        After a timeout the proxy is checked at once, but not over and over.
        """
        self.clock.advance(DOUBT_INTERVAL)
        for expected in (1, 0):
            dial = self.dial()
            self.fakes[0].fail(UpstreamTimeout("x"))
            self.answer(1)
            self.took(dial)
            self.assertEqual(self.checks(), [expected, 0])
            if expected:
                self.fakes[0].answerCheck()

    def test_oneAtATime(self) -> None:
        """
        No check or probe begins while another one of the member is under way.
        """
        self.clock.advance(INTERVAL - 1.0)
        dial = self.dial()
        self.fakes[0].fail(UpstreamTimeout("x"))
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.clock.advance(1.0)
        self.assertEqual(self.checks(), [1, 1])
        self.bringDown(0)
        self.group.members.succeeded(self.member(0))
        self.group.members.succeeded(self.member(0))
        self.fakes[0].answerCheck()
        self.assertEqual(self.fakes[0].families, [4, 4])

    def test_appGaveUp(self) -> None:
        """
        The proxy is checked if an app gave up after a while, but not if it did so at once.
        """
        self.clock.advance(DOUBT_INTERVAL)
        for seconds, expected in ((DOUBT_TIME / 2, 0), (DOUBT_TIME, 1)):
            dial = self.dial()
            self.clock.advance(seconds)
            dial.cancel()
            self.failureResultOf(dial, CancelledError)
            self.assertEqual(self.checks(), [expected, 0])

    def test_datagramFault(self) -> None:
        """
        After an association failed the proxy is checked and probed for UDP; until a probe
        succeeds, proxies known to carry UDP are preferred.
        """
        self.clock.advance(DOUBT_INTERVAL)
        dial = self.group.associate(4)
        self.fakes[0].failDatagrams(fault())
        self.fakes[1].answerDatagrams()
        self.tookDatagrams(dial)
        dial = self.group.associate(6)
        self.assertEqual(self.fakes[1].families, [4, 4, 6])
        self.fakes[1].answerDatagrams()
        self.tookDatagrams(dial)
        self.fakes[0].answerCheck()
        self.fakes[0].answerDatagrams()
        self.assertIs(self.member(0).datagrams, True)

    def test_datagramProbe(self) -> None:
        """
        Now and then each is asked for an association, which is closed at once.
        """
        self.clock.pump([INTERVAL / 2] * int(2 * DATAGRAMS_INTERVAL / INTERVAL))
        self.assertEqual([fake.families for fake in self.fakes], [[4, 4], [4, 4]])
        before = len(os.listdir("/proc/self/fd"))
        control = self.fakes[0].answerDatagrams()
        self.assertTrue(control.closed)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        self.fakes[1].failDatagrams(fault("b"))
        self.assertIs(self.member(1).datagrams, None)

    def test_datagramProbeInternalError(self) -> None:
        """
        An internal error in a probe is logged.
        """
        self.bringDown(0)
        self.group.members.succeeded(self.member(0))
        self.group.members.succeeded(self.member(0))
        self.fakes[0].failDatagrams(KeyError("x"))  # type: ignore[arg-type]
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_stop(self) -> None:
        """
        Stopping cancels the checks under way and logs nothing about them.
        """
        self.bringDown(0)
        self.lines()
        for _ in range(2):
            self.group.members.succeeded(self.member(0))
        self.clock.advance(INTERVAL)
        self.lines()
        cancelled = [fake.cancelled for fake in self.fakes]
        self.group.stopService()
        self.assertEqual(
            [fake.cancelled for fake in self.fakes],
            [each + n for each, n in zip(cancelled, (1, 1), strict=True)],
        )
        self.assertEqual(self.lines(), [])
        self.group.doubt(self.member(0))
        self.bringDown(0)
        self.trouble.stop()
        self.assertEqual(self.checks(), [0, 0])


class PlannedWatchTests(WatchTests):
    """The same, with flows by dial plans."""

    plans = True


class LogInTests(SynchronousTestCase):
    """
    Tests for L{Socks5Handshake} without a destination.
    """

    def play(self, logIn: Socks5Handshake, *answers: bytes) -> list[bytes]:
        """What it sends at first and after each of the proxy's answers, which come byte by byte."""
        sent = [logIn.begin()]
        for answer in answers:
            self.assertFalse(logIn.done)
            sent.append(b"".join(logIn.receive(bytes([each])) for each in answer))
        return sent

    def test_greeting(self) -> None:
        """
        Without a log-in it is done after the greeting, and sends no request.
        """
        logIn = Socks5Handshake(None, "p")
        verifyObject(IHandshake, logIn)
        self.assertEqual(self.play(logIn, b"\5\0"), [b"\5\1\0", b""])
        self.assertTrue(logIn.done)

    def test_password(self) -> None:
        """
        With a log-in it is done after that.
        """
        logIn = Socks5Handshake(None, "p", (b"u", b"pw"))
        sent = self.play(logIn, b"\5\2", b"\1\0")
        self.assertEqual(sent, [b"\5\2\0\2", b"\1\1u\2pw", b""])
        self.assertTrue(logIn.done)

    def test_wrongPassword(self) -> None:
        """
        A wrong password is an error.
        """
        logIn = Socks5Handshake(None, "p", (b"u", b"pw"))
        self.assertRaises(AuthenticationError, self.play, logIn, b"\5\2", b"\1\1")


class CheckTests(ReactorCase):
    """
    Tests for the checks of real upstreams.
    """

    async def test_passes(self) -> None:
        """
        A proxy that greets passes; the connection is closed.
        """
        upstream = self.proxy(self.listen(b"\5\0"))
        verifyObject(IHealthCheck, upstream)
        await upstream.check()
        self.assertClean()
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"\5\1\0")

    async def test_fails(self) -> None:
        """
        A proxy that cannot be reached or refuses the log-in does not pass.
        """
        await self.failure(ProxyError, self.proxy(self.closedPort()).check())
        upstream = self.proxy(self.listen(b"\5\2", b"\1\1"), user="user:secret@")
        await self.failure(AuthenticationError, upstream.check())
        await self.ended()

    async def test_connectOnly(self) -> None:
        """
        A scheme whose handshake begins with a destination is checked by connecting only.
        """
        await self.proxy(self.listen(), greets=False).check()
        self.assertClean()
        await self.failure(ProxyError, self.proxy(self.closedPort(), greets=False).check())

    async def test_direct(self) -> None:
        """
        Upstreams without a proxy always pass.
        """
        for upstream in (DirectUpstream(unmarkedContext(FakeReactor())), RejectUpstream()):
            verifyObject(IHealthCheck, upstream)
            await upstream.check()
