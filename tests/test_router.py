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
from nanotun.router import FlowRouter
from nanotun.testing import FakeGateway, FakeUpstream, MemoryEngine, MemoryTunOpener
from nanotun.trouble import REPORT_INTERVAL


class RouterCase(SynchronousTestCase):
    """A router between an engine and an upstream of memory."""

    logFlows = False
    dnsOverride = False

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.engine = MemoryEngine()
        self.gateway = FakeGateway()
        self.router = FlowRouter(
            self.upstream,
            self.engine,
            self.gateway,
            self.clock,
            self.dnsOverride,
            self.logFlows,
        )
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.router._log = log  # type: ignore[misc]
        self.router._trouble._log = log
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


class WayTests(RouterCase):
    """
    Tests for which flow goes where.
    """

    def test_gatewayStream(self) -> None:
        """
        A connection to the gateway is the services'.
        """
        for host in ("198.18.0.1", "fdfe:dcba:9876::1"):
            request = self.engine.request(Endpoint(host, 53))
            self.assertIs(self.gateway.accepted.pop(), request)
        self.assertEqual((self.upstream.asked, self.router.pending), ([], 0))

    def test_datagrams(self) -> None:
        """
        Datagrams leave by a leg of the upstream.
        """
        request = self.engine.requestDatagrams(Endpoint("192.0.2.7", 443))
        self.upstream.answerDatagrams()
        self.assertEqual(self.upstream.families, [4])
        self.assertEqual(list(self.engine.attached), [request.flow.id])
        self.router.stop()
        self.assertEqual(self.lines(), [])

    def test_nowhere(self) -> None:
        """
        What is for nobody, for everybody or for the gateway goes nowhere, without
        a word.
        """
        for host in ("198.18.0.1", "fdfe:dcba:9876::1", "239.255.255.250", "ff02::fb", "::"):
            request = self.engine.requestDatagrams(Endpoint(host, 53))
            self.assertEqual(self.engine.dropped.pop(), request.flow.id)
        self.assertEqual(self.upstream.families, [])

    def test_proxyDown(self) -> None:
        """
        An app whose datagrams the upstream cannot carry is told; the log has one
        line for all of them, and a number.
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
        A query to another server leaves as all datagrams do.
        """
        request = self.engine.requestDatagrams(Endpoint("192.0.2.53", 53))
        self.upstream.answerDatagrams()
        self.assertIn(request.flow.id, self.engine.attached)
        self.router.stop()

    def test_stop(self) -> None:
        """
        The stop lets go of every leg and of those to come.
        """
        self.engine.requestDatagrams()
        self.router.stop()
        self.engine.requestDatagrams()
        self.assertEqual((self.upstream.cancelled, self.upstream.families), (1, [4]))
        self.assertEqual(len(self.engine.dropped), 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class OverrideTests(RouterCase):
    """
    The same with C{dnsOverride}.
    """

    dnsOverride = True

    def test_dns(self) -> None:
        """
        A query to any server is answered by the services; other datagrams leave.
        """
        request = self.engine.requestDatagrams(Endpoint("192.0.2.53", 53))
        self.assertEqual(self.engine.served, [request.flow.id])
        self.assertEqual(self.upstream.families, [])
        self.engine.requestDatagrams(Endpoint("192.0.2.53", 443))
        self.assertEqual(self.upstream.families, [4])
        self.router.stop()

    def test_forwarded(self) -> None:
        """
        A query of another host, which the services would not answer, leaves as all
        datagrams do.
        """
        self.gateway.strangers.add("10.7.7.7")
        request = self.engine.requestDatagrams(
            Endpoint("192.0.2.53", 53), Endpoint("10.7.7.7", 40000)
        )
        self.upstream.answerDatagrams()
        self.assertEqual((self.engine.served, list(self.engine.attached)), ([], [request.flow.id]))
        self.router.stop()

    def test_multicast(self) -> None:
        """
        Not what is sent to nobody in particular.
        """
        self.engine.requestDatagrams(Endpoint("224.0.0.251", 53))
        self.assertEqual((self.engine.served, len(self.engine.dropped)), ([], 1))


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

    def test_datagramLine(self) -> None:
        """
        So do they of datagrams.
        """
        self.engine.requestDatagrams(Endpoint("192.0.2.1", 443))
        (line,) = self.lines("debug")
        self.assertIn("UDP flow 1 from 198.18.0.2:40000 to 192.0.2.1:443 by fake://", line)
        self.router.stop()
