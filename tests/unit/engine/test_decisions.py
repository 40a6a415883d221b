"""
Tests for L{nanotun.engine.decisions}.
"""

from __future__ import annotations

import errno
import os

from nanotun.engine import abi
from nanotun.engine.decisions import FLOW_LIMIT
from nanotun.errors import FlowLimitError
from nanotun.flow import Endpoint, Protocol, Refusal
from nanotun.interfaces import DatagramLeg, LegKind
from tests.unit.engine.engine_cases import HANDLE, EngineCase, request


class DecisionTests(EngineCase):
    """
    Tests for what goes down to the library.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.library.events = [request(1)]
        self.engine.doRead()
        (self.request,) = self.handler.requests

    def test_join(self) -> None:
        """
        A join passes the fd and the leftover.
        """
        self.assertTrue(self.request.join(5, b"hello"))
        self.assertEqual(self.library.named("ns_join"), [(HANDLE, 1, 5, b"hello", 5)])

    def test_joinTooLate(self) -> None:
        """
        ENOENT says that the app is gone.
        """
        self.library.results["ns_join"] = -errno.ENOENT
        self.assertFalse(self.request.join(5))

    def test_joinOverLimit(self) -> None:
        """
        EMFILE says that too many flows are joined; the error tells how many.
        """
        self.library.results["ns_join"] = -errno.EMFILE
        error = self.assertRaises(FlowLimitError, self.request.join, 5)
        self.assertEqual(error.limit, FLOW_LIMIT)
        self.assertIn(f"{FLOW_LIMIT} connections", str(error))

    def test_joinFails(self) -> None:
        """
        Any other error is raised.
        """
        self.library.results["ns_join"] = -errno.EINVAL
        self.assertRaises(OSError, self.request.join, 5)

    def test_refuse(self) -> None:
        """
        A refusal passes the reason; that the app is gone does not matter.
        """
        self.library.results["ns_refuse"] = -errno.ENOENT
        self.request.refuse(Refusal.HOST_UNREACHABLE)
        self.assertEqual(self.library.named("ns_refuse"), [(HANDLE, 1, 2)])

    def test_drop(self) -> None:
        """
        A drop passes the flow; an error is raised.
        """
        self.library.results["ns_drop"] = -errno.EINVAL
        self.assertRaises(OSError, self.request.drop)

    def test_afterStop(self) -> None:
        """
        Decisions after the stop reach nobody, and a joined fd is closed.
        """
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        near, far = os.pipe()
        self.addCleanup(os.close, far)
        self.assertFalse(self.request.join(near))
        self.assertRaises(OSError, os.fstat, near)
        self.engine.refuseFlow(1, Refusal.RESET)
        self.engine.dropFlow(1)
        self.assertTrue(self.engine.attachFlow(1, 5))
        self.engine.serveFlow(1)
        self.assertEqual(len(self.library.calls), before)


class AssociationTests(EngineCase):
    """
    Tests for associations and what is attached to them.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.library.results["ns_associate"] = 7
        self.ends: list[int] = []
        self.library.events = [request(1, kind=abi.NS_EVENT_UDP_REQUEST)]
        self.engine.doRead()
        (self.request,) = self.handler.datagramRequests

    def open(self, kind: LegKind = LegKind.SOCKS5, shared: bool = False) -> int:
        """Open an association."""
        leg = DatagramLeg(5, kind, None)
        return self.engine.openAssociation(leg, self.ends.append, shared)

    def end(self, error: int) -> None:
        """The library ends it."""
        kind = abi.NS_EVENT_ASSOCIATION_CLOSED
        self.library.events = [{"kind": kind, "flow": 7, "error": error}]
        self.engine.doRead()

    def test_open(self) -> None:
        """
        The library is told of the fd, the kind and whether it is shared.
        """
        self.assertEqual(self.open(), 7)
        self.open(LegKind.DIRECT, True)
        self.assertEqual(
            self.library.named("ns_associate"),
            [(HANDLE, 5, abi.NS_LEG_SOCKS5, 0), (HANDLE, 5, abi.NS_LEG_DIRECT, abi.NS_LEG_SHARED)],
        )

    def test_openFails(self) -> None:
        """
        An error is raised; the fd is the library's all the same.
        """
        self.library.results["ns_associate"] = -errno.EINVAL
        self.assertRaises(OSError, self.open)

    def test_ended(self) -> None:
        """
        Who opened it hears once why it ended, and closes nothing after that.
        """
        self.open()
        self.end(errno.ETIMEDOUT)
        self.end(errno.EBADF)
        self.assertEqual(self.ends, [errno.ETIMEDOUT])
        self.engine.closeAssociation(7)
        self.assertEqual(self.library.named("ns_dissociate"), [])

    def test_close(self) -> None:
        """
        Who closed it hears nothing, also when it ended in the same moment.
        """
        self.open()
        self.engine.closeAssociation(7)
        self.end(errno.ETIMEDOUT)
        self.assertEqual(self.library.named("ns_dissociate"), [(HANDLE, 7)])
        self.assertEqual(self.ends, [])

    def test_closeFails(self) -> None:
        """
        No error of a close is expected, so each is raised.
        """
        for error in (errno.EBADF, errno.ENOENT):
            self.open()
            self.library.results["ns_dissociate"] = -error
            self.assertRaises(OSError, self.engine.closeAssociation, 7)

    def test_attach(self) -> None:
        """
        An association that is gone, or busy with such a query, is told apart from
        one that takes the flow; a flow that waits no more needs nothing.
        """
        self.library.results["ns_attach"] = [-errno.EBADF, -errno.EEXIST, 0]
        self.assertFalse(self.request.attach(7))
        self.assertFalse(self.request.attach(8))
        self.assertTrue(self.request.attach(9))
        self.assertEqual(
            self.library.named("ns_attach"),
            [(HANDLE, 1, 7, None), (HANDLE, 1, 8, None), (HANDLE, 1, 9, None)],
        )
        self.library.results["ns_attach"] = -errno.ENOENT
        self.assertTrue(self.engine.attachFlow(1, 7))
        self.library.results["ns_attach"] = -errno.EINVAL
        self.assertRaises(OSError, self.engine.attachFlow, 1, 7)

    def test_redirect(self) -> None:
        """
        Where datagrams really go is said in the library's own form.
        """
        for host, port, family, packed in (
            ("192.0.2.7", 443, 4, bytes((192, 0, 2, 7)) + bytes(12)),
            ("2001:db8::1", 53, 6, bytes.fromhex("20010db8") + bytes(11) + b"\1"),
        ):
            self.engine.attachFlow(1, 9, Endpoint(host, port))
            to = self.library.named("ns_attach")[-1][3]
            self.assertEqual((to.family, to.destination_port), (family, port))
            self.assertEqual(bytes(to.destination), packed)

    def test_serve(self) -> None:
        """
        The services get the flow.
        """
        self.request.serve()
        self.assertEqual(self.library.named("ns_serve"), [(HANDLE, 1)])

    def test_listen(self) -> None:
        """
        The library is told of protocol and port, and may say no.
        """
        self.engine.listen(Protocol.UDP, 53)
        self.assertEqual(self.library.named("ns_listen"), [(HANDLE, 17, 53)])
        self.library.results["ns_listen"] = -errno.EINVAL
        self.assertRaises(OSError, self.engine.listen, Protocol.TCP, 53)

    def test_afterStop(self) -> None:
        """
        After the stop an association cannot be opened, its fd is closed, and those
        that were open are not heard of.
        """
        self.open()
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        near, far = os.pipe()
        self.addCleanup(os.close, far)
        leg = DatagramLeg(near, LegKind.DIRECT, None)
        self.assertRaises(OSError, self.engine.openAssociation, leg, self.ends.append)
        self.assertRaises(OSError, os.fstat, near)
        self.engine.closeAssociation(7)
        self.engine.listen(Protocol.UDP, 53)
        self.assertEqual((len(self.library.calls), self.ends), (before, []))
