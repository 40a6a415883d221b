"""
What every packet engine does with datagrams, as a mixin; see L{tests.contracts.tunnel}.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredQueue
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.errors import FlowDecidedError
from nanotun.flow import Datagram, Endpoint, FlowState, Protocol, Refusal
from nanotun.interfaces import DatagramLeg, IDatagramFlowRequest, IPacketEngine, LegKind
from tests.contracts.tunnel import App, WaitingHandler

# What the mixin is mixed into, for mypy.
if TYPE_CHECKING:
    Base = TestCase
else:
    Base = object

#: Where programs can send to.
DESTINATIONS = (Endpoint("192.0.2.1", 80), Endpoint("2001:db8::1", 443))
GATEWAYS = (Endpoint(GATEWAY4, 53), Endpoint(GATEWAY6, 53))


class DatagramApp:
    """
    A program that sends to one destination.
    """

    def send(self, payload: bytes) -> None:
        """Send a datagram."""
        raise NotImplementedError

    def received(self) -> Deferred[bytes]:
        """Fires with the next datagram that the destination sends."""
        raise NotImplementedError

    def refused(self) -> Deferred[int]:
        """Fires with the errno that the program sees."""
        raise NotImplementedError


class DatagramContract(Base):
    """
    What L{IPacketEngine} and L{IDatagramFlowRequest} promise of datagrams.

    @ivar engine: started with C{handler}; a test may stop it.
    @ivar ends: the errors with which associations ended.
    """

    engine: IPacketEngine
    handler: WaitingHandler
    ends: DeferredQueue[int]
    refusals: DeferredQueue[None]

    def sender(self, destination: Endpoint) -> DatagramApp:
        """A program that sends to C{destination}."""
        raise NotImplementedError

    def dial(self, destination: Endpoint) -> App:
        """A program asks for a connection."""
        raise NotImplementedError

    def openLeg(self, shared: bool = False, name: str = "") -> tuple[int, socket.socket]:
        """Open an association; returns it and a socket in place of the proxy's UDP relay."""
        relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(relay.close)
        relay.bind(("127.0.0.1", 0))
        near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        near.connect(relay.getsockname())
        relay.connect(near.getsockname())
        near.setblocking(False)
        leg = DatagramLeg(near.detach(), LegKind.SOCKS5, None)
        number = self.engine.openAssociation(
            leg, self.ends.put, partial(self.refusals.put, None), shared, name
        )
        return number, relay

    def serve(self) -> DeferredQueue[list[Datagram]]:
        """Listen as services do; returns the queue of the batches."""
        batches: DeferredQueue[list[Datagram]] = DeferredQueue()
        self.engine.receiveDatagrams(batches.put)
        for protocol in Protocol:
            self.engine.listen(protocol, GATEWAYS[0].port)
        return batches

    async def test_attach(self) -> None:
        """
        A program that sends to a new destination becomes a request, which is decided once
        an association takes it.
        """
        for count, destination in enumerate(DESTINATIONS):
            self.sender(destination).send(b"x")
            request = await self.handler.next(self.handler.datagramRequests)
            verifyObject(IDatagramFlowRequest, request)
            self.assertEqual(request.flow.protocol, Protocol.UDP)
            self.assertEqual(request.flow.destination, destination)
            self.assertTrue(request.attach(self.openLeg()[0]))
            self.assertRaises(FlowDecidedError, request.drop)
            self.assertEqual(self.engine.stats().associations, count + 1)
        self.assertEqual(self.ends.pending, [])

    async def test_attachGone(self) -> None:
        """
        An association that was closed takes no flow, and its end is not told; the request
        still waits for another one.
        """
        self.sender(DESTINATIONS[0]).send(b"x")
        request = await self.handler.next(self.handler.datagramRequests)
        association, _ = self.openLeg()
        self.engine.closeAssociation(association)
        self.engine.closeAssociation(association)
        self.assertFalse(request.attach(association))
        self.assertTrue(request.attach(self.openLeg()[0]))
        self.assertEqual(self.ends.pending, [])

    async def test_attachNamed(self) -> None:
        """
        An association with a name takes the flows of one source to one address, and refuses
        others, which still wait.
        """
        requests = []
        for destination in DESTINATIONS:
            self.sender(destination).send(b"x")
            requests.append(await self.handler.next(self.handler.datagramRequests))
        first, second = (self.openLeg(name=name)[0] for name in ("a.example", "b.example"))
        self.assertTrue(requests[0].attach(first))
        self.assertFalse(requests[1].attach(first))
        self.assertTrue(requests[1].attach(second))
        self.assertRaises(OSError, self.openLeg, shared=True, name="a.example")
        self.assertEqual(self.ends.pending, [])

    async def test_listDatagrams(self) -> None:
        """
        Flows of datagrams are listed while they wait and while they are attached, with the note
        of the decision, and no longer when their association is gone.
        """
        for note, destination in enumerate(DESTINATIONS, 7):
            self.sender(destination).send(b"x")
            request = await self.handler.next(self.handler.datagramRequests)
            (listed,) = self.engine.listFlows(0, 10)
            self.assertEqual((listed.flow, listed.state), (request.flow, FlowState.WAITING))
            association, _ = self.openLeg()
            self.assertTrue(request.attach(association, note=note))
            (listed,) = self.engine.listFlows(0, 10)
            self.assertEqual((listed.state, listed.note), (FlowState.OPEN, note))
            self.engine.closeAssociation(association)
            self.assertEqual(self.engine.listFlows(0, 10), [])
        for decide in ("drop", "serve"):
            self.sender(DESTINATIONS[0]).send(b"x")
            request = await self.handler.next(self.handler.datagramRequests)
            getattr(request, decide)()
            self.assertEqual(self.engine.listFlows(0, 10), [])

    async def test_followDatagrams(self) -> None:
        """
        The ends of attached flows are told if that was asked for: an end by L{endFlows}, and
        those that follow the end of an association.
        """
        for follows in (False, True):
            self.engine.followDatagrams(follows)
            flows = []
            for note, destination in enumerate(DESTINATIONS, 7):
                self.sender(destination).send(b"x")
                request = await self.handler.next(self.handler.datagramRequests)
                association, _ = self.openLeg()
                self.assertTrue(request.attach(association, note=note))
                flows.append(request.flow)
            self.assertEqual(self.engine.endFlows([flows[0].id]), 1)
            self.assertEqual(self.engine.endFlows([flows[0].id]), 0)
            if not follows:
                self.engine.closeAssociation(association)
                continue
            end = await self.handler.next(self.handler.ends)
            self.assertEqual((end.flow, end.error, end.note), (flows[0], errno.ECONNABORTED, 7))
            self.engine.closeAssociation(association)
            end = await self.handler.next(self.handler.ends)
            self.assertEqual((end.flow, end.error, end.note), (flows[1], 0, 8))
            self.assertIs(end.standing, False)
        self.assertEqual((self.handler.ends, self.handler.abandoned), ([], []))

    async def test_endWaitingDatagrams(self) -> None:
        """
        A flow of datagrams that waits is forgotten when it is ended, and the handler is told; a
        decision about it comes too late.
        """
        self.sender(DESTINATIONS[0]).send(b"x")
        request = await self.handler.next(self.handler.datagramRequests)
        self.assertEqual(self.engine.endFlows([request.flow.id]), 1)
        abandoned = await self.handler.next(self.handler.abandoned)
        self.assertEqual(abandoned, request.flow.id)
        request.drop()
        self.assertEqual(self.engine.listFlows(0, 10), [])

    async def test_refuseDatagrams(self) -> None:
        """
        To a program, a refusal looks like a closed port.
        """
        for destination in DESTINATIONS:
            app = self.sender(destination)
            app.send(b"x")
            request = await self.handler.next(self.handler.datagramRequests)
            request.refuse(Refusal.PORT_UNREACHABLE)
            self.assertEqual(await app.refused(), errno.ECONNREFUSED)

    async def test_services(self) -> None:
        """
        Datagrams to a port of the gateway that a service listens on reach it without a
        request, and its answers reach the program.
        """
        batches = self.serve()
        for gateway in GATEWAYS:
            app = self.sender(gateway)
            app.send(b"query")
            (datagram,) = await batches.get()
            self.assertEqual((datagram.destination, datagram.payload), (gateway, b"query"))
            answer = Datagram(gateway, datagram.source, b"answer")
            self.engine.sendDatagrams([answer])
            self.assertEqual(await app.received(), b"answer")
        self.assertEqual(self.handler.datagramRequests, [])

    async def test_serve(self) -> None:
        """
        Datagrams to another destination can be given to the services too; to the program
        the answer comes from that destination.
        """
        batches = self.serve()
        for destination in DESTINATIONS:
            app = self.sender(destination)
            app.send(b"query")
            request = await self.handler.next(self.handler.datagramRequests)
            request.serve()
            self.assertRaises(FlowDecidedError, request.serve)
            (datagram,) = await batches.get()
            self.assertEqual(datagram, Datagram(request.flow.source, destination, b"query"))
            self.engine.sendDatagrams([Datagram(destination, datagram.source, b"answer")])
            self.assertEqual(await app.received(), b"answer")

    async def test_stream(self) -> None:
        """
        A connection to a port of the gateway that a service listens on is a request.
        """
        self.serve()
        for gateway in GATEWAYS:
            self.dial(gateway)
            request = await self.handler.next(self.handler.requests)
            self.assertEqual(request.flow.destination, gateway)
            request.drop()

    async def test_stopDatagrams(self) -> None:
        """
        The stop ends associations and does not tell so; none can be opened after it, and
        decisions are harmless.
        """
        self.sender(DESTINATIONS[0]).send(b"x")
        request = await self.handler.next(self.handler.datagramRequests)
        association, _ = self.openLeg()
        await self.engine.stop()
        self.assertTrue(request.attach(association))
        self.engine.closeAssociation(association)
        self.engine.sendDatagrams([Datagram(DESTINATIONS[0], DESTINATIONS[1], b"")])
        leg = DatagramLeg(os.dup(0), LegKind.DIRECT, None)
        self.assertRaises(OSError, self.engine.openAssociation, leg, self.ends.put, list)
        self.assertRaises(OSError, os.fstat, leg.fd)
        self.assertEqual(self.ends.pending, [])
