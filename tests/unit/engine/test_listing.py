"""
Tests for L{nanotun.engine.listing}, by way of the engine.
"""

from __future__ import annotations

import errno
from socket import AF_INET6, inet_pton

from nanotun.engine import abi
from nanotun.flow import Endpoint, Flow, FlowState, ListedFlow, Protocol
from tests.unit.engine.engine_cases import HANDLE, EngineCase

FOUR = {
    "flow": 3,
    "note": 2**63,
    "bytes_up": 5,
    "bytes_down": 6,
    "age_us": 2_500_000,
    "idle_us": 1_000,
    "state": abi.NS_FLOW_HALF_CLOSED,
    "source_port": 4000,
    "destination_port": 443,
    "family": 4,
    "protocol": 6,
    "source": bytes((198, 18, 0, 2)),
    "destination": bytes((192, 0, 2, 1)),
}
SIX = {
    "flow": 9,
    "state": abi.NS_FLOW_WAITING,
    "source_port": 4001,
    "destination_port": 53,
    "family": 6,
    "protocol": 17,
    # The first bytes of both are those of an IPv4 address.
    "source": bytes((198, 18, 0, 2)) + bytes(12),
    "destination": inet_pton(AF_INET6, "2001:db8::1"),
}


class ListingTests(EngineCase):
    """
    Tests for L{nanotun.engine.native.NativeEngine.listFlows} and C{followDatagrams}.
    """

    def test_listed(self) -> None:
        """
        A flow is listed with everything that the library says of it, with times in seconds.
        """
        self.start()
        self.library.flows = [FOUR, SIX]
        first, second = self.engine.listFlows(0, 10)
        source, destination = Endpoint("198.18.0.2", 4000), Endpoint("192.0.2.1", 443)
        self.assertEqual(
            first,
            ListedFlow(
                Flow(3, Protocol.TCP, source, destination),
                FlowState.HALF_CLOSED,
                2.5,
                0.001,
                2**63,
                5,
                6,
            ),
        )
        self.assertIs(first.state, FlowState.HALF_CLOSED)
        self.assertIs(first.flow.protocol, Protocol.TCP)
        source, destination = Endpoint("c612:2::", 4001), Endpoint("2001:db8::1", 53)
        self.assertEqual(second.flow, Flow(9, Protocol.UDP, source, destination))
        self.assertEqual(second[1:], (FlowState.WAITING, 0.0, 0.0, 0, 0, 0))

    def test_pages(self) -> None:
        """
        The library is asked for the page that is wanted, and nothing is made up for the rest.
        """
        self.start()
        self.library.flows = [{**FOUR, "flow": number} for number in range(1, 8)]
        found = [
            [each.flow.id for each in self.engine.listFlows(after, 3)] for after in (0, 3, 6, 7)
        ]
        self.assertEqual(found, [[1, 2, 3], [4, 5, 6], [7], []])
        self.assertEqual(self.library.named("ns_flows")[1], (HANDLE, 3, 3))

    def test_fails(self) -> None:
        """
        An error of the library is raised.
        """
        self.start()
        self.patch(self.library, "ns_flows", lambda *_: -errno.EINVAL)
        self.assertRaises(OSError, self.engine.listFlows, 0, 1)

    def test_followDatagrams(self) -> None:
        """
        The library is told whether ends are wanted, also if that was said before the start.
        """
        self.engine.followDatagrams(True)
        self.start()
        self.engine.followDatagrams(False)
        self.assertEqual(self.library.named("ns_follow"), [(HANDLE, True), (HANDLE, False)])

    def test_notRunning(self) -> None:
        """
        Before the start and after the stop there are no flows.
        """
        self.assertEqual(self.engine.listFlows(0, 10), [])
        self.start()
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        self.assertEqual(self.engine.listFlows(0, 10), [])
        self.engine.followDatagrams(True)
        self.assertEqual(len(self.library.calls), before)
