"""
Tests for L{nanotun.router}.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    AuthenticationError,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import IFlowHandler
from nanotun.router import CAUSE_LIMIT, REPORT_INTERVAL, FlowRouter, TroubleLog
from nanotun.testing import FakeUpstream, MemoryEngine, MemoryTunOpener


class RouterCase(SynchronousTestCase):
    """A router between an engine and an upstream of memory."""

    logFlows = False

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.router = FlowRouter(self.upstream, self.clock, self.logFlows)
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.router._log = log  # type: ignore[misc]
        self.router._trouble._log = log
        self.engine = MemoryEngine()
        self.engine.start(MemoryTunOpener().open("nano0", 1500, "off"), self.router)
        self.addCleanup(self.engine.stop)

    def lines(self, level: str = "error") -> list[str]:
        """What was logged at a level."""
        return [formatEvent(each) for each in self.logged if each["log_level"].name == level]


class FlowTests(RouterCase):
    """
    Tests for a flow's life.
    """

    def test_interface(self) -> None:
        """
        It is what an engine calls.
        """
        verifyClass(IFlowHandler, FlowRouter)
        verifyObject(IFlowHandler, self.router)

    def test_joined(self) -> None:
        """
        The destination is dialled first, then the flow is joined to the leg.
        """
        request = self.engine.request(Endpoint("192.0.2.7", 443))
        self.assertEqual(self.upstream.asked, [Endpoint("192.0.2.7", 443)])
        self.assertEqual(self.engine.joined, {})
        self.assertEqual(self.router.pending, 1)
        far = self.upstream.answer(b"220 hello")
        self.addCleanup(far.close)
        fd, leftover = self.engine.joined[request.flow.id]
        self.assertEqual(leftover, b"220 hello")
        os.write(fd, b"x")
        self.assertEqual(far.recv(10), b"x")
        self.assertEqual(self.router.pending, 0)
        # Nobody needs to hear of the end but those lines.
        self.assertEqual(self.router.followsFlows, self.logFlows)
        self.engine.end(request.flow.id)
        self.assertEqual(self.lines(), [])

    def test_refusals(self) -> None:
        """
        Each error becomes what the app is to see.
        """
        for kind, refusal in (
            (UpstreamRefused, Refusal.RESET),
            (UpstreamHostUnreachable, Refusal.HOST_UNREACHABLE),
            (UpstreamNetUnreachable, Refusal.NET_UNREACHABLE),
            (UpstreamProhibited, Refusal.PROHIBITED),
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
        What the app sees itself is no trouble of ours; the rest is an error.
        """
        for kind in (UpstreamRefused, UpstreamHostUnreachable, UpstreamProhibited):
            self.engine.request()
            self.upstream.fail(kind("not logged"))
        self.engine.request()
        self.upstream.fail(AuthenticationError("The proxy wants a password."))
        self.assertEqual(self.lines(), ["The proxy wants a password."])

    def test_abandoned(self) -> None:
        """
        The app gives up: so does the dial.
        """
        request = self.engine.request()
        self.engine.abandon(request.flow.id)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertEqual(self.router.pending, 0)
        self.assertEqual(self.engine.refused, {})
        # An id that is not waiting is no trouble.
        self.router.flowAbandoned(99)

    def test_goneAtJoin(self) -> None:
        """
        The app gives up at the last moment.
        """
        request = self.engine.request()
        self.engine._waiting.clear()
        far = self.upstream.answer()
        self.addCleanup(far.close)
        self.assertEqual(far.recv(1), b"")
        self.assertNotIn(request.flow.id, self.engine.joined)

    def test_joinFails(self) -> None:
        """
        An engine that cannot join is reported.
        """

        def joinFlow(flowID: int, fd: int, leftover: bytes) -> bool:
            os.close(fd)
            raise OSError(errno.EINVAL, "ns_join: Invalid argument")

        self.engine.joinFlow = joinFlow  # type: ignore[method-assign]
        self.engine.request()
        self.upstream.answer().close()
        self.assertIn("cannot be joined", self.lines()[0])

    def test_flowLimit(self) -> None:
        """
        That the limit is reached is told once, not for each flow; no flow is
        refused for it.
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
        A mistake of ours costs one flow and is logged as such.
        """
        request = self.engine.request()
        bug: Any = ZeroDivisionError()
        self.upstream.fail(bug)
        self.assertEqual(self.engine.refused[request.flow.id], Refusal.RESET)
        self.assertIn("mistake of ours", self.lines("critical")[0])

    def test_stop(self) -> None:
        """
        The stop ends all dials, and refuses their flows and those to come.
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


class LoggingFlowTests(FlowTests):
    """
    The same with a debug line for each flow.
    """

    logFlows = True

    def test_lines(self) -> None:
        """
        The lines say which flow went where, and when it ended.
        """
        request = self.engine.request()
        far = self.upstream.answer()
        self.addCleanup(far.close)
        self.engine.end(request.flow.id, errno.EPIPE)
        first, last = self.lines("debug")
        self.assertIn("from 198.18.0.2:40000 to 192.0.2.1:80 by fake://", first)
        self.assertIn("ended", last)


class TroubleTests(SynchronousTestCase):
    """
    Tests for L{TroubleLog}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.logged: list[str] = []
        log = Logger(
            observer=lambda event: self.logged.append(formatEvent(event)),  # type: ignore[arg-type]
            namespace="test",
        )
        self.trouble = TroubleLog(self.clock, log)

    def report(self, cause: str, times: int = 1) -> list[str]:
        """Report, and take what was logged since the last time."""
        for _ in range(times):
            self.trouble.report(cause)
        logged, self.logged[:] = self.logged[:], []
        return logged

    def pass_(self) -> list[str]:
        """An interval passes."""
        self.clock.advance(REPORT_INTERVAL)
        return self.report("", 0)

    def test_flood(self) -> None:
        """
        The first is told at once, the others as a number.
        """
        self.assertEqual(self.report("down", 2000), ["down"])
        self.assertEqual(self.pass_(), ["down (1999 more in 10 s)"])
        self.assertEqual(self.report("down", 3), [])
        self.assertEqual(self.pass_(), ["down (3 more in 10 s)"])

    def test_over(self) -> None:
        """
        Once it is over it is forgotten, and its return is news.
        """
        self.report("down")
        self.assertEqual(self.pass_(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.report("down"), ["down"])

    def test_causes(self) -> None:
        """
        Each cause has its lines, up to a limit.
        """
        for number in range(CAUSE_LIMIT):
            self.assertEqual(self.report(f"cause {number}"), [f"cause {number}"])
        self.assertEqual(self.report("one more", 5), [])
        self.assertEqual(self.pass_(), ["5 more flows failed of other causes"])

    def test_stop(self) -> None:
        """
        The stop tells the rest.
        """
        self.report("down", 4)
        self.trouble.stop()
        self.assertEqual(self.report("", 0), ["down (3 more)"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.trouble.stop()
        self.assertEqual(self.report("", 0), [])
