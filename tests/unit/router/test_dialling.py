"""
Tests for L{nanotun.router.dialling}: flows whose legs the engine opens by a plan.
"""

from __future__ import annotations

import errno
import os
import socket

from nanotun.errors import UpstreamHostUnreachable
from nanotun.flow import Decision, Endpoint, Refusal, Verdict
from nanotun.interfaces import DialEnd, DialEndKind
from nanotun.router import dialling
from nanotun.router.router import firstLeaving, firstPending
from nanotun.testing import FakeNames
from tests.unit.router.dial_cases import PlannedCase, RouterUpstream

LOST = DialEnd(DialEndKind.LOST, errno.ECONNRESET, 1, 0, -1, b"\5", 0.25)


class PlannedFlowTests(PlannedCase):
    """
    Tests for a planned flow's life.
    """

    def test_joined(self) -> None:
        """
        The engine dials by the upstream's plan and joins, and the outcomes hear of it.
        """
        request = self.engine.request(Endpoint("192.0.2.7", 443))
        flowID = request.flow.id
        self.assertEqual(self.upstream.planned, [Endpoint("192.0.2.7", 443)])
        self.assertEqual(self.engine.dialled[flowID].request, b"192.0.2.7:443")
        self.assertEqual((self.router.pending, self.router.carried), (1, 0))
        self.assertEqual(firstPending(self.router), "192.0.2.7:443")
        self.assertEqual(firstLeaving(self.router), "proxy")
        self.openDial(flowID, 0.02, 1)
        self.assertEqual(self.heard, [("opened", 1, 0.02, 1)])
        self.assertEqual((self.router.pending, self.router.carried), (0, 1))
        self.assertEqual(firstPending(self.router), "")
        self.assertEqual(self.upstream.asked, [])
        self.assertEqual(self.router.report()["paths"], {"engine": 1, "standing": 0, "general": 0})
        self.engine.end(flowID)

    def test_noPlan(self) -> None:
        """
        Where the upstream has no plan this time, or never has one, it dials by itself.
        """
        self.upstream.plans = False
        self.judge.decisions["192.0.2.8"] = Decision(Verdict.DIRECT, "#1", "why")
        self.engine.request(Endpoint("192.0.2.8", 80))
        self.engine.request(Endpoint("192.0.2.9", 80))
        self.assertEqual(self.engine.dialled, {})
        self.addCleanup(self.direct.answer().close)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.router.report()["paths"], {"engine": 0, "standing": 0, "general": 2})

    def test_otherUpstream(self) -> None:
        """
        Whether an upstream has plans is found out for each, also of a new configuration, and of
        more of them than are remembered.
        """
        self.patch(dialling, "PLANNERS_LIMIT", 1)
        self.judge.decisions["192.0.2.8"] = Decision(Verdict.DIRECT, "#1", "why")
        for host in ("192.0.2.8", "192.0.2.9", "192.0.2.8", "192.0.2.9"):
            self.engine.request(Endpoint(host, 80))
        self.assertEqual((len(self.direct.asked), len(self.upstream.planned)), (2, 2))
        before, self.upstream = self.upstream, RouterUpstream()
        self.configure()
        self.assertEqual(self.router.dialling._planners, {})
        self.engine.request()
        self.assertEqual((len(before.planned), len(self.upstream.planned)), (2, 1))

    def test_resumed(self) -> None:
        """
        When the engine could not do it, the outcomes go on from there, and the flow is joined to
        their leg.
        """
        request = self.engine.request()
        self.engine.endDial(request.flow.id, LOST)
        self.assertEqual(self.heard, [("resume", LOST)])
        self.assertEqual(self.router.pending, 1)
        self.addCleanup(self.upstream.answer(b"rest").close)
        self.assertEqual(self.engine.joined[request.flow.id][1], b"rest")
        self.assertEqual((self.router.pending, self.router.carried), (0, 1))
        self.assertEqual(self.router.report()["paths"], {"engine": 0, "standing": 0, "general": 1})

    def test_resumedInVain(self) -> None:
        """
        The error that the outcomes find is what the app sees.
        """
        request = self.engine.request()
        self.engine.endDial(request.flow.id, LOST)
        self.upstream.fail(UpstreamHostUnreachable("why"))
        self.assertEqual(self.engine.refused[request.flow.id], Refusal.HOST_UNREACHABLE)
        self.assertEqual(self.router.pending, 0)

    def test_cannotDial(self) -> None:
        """
        If the engine takes no dial the outcomes go on without it.
        """
        self.engine.dialError = OSError(errno.EINVAL, "ns_dial")
        request = self.engine.request()
        end = DialEnd(DialEndKind.GENERAL, errno.EINVAL)
        self.assertEqual(self.heard, [("resume", end)])
        self.addCleanup(self.upstream.answer().close)
        self.assertIn(request.flow.id, self.engine.joined)

    def test_pooled(self) -> None:
        """
        A connection that waited is the engine's.
        """
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        self.upstream.fds = [near.detach()]
        request = self.engine.request()
        self.engine.abandon(request.flow.id)
        self.assertEqual(far.recv(1), b"")

    def test_abandoned(self) -> None:
        """
        When the app gives up, the outcomes hear after how long; nothing is left of the dial.
        """
        request = self.engine.request()
        self.clock.advance(2.5)
        self.engine.abandon(request.flow.id)
        self.assertEqual(self.heard, [("abandoned", 2.5)])
        self.assertEqual((self.router.pending, self.engine.refused), (0, {}))

    def test_abandonedLate(self) -> None:
        """
        When the app gives up while the outcomes go on, their dial is cancelled, and that is all
        that they hear.
        """
        request = self.engine.request()
        self.engine.endDial(request.flow.id, LOST)
        self.engine.abandon(request.flow.id)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertEqual(self.heard, [("resume", LOST)])

    def test_flowLimit(self) -> None:
        """
        If the engine has a leg and may join no more flows, the user hears of the limit once, the
        app nothing, and nothing is left of the flow.
        """
        self.engine.flowLimit = 1
        for _ in range(3):
            self.openDial(self.engine.request().flow.id)
        (line,) = self.lines()
        self.assertIn("1 connections are open", line)
        self.assertEqual((self.router.pending, self.router.carried), (0, 1))
        self.assertEqual(self.engine.refused, {})

    def test_goneMeanwhile(self) -> None:
        """
        The connection of a dial that ends when its flow is gone is closed.
        """
        request = self.engine.request()
        end, far = self.handed()
        self.router.flowAbandoned(request.flow.id)
        self.router.flowDialEnded(request, end, 0)
        self.assertEqual(far.recv(1), b"")
        # So is its success, once all is stopped.
        self.router.flowJoined(request.flow.id, 0.1, 0)
        self.assertEqual(self.router.carried, 0)

    def test_stop(self) -> None:
        """
        The stop refuses the flow, and the connection of a dial that ends then is closed.
        """
        request = self.engine.request()
        self.clock.advance(1)
        self.router.stop()
        self.assertEqual(self.engine.refused, {request.flow.id: Refusal.RESET})
        self.assertEqual((self.heard, self.engine.dialled), ([("abandoned", 1.0)], {}))
        end, far = self.handed()
        self.router.flowDialEnded(request, end, 0)
        self.assertEqual(far.recv(1), b"")
        self.router.flowSilent(request, 0)

    def test_names(self) -> None:
        """
        The names are told of each flow that the engine has joined, and of its end.
        """
        names = FakeNames()
        names.known = {"198.19.0.1": "a.example"}
        self.names = names
        self.router = self.engine.handler = self.makeRouter(False)
        self.configure()
        request = self.engine.request(Endpoint("198.19.0.1", 443))
        self.assertEqual(names.open, [])
        self.openDial(request.flow.id)
        self.assertEqual(names.open, ["198.19.0.1"])
        self.engine.end(request.flow.id)
        self.assertEqual(names.open, [])

    def test_lines(self) -> None:
        """
        With debug lines a planned flow has those of any other: where it leaves, and its end.
        """
        self.configure(debug=True)
        request = self.engine.request()
        self.openDial(request.flow.id)
        self.engine.end(request.flow.id)
        self.engine.request()
        self.engine.abandon(request.flow.id + 1)
        first, second, _, last = self.lines("debug")
        self.assertIn("to 192.0.2.1:80 by fake:// (rule default)", first)
        self.assertIn("ended: 0 bytes up", second)
        self.assertIn("was given up", last)


class SilentDialTests(PlannedCase):
    """
    Tests for dials of the engine that take long.
    """

    def setUp(self) -> None:
        """A dial that took too long for its upstream."""
        super().setUp()
        self.request = self.engine.request()
        self.clock.advance(3)
        self.engine.goSilent(self.request.flow.id)
        (self.dial,) = self.upstream.silences

    def test_told(self) -> None:
        """
        The outcomes hear of it, and hear of the end of the engine's dial then: a connection, even
        if all went well.
        """
        self.assertEqual(self.heard, [("silent", 3.0)])
        self.openDial(self.request.flow.id)
        end = self.successResultOf(self.dial)
        self.addCleanup(os.close, end.fd)
        self.assertEqual(end.kind, DialEndKind.HANDED)
        self.assertEqual((len(self.heard), self.router.pending), (1, 1))

    def test_otherLeg(self) -> None:
        """
        The flow is joined to the leg that the outcomes give, and the engine's dial is over.
        """
        self.addCleanup(self.upstream.answer(b"other").close)
        self.assertEqual(self.engine.joined[self.request.flow.id][1], b"other")
        self.assertEqual((self.engine.dialled, self.router.pending), ({}, 0))

    def test_cancelled(self) -> None:
        """
        When the outcomes cancel it the engine's dial is dropped, and the flow waits on; the
        connection of a dial that had ended just then is closed.
        """
        self.dial.addErrback(lambda reason: None)
        self.dial.cancel()
        self.assertEqual(self.engine.dialled, {})
        self.assertEqual((self.router.pending, self.engine.refused), (1, {}))
        end, far = self.handed()
        self.router.flowDialEnded(self.request, end, 0)
        self.assertEqual(far.recv(1), b"")

    def test_abandoned(self) -> None:
        """
        When the app gives up, the leg that the outcomes look for is cancelled, and that is all
        that they hear.
        """
        self.engine.abandon(self.request.flow.id)
        self.assertEqual((self.upstream.cancelled, len(self.heard)), (1, 1))
        self.assertEqual(self.router.pending, 0)
