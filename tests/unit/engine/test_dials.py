"""
Tests for L{nanotun.engine.dials} and the events about dials, by way of the engine.
"""

from __future__ import annotations

import errno
import math
import socket
from typing import Any

from zope.interface.verify import verifyObject

from nanotun.engine import abi, dials, events
from nanotun.errors import FlowDecidedError
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import DialEnd, DialEndKind, DialPlan, IFlowRequest, IPacketEngine
from nanotun.testing import FakeDials, FakeUpstream
from tests.unit.engine.engine_cases import HANDLE, EngineCase, request
from tests.unit.engine.test_courses import courseTo

OUTCOMES = FakeDials(lambda: FakeUpstream().connect(Endpoint("192.0.2.1", 80)))
PLAN = DialPlan(courseTo(1080), b"\1\xc0\0\2\1\0\x50", OUTCOMES)

HANDED = {
    "kind": abi.NS_DIAL_HANDED,
    "error": 0,
    "step": 1,
    "address": 2,
    "fd": -1,
    "microseconds": 250_000,
}


def event(kind: int, flowID: int = 1, **fields: Any) -> dict[str, Any]:
    """An event about the flow of L{request}."""
    return {**request(flowID), "kind": kind, **fields}


class DialCase(EngineCase):
    """An engine with two flows that wait."""

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.library.results["ns_course"] = 9
        self.start()
        self.readEvents(request(1), request(2))
        self.request, self.second = self.handler.requests

    def pair(self) -> tuple[int, socket.socket]:
        """A connection, and its far end."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        far.settimeout(1)
        return near.detach(), far


class DialTests(DialCase):
    """
    Tests for dials of flows that wait.
    """

    def test_dial(self) -> None:
        """
        A dial passes the course, which is told once, the flow's own bytes, a connection that
        waited, and the note.
        """
        self.request.dial(PLAN, 12)
        self.second.dial(PLAN._replace(fd=5, first=1))
        self.assertEqual(
            self.library.named("ns_dial"),
            [
                (HANDLE, 1, 9, -1, 0, PLAN.request, 7, 12),
                (HANDLE, 2, 9, 5, 1, PLAN.request, 7, 0),
            ],
        )
        self.assertEqual(len(self.library.named("ns_course")), 1)

    def test_dialTooLate(self) -> None:
        """
        It does not matter that the app is gone.
        """
        self.library.results["ns_dial"] = -errno.ENOENT
        self.request.dial(PLAN)

    def test_dialFails(self) -> None:
        """
        Any other error is raised, and the connection is the library's; it is closed if the
        library was not asked.
        """
        self.library.results["ns_dial"] = -errno.EALREADY
        self.assertRaises(OSError, self.request.dial, PLAN)
        self.library.results["ns_course"] = -errno.EINVAL
        fd, far = self.pair()
        other = DialPlan(courseTo(1), b"", OUTCOMES, fd)
        self.assertRaises(OSError, self.request.dial, other)
        self.assertEqual(far.recv(1), b"")
        self.assertEqual(len(self.library.named("ns_dial")), 1)

    def test_decided(self) -> None:
        """
        A flow that is decided cannot be dialled; the connection is closed.
        """
        self.request.drop()
        fd, far = self.pair()
        self.assertRaises(FlowDecidedError, self.request.dial, PLAN._replace(fd=fd))
        self.assertEqual(far.recv(1), b"")
        self.request.undial()
        self.assertEqual(self.library.named("ns_undial"), [])

    def test_undial(self) -> None:
        """
        A dial can be dropped, and the flow waits on; without one there is nothing to drop.
        """
        self.request.undial()
        self.assertEqual(self.library.named("ns_undial"), [])
        self.request.dial(PLAN)
        self.library.results["ns_undial"] = -errno.ENOENT
        self.request.undial()
        self.assertEqual(self.library.named("ns_undial"), [(HANDLE, 1)])
        self.request.refuse(Refusal.RESET)

    def test_dialAgain(self) -> None:
        """
        The end of a dial that was dropped, which had yet to be read, is not that of the next.
        """
        self.request.dial(PLAN)
        self.request.undial()
        self.request.dial(PLAN)
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        self.assertEqual(self.handler.dials, [])
        self.library.dialEnds[1] = HANDED, b""
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        ((kind, found, end, _),) = self.handler.dials
        self.assertEqual((kind, found, end.kind), ("ended", self.request, DialEndKind.HANDED))

    def test_joined(self) -> None:
        """
        A join of the engine arrives with its seconds and the number of the address, and no
        address is decoded for it.
        """
        self.request.dial(PLAN)
        self.patch(events, "inet_ntop", lambda *_: self.fail("decoded"))
        self.readEvents(event(abi.NS_EVENT_JOINED, bytes_up=1500, error=3))
        self.assertEqual(self.handler.dials, [("joined", 1, 0.0015, 3)])
        self.assertEqual(self.engine._decisions.dials.requests, {})  # type: ignore[union-attr]

    def test_ended(self) -> None:
        """
        The end of a dial arrives with the flow's request, and everything that is known of it;
        the flow can be dialled again, or be decided.
        """
        self.request.dial(PLAN)
        received = bytes(range(256)) * 256
        self.library.dialEnds[1] = HANDED, received
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        end = DialEnd(DialEndKind.HANDED, 0, 1, 2, -1, received, 0.25)
        self.assertEqual(self.handler.dials, [("ended", self.request, end, 0)])
        self.assertIs(self.handler.dials[0][1], self.request)
        self.request.dial(PLAN)
        self.library.dialEnds[1] = {**HANDED, "kind": 4, "step": 0xFFFF, "error": 110}, b""
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        end = DialEnd(DialEndKind.EXPIRED, 110, -1, 2, -1, b"", 0.25)
        self.assertEqual(self.handler.dials[1:], [("ended", self.request, end, 0)])
        self.request.drop()

    def test_silent(self) -> None:
        """
        That a dial takes long arrives with the flow's request, and its end later on.
        """
        self.request.dial(PLAN)
        self.readEvents(event(abi.NS_EVENT_DIAL_SILENT))
        self.assertEqual(self.handler.dials, [("silent", self.request, 0)])
        self.library.dialEnds[1] = HANDED, b"x"
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        self.assertIs(self.handler.dials[1][1], self.request)

    def test_goneMeanwhile(self) -> None:
        """
        If the app has given up when the end of its dial is read, there is nothing to tell.
        """
        self.request.dial(PLAN)
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        self.assertEqual(self.handler.dials, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_droppedMeanwhile(self) -> None:
        """
        The connection of a dial that ended just before it was dropped is closed, and nobody is
        told.
        """
        for drop in (self.request.undial, lambda: self.request.refuse(Refusal.RESET)):
            self.request.dial(PLAN)
            drop()
            fd, far = self.pair()
            self.library.dialEnds[1] = {**HANDED, "fd": fd}, b""
            self.readEvents(
                event(abi.NS_EVENT_DIAL_SILENT),
                event(abi.NS_EVENT_DIAL_ENDED),
            )
            self.assertEqual(far.recv(1), b"")
        self.assertEqual(self.handler.dials, [])

    def test_forgotten(self) -> None:
        """
        Nothing is remembered of dials whose flows were decided or given up.
        """
        self.readEvents(request(3))
        for each in self.handler.requests:
            each.dial(PLAN)
        self.request.join(5)
        self.second.drop()
        self.readEvents({"kind": abi.NS_EVENT_ABANDONED, "flow": 3})
        self.assertEqual(self.engine._decisions.dials.requests, {})  # type: ignore[union-attr]

    def test_exception(self) -> None:
        """
        A handler that raises costs the flow whose dial has ended.
        """
        self.request.dial(PLAN)
        self.library.dialEnds[1] = HANDED, b""
        self.handler.failure = ZeroDivisionError()
        self.readEvents(event(abi.NS_EVENT_DIAL_ENDED))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.library.named("ns_drop"), [(HANDLE, 1)])

    def test_afterStop(self) -> None:
        """
        After the stop the library is not asked, and a connection is closed.
        """
        self.request.dial(PLAN)
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        self.request.undial()
        fd, far = self.pair()
        self.second.dial(PLAN._replace(fd=fd))
        self.assertEqual(far.recv(1), b"")
        self.assertEqual(len(self.library.calls), before)


class StandTests(DialCase):
    """
    Tests for standing decisions.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.plan = PLAN._replace(standing=True)
        self.library.results["ns_stand"] = 70

    def test_stand(self) -> None:
        """
        A standing decision passes where it is about, for whose flows, the plan, for how many
        milliseconds it is valid, and the note.
        """
        verifyObject(IPacketEngine, self.engine)
        for host, ours, seconds, expected in (
            ("192.0.2.7", True, math.inf, 0),
            ("2001:db8::7", False, 1.5, 1500),
            ("192.0.2.7", True, 0.0001, 1),
            ("192.0.2.7", True, 1e9, 0xFFFFFFFF),
        ):
            number = self.engine.stand(Endpoint(host, 443), ours, self.plan, seconds, 12)
            self.assertEqual(number, 70)
            handle, to, *rest = self.library.named("ns_stand")[-1]
            self.assertEqual((handle, to.destination_port), (HANDLE, 443))
            self.assertEqual(to.family, 6 if ":" in host else 4)
            packed = bytes(to.destination)
            if to.family == 6:
                self.assertEqual(packed, bytes.fromhex("20010db8") + bytes(11) + b"\7")
            else:
                self.assertEqual(packed, bytes((192, 0, 2, 7)) + bytes(12))
            self.assertEqual(rest, [ours, 9, PLAN.request, 7, expected, 12])

    def test_standFails(self) -> None:
        """
        What the library does not take is an error.
        """
        self.library.results["ns_stand"] = -errno.EINVAL
        to = Endpoint("192.0.2.7", 443)
        self.assertRaises(OSError, self.engine.stand, to, True, self.plan, math.inf)

    def test_withdraw(self) -> None:
        """
        They are withdrawn all at once.
        """
        self.engine.withdraw()
        self.assertEqual(self.library.named("ns_withdraw"), [(HANDLE,)])

    def test_stood(self) -> None:
        """
        What they have done is told when the library says that there is something, or when anybody
        asks: any number of records, with the mean of the dials' times.
        """
        record = {"number": 70, "decided": 5, "joined": 4, "microseconds": 8000, "address": 1}
        self.library.stood = [{**record, "abandoned": 1_500_000}]
        self.readEvents({"kind": abi.NS_EVENT_STOOD})
        self.assertEqual(self.handler.dials, [("stood", 70, 5, 4, 0.002, 1, 1.5)])
        self.library.stood = [{"number": n, "decided": 1} for n in range(dials.STOOD_BATCH * 2)]
        self.handler.dials.clear()
        self.engine.tellStood()
        self.assertEqual(len(self.handler.dials), dials.STOOD_BATCH * 2)
        self.assertEqual(self.handler.dials[-1], ("stood", 127, 1, 0, 0.0, 0, 0.0))

    def test_order(self) -> None:
        """
        What a decision has done is told before it is told that a dial failed, takes long, or that
        the decision is over.
        """
        for kind, told in (
            (abi.NS_EVENT_DIAL_SILENT, "silent"),
            (abi.NS_EVENT_DIAL_ENDED, "ended"),
            (abi.NS_EVENT_STANDING_ENDED, "over"),
        ):
            self.handler.dials.clear()
            self.library.stood = [{"number": 70, "decided": 1}]
            self.library.dialEnds[3] = HANDED, b""
            flowID = 70 if told == "over" else 3
            self.readEvents(event(kind, flowID, bytes_up=70))
            self.assertEqual([each[0] for each in self.handler.dials], ["stood", told])
        self.assertEqual(self.handler.dials[1], ("over", 70))

    def test_orderOfMany(self) -> None:
        """
        The library is asked once for what tens of thousands of decisions have done that are over.
        """
        self.library.stood = [{"number": n, "decided": 1} for n in (70, 71)]
        self.readEvents(*(event(abi.NS_EVENT_STANDING_ENDED, n) for n in range(70, 90)))
        told = [each[0] for each in self.handler.dials]
        self.assertEqual(told, ["stood"] * 2 + ["over"] * 20)
        self.assertEqual(len(self.library.named("ns_stood")), 1)
        self.library.stood = [{"number": 95, "decided": 1}]
        self.readEvents(event(abi.NS_EVENT_STANDING_ENDED, 95))
        self.assertEqual([each[0] for each in self.handler.dials[-2:]], ["stood", "over"])

    def test_newRequest(self) -> None:
        """
        A flow that the handler does not know comes with a request of its own, the same one each
        time.
        """
        self.library.dialEnds[3] = HANDED, b"x"
        self.readEvents(
            event(abi.NS_EVENT_DIAL_SILENT, 3, bytes_up=70),
            event(abi.NS_EVENT_DIAL_ENDED, 3, bytes_up=70),
        )
        silent, ended = self.handler.dials
        found = silent[1]
        verifyObject(IFlowRequest, found)
        self.assertEqual((silent[2], ended[3]), (70, 70))
        self.assertIs(found, ended[1])
        self.assertEqual(found.flow.destination, Endpoint("192.0.2.1", 80))
        found.refuse(Refusal.RESET)
        self.assertEqual(self.library.named("ns_refuse"), [(HANDLE, 3, Refusal.RESET)])

    def test_afterStop(self) -> None:
        """
        Without a stack, before the start and after the stop, nothing stands.
        """
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        for _ in range(2):
            number = self.engine.stand(Endpoint("192.0.2.7", 443), True, self.plan, math.inf)
            self.assertEqual(number, 0)
            self.engine.withdraw()
            self.engine.tellStood()
            self.makeEngine("gvisor")
        self.assertEqual(len(self.library.calls), before)
        self.assertEqual(self.handler.dials, [])
