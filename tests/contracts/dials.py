"""
What every engine does with dial plans, as a mixin; see L{tests.contracts.tunnel}.
"""

from __future__ import annotations

import math
import os
import socket

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from nanotun.errors import FlowDecidedError
from nanotun.flow import FlowState, Refusal
from nanotun.interfaces import (
    Connection,
    Course,
    DialEnd,
    DialEndKind,
    DialPlan,
    IDialOutcomes,
    IFlowRequest,
    Step,
)
from tests.contracts.tunnel import App, EngineContract

GREETING = b"hello"
REQUEST = b"192.0.2.1"
GOOD = b"ok"

#: Seconds after which the plans' dials are silent, if a test wants that.
PATIENCE = 0.02


class Far:
    """The other side of a dial, which has sent all that it sends first."""

    def answer(self, data: bytes) -> None:
        """Send C{data}: L{GOOD} and what the app is to get, or something else."""
        raise NotImplementedError

    def ended(self) -> Deferred[None]:
        """Fires once the connection is closed or reset."""
        raise NotImplementedError


@implementer(IDialOutcomes)
class NoOutcomes:
    """Whom an engine never calls."""

    def opened(self, count: int, seconds: float, address: int) -> None:
        """Not called."""
        raise NotImplementedError

    def resume(self, end: DialEnd) -> Deferred[Connection]:
        """Not called."""
        return fail(NotImplementedError())

    def silent(self, engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """Not called."""
        return fail(NotImplementedError())

    def abandoned(self, seconds: float) -> None:
        """Not called."""
        raise NotImplementedError


class DialContract(EngineContract):
    """
    What L{IFlowRequest.dial} and L{nanotun.interfaces.IPacketEngine.stand} promise, and all else.
    """

    def farAddress(self) -> bytes:
        """Where the plans lead."""
        raise NotImplementedError

    def far(self, app: App) -> Deferred[Far]:
        """The other side of the dial for an app; one at a time."""
        raise NotImplementedError

    def plan(self, patience: float = 0.0, standing: bool = False) -> DialPlan:
        """A plan with a short handshake."""
        step = Step(GREETING, True, b"\xff\xff", GOOD)
        course = Course((self.farAddress(),), 10.0, patience=patience, steps=(step,))
        return DialPlan(course, REQUEST, NoOutcomes(), standing=standing)

    async def dialled(self, patience: float = 0.0) -> tuple[App, IFlowRequest, Far]:
        """An app whose flow is being dialled."""
        app = self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        request.dial(self.plan(patience))
        return app, request, await self.far(app)

    async def test_dialled(self) -> None:
        """
        The engine opens the leg and joins the flow, which is told; the app gets what came after
        the handshake.
        """
        for destination in self.destinations():
            app = self.dial(destination)
            request = await self.handler.next(self.handler.requests)
            outcome = app.outcome()
            request.dial(self.plan())
            far = await self.far(app)
            self.assertNoResult(outcome)
            far.answer(GOOD + b"first")
            self.assertEqual(await outcome, 0)
            self.assertEqual(await app.read(5), b"first")
            joined = await self.handler.next(self.handler.joins)
            self.assertEqual(joined, (request.flow.id, 0))
            app.close()
            far.answer(b"")
            end = await self.handler.next(self.handler.ends)
            self.assertEqual(end.flow, request.flow)

    async def test_dialledPastTheLimit(self) -> None:
        """
        A leg for which there are too many flows is closed, and the handler is told, whether it
        knows the flow or not.
        """
        destination = self.destinations()[0]
        for _ in range(self.FLOW_LIMIT - 1):
            app = self.dial(destination)
            request = await self.handler.next(self.handler.requests)
            self.assertTrue(request.join(self.pair()[0]))
            self.assertEqual(await app.outcome(), 0)
        _, _, far = await self.dialled()
        self.engine.stand(destination, True, self.plan(standing=True), math.inf)
        second = await self.far(self.dial(destination))
        app = self.dial(destination)
        third = await self.far(app)
        outcome = app.outcome()
        far.answer(GOOD)
        await self.handler.next(self.handler.joins)
        for each in (second, third):
            each.answer(GOOD)
            self.assertEqual(await self.handler.next(self.handler.limits), self.FLOW_LIMIT)
            await each.ended()
        self.assertNoResult(outcome)

    async def test_dialHanded(self) -> None:
        """
        Another answer comes back with the connection and the request, which can be decided then:
        once.
        """
        app, request, far = await self.dialled()
        far.answer(b"no")
        found, end, standing = await self.handler.next(self.handler.dialEnds)
        self.assertIs(found, request)
        self.assertEqual((end.kind, end.step, standing), (DialEndKind.HANDED, 0, 0))
        self.assertEqual(end.received, b"no"[: len(end.received)])
        os.close(end.fd)
        await far.ended()
        outcome = app.outcome()
        request.refuse(Refusal.HOST_UNREACHABLE)
        self.assertNotEqual(await outcome, 0)
        self.assertRaises(FlowDecidedError, request.dial, self.plan())

    async def test_dialFails(self) -> None:
        """
        A proxy that cannot be reached comes back without a connection; the flow can be dialled
        again.
        """
        app = self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        closed = socket.socket()
        self.addCleanup(closed.close)
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1].to_bytes(2, "big")
        plan = self.plan()
        address = self.farAddress()
        nobody = plan.course._replace(addresses=(address[:2] + port + address[4:],))
        request.dial(plan._replace(course=nobody))
        self.refuseDial(app)
        found, end, _ = await self.handler.next(self.handler.dialEnds)
        self.assertEqual((end.kind, end.step, end.fd), (DialEndKind.FAILED, -1, -1))
        found.dial(plan)
        far = await self.far(app)
        far.answer(GOOD)
        self.assertEqual(await app.outcome(), 0)

    def refuseDial(self, app: App) -> None:
        """Nobody listens where a dial leads, so nothing is to be done, but in memory."""

    async def test_dialSilent(self) -> None:
        """
        A dial that takes long goes on; its success is a connection then, which the flow can be
        joined to.
        """
        app, request, far = await self.dialled(PATIENCE)
        found, _ = await self.handler.next(self.handler.silences)
        self.assertIs(found, request)
        far.answer(GOOD)
        _, end, _ = await self.handler.next(self.handler.dialEnds)
        self.assertEqual(end.kind, DialEndKind.HANDED)
        self.assertTrue(request.join(end.fd, b"first"))
        self.assertEqual(await app.read(5), b"first")
        self.assertEqual(self.handler.joins, [])

    async def test_undial(self) -> None:
        """
        A dial that is dropped ends its connection without a word, and the flow waits on; so does
        one whose flow is decided.
        """
        app, request, far = await self.dialled()
        request.undial()
        await far.ended()
        request.undial()
        request.dial(self.plan())
        far = await self.far(app)
        outcome = app.outcome()
        request.refuse(Refusal.NET_UNREACHABLE)
        self.assertNotEqual(await outcome, 0)
        await far.ended()
        self.assertEqual((self.handler.dialEnds, self.handler.joins), ([], []))

    async def test_stand(self) -> None:
        """
        Flows to the destination of a standing decision are dialled without a request, and
        counted; their ends are not told, but that of the decision is, after its last flow.
        """
        destination, other = self.destinations()[:2]
        number = self.engine.stand(destination, True, self.plan(standing=True), math.inf)
        self.assertGreater(number, 0)
        flows = []
        for _ in range(2):
            app = self.dial(destination)
            far = await self.far(app)
            far.answer(GOOD + b"first")
            self.assertEqual(await app.read(5), b"first")
            flows.append((app, far))
        self.dial(other)
        request = await self.handler.next(self.handler.requests)
        self.assertEqual(request.flow.destination, other)
        self.engine.tellStood()
        self.assertEqual(self.handler.counts, [(number, 2, 2, 0)])
        self.engine.withdraw()
        self.assertEqual(self.handler.over, [])
        for app, far in flows:
            app.close()
            far.answer(b"")
        self.assertEqual(await self.handler.next(self.handler.over), number)
        self.assertEqual((self.handler.ends, self.handler.joins), ([], []))
        self.assertEqual((self.handler.requests, self.handler.dialEnds), ([], []))

    async def test_dialNoted(self) -> None:
        """
        A flow that is dialled is listed as such, with the note of its dial, which it keeps when it
        is joined; it can be ended before.
        """
        app = self.dial(self.destinations()[0])
        request = await self.handler.next(self.handler.requests)
        request.dial(self.plan(), 7)
        far = await self.far(app)
        (listed,) = self.engine.listFlows(0, 10)
        self.assertEqual((listed.flow, listed.state), (request.flow, FlowState.DIALLING))
        self.assertEqual(listed.note, 7)
        far.answer(GOOD)
        await self.handler.next(self.handler.joins)
        (listed,) = self.engine.listFlows(0, 10)
        self.assertEqual((listed.state, listed.note), (FlowState.OPEN, 7))
        app, request, far = await self.dialled()
        self.assertEqual(self.engine.endFlows([request.flow.id]), 1)
        await far.ended()
        abandoned = await self.handler.next(self.handler.abandoned)
        self.assertEqual(abandoned, request.flow.id)
        self.assertEqual([each.flow.id for each in self.engine.listFlows(0, 10)], [listed.flow.id])

    async def test_standNoted(self) -> None:
        """
        A flow of a standing decision has the note of that.  Its end is told if that was asked
        for, and then it says that nobody was told of the flow before.
        """
        destination = self.destinations()[0]
        self.engine.stand(destination, True, self.plan(standing=True), math.inf, 9)
        self.engine.followDatagrams(True)
        app = self.dial(destination)
        far = await self.far(app)
        (listed,) = self.engine.listFlows(0, 10)
        self.assertEqual((listed.state, listed.note), (FlowState.DIALLING, 9))
        far.answer(GOOD + b"first")
        self.assertEqual(await app.read(5), b"first")
        (listed,) = self.engine.listFlows(0, 10)
        self.assertEqual((listed.state, listed.note), (FlowState.OPEN, 9))
        app.close()
        far.answer(b"")
        end = await self.handler.next(self.handler.ends)
        self.assertEqual((end.flow, end.error, end.note), (listed.flow, 0, 9))
        self.assertIs(end.standing, True)

    async def test_standFails(self) -> None:
        """
        A flow of a standing decision whose dial fails comes with a request, and is counted before.
        """
        destination = self.destinations()[0]
        number = self.engine.stand(destination, True, self.plan(standing=True), math.inf)
        app = self.dial(destination)
        far = await self.far(app)
        far.answer(b"no")
        request, end, standing = await self.handler.next(self.handler.dialEnds)
        self.assertEqual(self.handler.counts, [(number, 1, 0, 0)])
        self.assertEqual((end.kind, standing), (DialEndKind.HANDED, number))
        self.assertEqual(request.flow.destination, destination)
        self.assertTrue(request.join(end.fd, b"first"))
        self.assertEqual(await app.read(5), b"first")
        app.close()
        far.answer(b"")
        ended = await self.handler.next(self.handler.ends)
        self.assertEqual(ended.flow, request.flow)

    async def test_withdrawn(self) -> None:
        """
        After a withdrawal flows are requests again.
        """
        destination = self.destinations()[0]
        number = self.engine.stand(destination, True, self.plan(standing=True), 60.0)
        self.engine.withdraw()
        self.assertEqual(await self.handler.next(self.handler.over), number)
        self.dial(destination)
        request = await self.handler.next(self.handler.requests)
        self.assertEqual(request.flow.destination, destination)

    async def test_standingDecided(self) -> None:
        """
        A flow of a standing decision that the handler has decided, because its dial took long, is
        the decision's no more.
        """
        destination = self.destinations()[0]
        plan = self.plan(PATIENCE, standing=True)
        number = self.engine.stand(destination, True, plan, math.inf)
        app = self.dial(destination)
        far = await self.far(app)
        request, standing = await self.handler.next(self.handler.silences)
        self.assertEqual(standing, number)
        self.engine.withdraw()
        self.assertEqual(self.handler.over, [])
        request.refuse(Refusal.RESET)
        self.assertEqual(await self.handler.next(self.handler.over), number)
        await far.ended()
