"""
Tests for L{nanotun.engine.events}, by way of the engine.
"""

from __future__ import annotations

import errno

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass

from nanotun.engine import abi, events
from nanotun.errors import EngineError
from nanotun.flow import Crowd, CrowdKind, Endpoint, Flow, Protocol
from tests.unit.engine.engine_cases import HANDLE, EngineCase, request


class EventTests(EngineCase):
    """
    Tests for the events that the library reports.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()

    def test_request(self) -> None:
        """
        A request arrives with its addresses, IPv4 and IPv6.
        """
        self.readEvents(request(1), request(2, "2001:db8::1"))
        self.assertEqual(
            [each.flow for each in self.handler.requests],
            [
                Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 4000), Endpoint("192.0.2.1", 80)),
                Flow(2, Protocol.TCP, Endpoint("2001:db8::2", 4000), Endpoint("2001:db8::1", 80)),
            ],
        )

    def test_others(self) -> None:
        """
        The end of a flow arrives with its error, bytes, note and duration, and whether it was
        one of a standing decision; an abandoned flow arrives with its id.
        """
        closed = {**request(3), "kind": abi.NS_EVENT_CLOSED, "error": errno.EPIPE}
        self.readEvents(
            {"kind": abi.NS_EVENT_ABANDONED, "flow": 1},
            {**closed, "bytes_up": 5, "bytes_down": 6, "note": 2**63, "microseconds": 1_500_000},
            {**closed, "flow": 4, "protocol": 17, "standing": 1},
        )
        self.assertEqual(self.handler.abandoned, [1])
        first, second = self.handler.ends
        self.assertEqual((first.flow.id, *first[1:]), (3, 32, 5, 6, 2**63, 1.5, False))
        self.assertEqual((second.flow.id, second.flow.protocol), (4, Protocol.UDP))
        self.assertIs(second.standing, True)

    def test_notHttp(self) -> None:
        """
        That an app does not speak HTTP arrives with its flow, before the flow's end, and
        also where ends are not followed.
        """
        event = {**request(3), "kind": abi.NS_EVENT_NOT_HTTP, "error": abi.NS_HTTP_UPGRADE}
        for follows in (True, False):
            self.handler.followsFlows = follows
            self.readEvents(event, {**event, "kind": abi.NS_EVENT_CLOSED, "error": errno.EPROTO})
        self.assertEqual(len(self.handler.ends), 1)
        self.assertEqual([each[1:] for each in self.handler.notHttp], [(2, 0), (2, 1)])
        self.assertEqual(
            self.handler.notHttp[0][0],
            Flow(3, Protocol.TCP, Endpoint("198.18.0.2", 4000), Endpoint("192.0.2.1", 80)),
        )

    def test_crowded(self) -> None:
        """
        That flows had to make way arrives with the kind, the last one's host, the user, the
        limit and the number, also for programs that cannot be told apart.
        """
        crowds: list[Crowd] = []
        self.engine.reportCrowds(crowds.append)
        event = {**request(7), "kind": abi.NS_EVENT_CROWDED, "bytes_down": 2048}
        self.readEvents(
            {**event, "error": abi.NS_CROWD_PROGRAM, "bytes_up": 1000},
            {**event, "error": abi.NS_CROWD_MACHINE, "bytes_up": 0xFFFFFFFF},
        )
        self.assertEqual(
            crowds,
            [
                Crowd(CrowdKind.PROGRAM, "198.18.0.2", 1000, 2048, 7),
                Crowd(CrowdKind.MACHINE, "198.18.0.2", -1, 2048, 7),
            ],
        )

    def test_datagramRequest(self) -> None:
        """
        A request for datagrams is of another kind, and UDP.
        """
        self.readEvents(request(1, "2001:db8::1", abi.NS_EVENT_UDP_REQUEST))
        (found,) = self.handler.datagramRequests
        self.assertEqual(
            found.flow,
            Flow(1, Protocol.UDP, Endpoint("2001:db8::2", 4000), Endpoint("2001:db8::1", 80)),
        )
        self.assertEqual(self.handler.requests, [])

    def test_endUnread(self) -> None:
        """
        An end that nobody follows is not even decoded; other events of the batch are.
        """
        self.handler.followsFlows = False
        self.patch(events, "inet_ntop", lambda *_: self.fail("decoded"))
        closed = {**request(3), "kind": abi.NS_EVENT_CLOSED}
        self.readEvents(closed, {"kind": abi.NS_EVENT_ABANDONED, "flow": 1})
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((self.handler.ends, self.handler.abandoned), ([], [1]))

    def test_manyBatches(self) -> None:
        """
        More events than fit the array are all delivered in one go.
        """
        self.readEvents(*(request(n + 1) for n in range(events.DRAIN_BATCH * 2 + 1)))
        self.assertEqual(len(self.handler.requests), events.DRAIN_BATCH * 2 + 1)

    def test_exception(self) -> None:
        """
        A handler that raises costs that flow, not the ones after it.
        """
        for kind in (abi.NS_EVENT_TCP_REQUEST, abi.NS_EVENT_UDP_REQUEST):
            self.handler.failure = ZeroDivisionError()
            self.readEvents(request(1, kind=kind), request(2, kind=kind))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.library.named("ns_drop"), [(HANDLE, 1)] * 2)
        self.assertEqual([each.flow.id for each in self.handler.requests], [2])
        self.assertEqual([each.flow.id for each in self.handler.datagramRequests], [2])

    def test_unknownKind(self) -> None:
        """
        An event that this version does not know is reported.
        """
        self.readEvents({**request(1), "kind": 99})
        self.assertEqual(len(self.flushLoggedErrors(EngineError)), 1)

    def test_drainFails(self) -> None:
        """
        A drain that fails ends the turn, and nothing is raised.
        """
        self.library.results["ns_drain"] = -errno.ENOTRECOVERABLE
        self.readEvents()

    def test_connectionLost(self) -> None:
        """
        The reactor may tell the reader that it ends.
        """
        verifyClass(IReadDescriptor, events.EventReader)
        (reader,) = self.reactor.getReaders()
        reader.connectionLost(Failure(ZeroDivisionError()))
        self.assertEqual(reader.logPrefix(), "engine")
