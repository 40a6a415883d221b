"""
What every implementation of a device and an engine does, as mixins.

L{tests.contracts.test_fakes} runs them against the fakes, L{tests.contracts.real} against
the real implementations in a network namespace.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import DeviceError, EngineError, FlowDecidedError, FlowLimitError
from nanotun.flow import Endpoint, Flow, FlowEnd, FlowState, Refusal
from nanotun.interfaces import (
    DialEnd,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IPacketEngine,
    ITunDevice,
    ITunOpener,
)

# What the mixins are mixed into, for mypy.
if TYPE_CHECKING:
    Base = TestCase
else:
    Base = object


class TunOpenerContract(Base):
    """
    What L{ITunOpener} and L{ITunDevice} promise.
    """

    def makeOpener(self) -> ITunOpener:
        """Make the opener to test."""
        raise NotImplementedError

    def test_device(self) -> None:
        """
        A device has the name and MTU that were asked for, an fd, and an index.
        """
        opener = self.makeOpener()
        verifyObject(ITunOpener, opener)
        for offload, headers in (("auto", (0, 10)), ("on", (10,)), ("off", (0,))):
            device = opener.open("nantest0", 1400, offload)
            verifyObject(ITunDevice, device)
            self.assertEqual((device.name, device.mtu), ("nantest0", 1400))
            self.assertIn(device.vnetHeader, headers)
            self.assertGreaterEqual(device.fileno(), 0)
            self.assertGreater(device.index, 0)
            device.close()

    def test_nameInUse(self) -> None:
        """
        A name is free again once the device is closed, and not before.
        """
        opener = self.makeOpener()
        device = opener.open("nantest0", 1500, "off")
        error = self.assertRaises(DeviceError, opener.open, "nantest0", 1500, "off")
        self.assertIn("exists already", str(error))
        device.close()
        opener.open("nantest0", 1500, "off").close()

    def test_badName(self) -> None:
        """
        A name that no interface can have is an error.
        """
        opener = self.makeOpener()
        for name in ("x" * 16, "a/b", "", "tun%d"):
            self.assertRaises(DeviceError, opener.open, name, 1500, "off")


@implementer(IFlowHandler)
class WaitingHandler:
    """
    Keeps each request and end until a test asks for it.
    """

    followsFlows = True

    def __init__(self) -> None:
        self.requests: list[IFlowRequest] = []
        self.datagramRequests: list[IDatagramFlowRequest] = []
        self.abandoned: list[int] = []
        self.ends: list[FlowEnd] = []
        self.joins: list[tuple[int, int]] = []
        self.dialEnds: list[tuple[IFlowRequest, DialEnd, int]] = []
        self.silences: list[tuple[IFlowRequest, int]] = []
        self.counts: list[tuple[int, int, int, int]] = []
        self.over: list[int] = []
        self.limits: list[int] = []
        self._waiters: list[tuple[list[Any], Deferred[Any]]] = []

    def flowRequested(self, request: IFlowRequest) -> None:
        """Keep it."""
        self._keep(self.requests, request)

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """Keep it."""
        self._keep(self.datagramRequests, request)

    def flowAbandoned(self, flowID: int) -> None:
        """Keep it."""
        self._keep(self.abandoned, flowID)

    def flowClosed(self, end: FlowEnd) -> None:
        """Keep it."""
        self._keep(self.ends, end)

    def flowNotHttp(self, flow: Flow, reason: int) -> None:
        """Not looked at."""

    def flowJoined(self, flowID: int, seconds: float, address: int) -> None:
        """Keep it."""
        self._keep(self.joins, (flowID, address))

    def flowLimitReached(self, limit: int) -> None:
        """Keep it."""
        self._keep(self.limits, limit)

    def flowDialEnded(self, request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """Keep it."""
        self._keep(self.dialEnds, (request, end, standing))

    def flowSilent(self, request: IFlowRequest, standing: int) -> None:
        """Keep it."""
        self._keep(self.silences, (request, standing))

    def stood(
        self,
        number: int,
        decided: int,
        joined: int,
        seconds: float,
        address: int,
        abandoned: float,
    ) -> None:
        """Keep it."""
        self._keep(self.counts, (number, decided, joined, address))

    def standingEnded(self, number: int) -> None:
        """Keep it."""
        self._keep(self.over, number)

    def _keep(self, where: list[Any], what: object) -> None:
        for index, (wanted, waiter) in enumerate(self._waiters):
            if wanted is where:
                del self._waiters[index]
                waiter.callback(what)
                return
        where.append(what)

    def next(self, where: list[Any]) -> Deferred[Any]:
        """
        Fires with the oldest item of a list, or with the next one that would be added.

        @param where: one of the lists.
        """
        waiter: Deferred[Any] = Deferred()
        if where:
            waiter.callback(where.pop(0))
        else:
            self._waiters.append((where, waiter))
        return waiter


class App:
    """
    A program that asks for a connection.
    """

    def outcome(self) -> Deferred[int]:
        """Fires with 0 once connected, or with the errno the program sees."""
        raise NotImplementedError

    def read(self, count: int) -> Deferred[bytes]:
        """Fires with the next bytes."""
        raise NotImplementedError

    def say(self, request: IFlowRequest, name: str) -> None:
        """Ask for a name in the first bytes, or with an empty one say nothing."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError


class EngineContract(Base):
    """
    What L{IPacketEngine} and L{IFlowRequest} promise.

    @ivar engine: started with C{handler}, and to join no more than C{FLOW_LIMIT}
        flows; a test may stop it.
    """

    #: More than other tests join, and few enough to try.
    FLOW_LIMIT = 4

    engine: IPacketEngine
    handler: WaitingHandler
    device: ITunDevice

    def dial(self, destination: Endpoint) -> App:
        """A program asks for a connection."""
        raise NotImplementedError

    def destinations(self) -> list[Endpoint]:
        """The destinations that programs can ask for."""
        return [Endpoint("192.0.2.1", 80), Endpoint("2001:db8::1", 443)]

    def pair(self) -> tuple[int, socket.socket]:
        """Make an fd to join, and its far end."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        near.setblocking(False)
        return near.detach(), far

    async def test_join(self) -> None:
        """
        The app is connected when its flow is joined and not before, and gets
        the leftover first.
        """
        verifyObject(IPacketEngine, self.engine)
        for destination in self.destinations():
            app = self.dial(destination)
            request = await self.handler.next(self.handler.requests)
            verifyObject(IFlowRequest, request)
            self.assertEqual(request.flow.destination, destination)
            outcome = app.outcome()
            self.assertNoResult(outcome)
            fd, far = self.pair()
            far.send(b"rest")
            self.assertTrue(request.join(fd, b"first "))
            self.assertEqual(await outcome, 0)
            self.assertEqual(await app.read(6), b"first ")
            self.assertGreater(self.engine.stats().flows, 0)

    async def test_sniff(self) -> None:
        """
        A sniffed flow has the name that its app asks for, or none; it can be joined then, and
        is not sniffed twice.
        """
        for destination in self.destinations():
            for name in ("www.corp.example", ""):
                app = self.dial(destination)
                request = await self.handler.next(self.handler.requests)
                sniffed = request.sniff()
                app.say(request, name)
                self.assertEqual(await sniffed, name)
                self.assertRaises(OSError, request.sniff)
                fd, far = self.pair()
                self.assertTrue(request.join(fd, b"first"))
                self.assertEqual(await app.read(5), b"first")
                self.assertRaises(FlowDecidedError, request.sniff)
                app.close()
                far.close()
                await self.handler.next(self.handler.ends)

    async def test_sniffedAndRefused(self) -> None:
        """
        A sniffed flow can be refused, and its sniffing be cancelled before.
        """
        self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        sniffed = request.sniff()
        sniffed.addErrback(lambda reason: reason.trap(CancelledError))
        sniffed.cancel()
        request.refuse(Refusal.RESET)

    async def test_endFlows(self) -> None:
        """
        Joined flows can be ended: their ends are reported, and others go on.
        """
        flows = []
        for _ in range(2):
            app = self.dial(self.destinations()[0])
            request = await self.handler.next(self.handler.requests)
            request.join(self.pair()[0], b"first")
            self.assertEqual(await app.read(5), b"first")
            flows.append(request.flow)
        first, second = flows
        self.assertEqual(self.engine.endFlows([first.id, first.id + 1000]), 1)
        end = await self.handler.next(self.handler.ends)
        self.assertEqual((end.flow, end.error), (first, errno.ECONNABORTED))
        self.assertEqual(self.engine.endFlows([first.id]), 0)
        self.assertEqual(self.engine.endFlows([]), 0)
        self.assertEqual(self.engine.endFlows([second.id]), 1)

    async def test_listFlows(self) -> None:
        """
        Flows are listed from their request to their end, by ascending ids and in pages, with
        the note of their decision; their ends have it, too.
        """
        self.assertEqual(self.engine.listFlows(0, 10), [])
        apps, requests = [], []
        for destination in (*self.destinations(), self.destinations()[0]):
            apps.append(self.dial(destination))
            requests.append(await self.handler.next(self.handler.requests))
        flows = [each.flow for each in requests]
        first, second, third = (each.id for each in flows)
        listed = self.engine.listFlows(0, 10)
        self.assertEqual([each.flow for each in listed], flows)
        self.assertEqual({(each.state, each.note) for each in listed}, {(FlowState.WAITING, 0)})
        fd, far = self.pair()
        self.assertTrue(requests[1].join(fd, note=2**64 - 1))
        self.assertEqual(await apps[1].outcome(), 0)
        page = self.engine.listFlows(first, 1)
        self.assertEqual(
            [(each.flow.id, each.state, each.note) for each in page],
            [(second, FlowState.OPEN, 2**64 - 1)],
        )
        self.assertEqual([each.flow.id for each in self.engine.listFlows(second, 5)], [third])
        self.assertEqual(self.engine.listFlows(third, 5), [])
        self.assertEqual(self.engine.listFlows(0, 0), [])
        for each in listed:
            self.assertGreaterEqual(each.age, each.idle)
        apps[1].close()
        far.close()
        end = await self.handler.next(self.handler.ends)
        self.assertEqual((end.flow.id, end.note, end.standing), (second, 2**64 - 1, False))
        self.assertGreaterEqual(end.seconds, 0.0)
        requests[0].drop()
        self.assertEqual([each.flow.id for each in self.engine.listFlows(0, 5)], [third])

    async def test_endWaiting(self) -> None:
        """
        A flow that waits is refused with a reset when it is ended, and the handler is told; a
        decision about it comes too late.
        """
        app = self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        outcome = app.outcome()
        self.assertEqual(self.engine.endFlows([request.flow.id]), 1)
        abandoned = await self.handler.next(self.handler.abandoned)
        self.assertEqual(abandoned, request.flow.id)
        self.assertEqual(await outcome, errno.ECONNREFUSED)
        fd, far = self.pair()
        self.assertFalse(request.join(fd))
        self.assertEqual(far.recv(1), b"")
        self.assertEqual(self.engine.endFlows([request.flow.id]), 0)
        self.assertEqual(self.engine.listFlows(0, 10), [])

    async def test_refuse(self) -> None:
        """
        The app sees the reason.
        """
        expected = {
            Refusal.RESET: (errno.ECONNREFUSED,),
            Refusal.HOST_UNREACHABLE: (errno.EHOSTUNREACH,),
            Refusal.NET_UNREACHABLE: (errno.ENETUNREACH,),
            # Linux reports the IPv4 code as one, the IPv6 code as the other.
            Refusal.PROHIBITED: (errno.EHOSTUNREACH, errno.EACCES),
        }
        for destination in self.destinations():
            for reason, codes in expected.items():
                app = self.dial(destination)
                request = await self.handler.next(self.handler.requests)
                request.refuse(reason)
                self.assertIn(await app.outcome(), codes, (destination, reason))

    async def test_end(self) -> None:
        """
        A handler that follows flows is told of the end of each, any other of none.
        """
        for follows in (True, False):
            self.handler.followsFlows = follows
            app = self.dial(self.destinations()[0])
            request = await self.handler.next(self.handler.requests)
            fd, far = self.pair()
            request.join(fd)
            self.assertEqual(await app.outcome(), 0)
            app.close()
            far.close()
            if follows:
                end = await self.handler.next(self.handler.ends)
                self.assertEqual((end.flow, end.error), (request.flow, 0))
        await self.engine.stop()
        self.assertEqual(self.handler.ends, [])

    async def test_flowLimit(self) -> None:
        """
        Over the limit a join is an error that says so, its fd is closed and the
        app is told nothing.
        """
        late = self.dial(self.destinations()[0])
        undecided = await self.handler.next(self.handler.requests)
        for _ in range(self.FLOW_LIMIT):
            app = self.dial(self.destinations()[0])
            request = await self.handler.next(self.handler.requests)
            self.assertTrue(request.join(self.pair()[0]))
            self.assertEqual(await app.outcome(), 0)
        outcome = late.outcome()
        fd, far = self.pair()
        error = self.assertRaises(FlowLimitError, undecided.join, fd)
        self.assertEqual(error.limit, self.FLOW_LIMIT)
        far.settimeout(1)
        self.assertEqual(far.recv(1), b"")
        self.assertNoResult(outcome)

    async def test_decideOnce(self) -> None:
        """
        A second decision raises an error.
        """
        self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        request.drop()
        self.assertRaises(FlowDecidedError, request.refuse, Refusal.RESET)

    async def test_stop(self) -> None:
        """
        A decision after the stop is harmless, and so is a second stop.
        """
        self.assertRaises(EngineError, self.engine.start, self.device, self.handler)
        self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        await self.engine.stop()
        fd, far = self.pair()
        self.assertFalse(request.join(fd))
        self.assertEqual(far.recv(1), b"")
        self.assertRaises(OSError, os.fstat, fd)
        self.assertEqual(self.engine.endFlows([1]), 0)
        await self.engine.stop()
