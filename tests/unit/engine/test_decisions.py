"""
Tests for L{nanotun.engine.decisions}, by way of the requests.
"""

from __future__ import annotations

import errno
import os

from twisted.internet.defer import CancelledError

from nanotun.engine import abi
from nanotun.engine.native import FLOW_LIMIT
from nanotun.errors import FlowLimitError
from nanotun.flow import AbsoluteForm, Endpoint, Refusal
from tests.unit.engine.engine_cases import HANDLE, EngineCase, request


class ConnectionTests(EngineCase):
    """
    Tests for decisions about connections.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.readEvents(*(request(number) for number in (1, 2, 3)))
        self.request, self.second, self.third = self.handler.requests

    def test_join(self) -> None:
        """
        A join passes the fd, the leftover and the note.
        """
        self.assertTrue(self.request.join(5, b"hello", note=2**63))
        self.assertEqual(
            self.library.named("ns_join"), [(HANDLE, 1, 5, b"hello", 5, None, None, 2**63)]
        )

    def test_joinInAbsoluteForm(self) -> None:
        """
        A join passes the authority and the authorization, if there is one.
        """
        self.assertTrue(self.request.join(5, b"", AbsoluteForm("h.example", b"Basic dTpw")))
        self.assertTrue(self.second.join(6, b"", AbsoluteForm("[2001:db8::1]", b"")))
        self.assertEqual(
            self.library.named("ns_join"),
            [
                (HANDLE, 1, 5, b"", 0, b"h.example", b"Basic dTpw", 0),
                (HANDLE, 2, 6, b"", 0, b"[2001:db8::1]", b"", 0),
            ],
        )

    def test_joinTooLate(self) -> None:
        """
        ENOENT means that the app is gone.
        """
        self.library.results["ns_join"] = -errno.ENOENT
        self.assertFalse(self.request.join(5))

    def test_joinOverLimit(self) -> None:
        """
        EMFILE means that too many flows are joined; the error tells how many.
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
        A refusal passes the reason; it does not matter that the app is gone.
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
        self.assertEqual(self.library.named("ns_drop"), [(HANDLE, 1)])

    def test_afterStop(self) -> None:
        """
        Decisions after the stop do not reach the library, and a joined fd is closed.
        """
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        near, far = os.pipe()
        self.addCleanup(os.close, far)
        self.assertFalse(self.request.join(near))
        self.assertRaises(OSError, os.fstat, near)
        self.second.refuse(Refusal.RESET)
        self.third.drop()
        self.assertEqual(len(self.library.calls), before)


class SniffTests(EngineCase):
    """
    Tests for the names of flows that wait.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.readEvents(request(1), request(2, kind=abi.NS_EVENT_UDP_REQUEST))
        (self.request,) = self.handler.requests
        (self.datagrams,) = self.handler.datagramRequests

    def say(self, name: bytes, outer: bool = False) -> None:
        """The library has found a name."""
        self.library.name = name, outer

    def sniffed(self, flow: int) -> None:
        """The event that says so."""
        self.readEvents({"kind": abi.NS_EVENT_SNIFFED, "flow": flow})

    def test_later(self) -> None:
        """
        A name that comes later is that of its flow, once.
        """
        first, second = self.request.sniff(), self.datagrams.sniff()
        self.assertNoResult(first)
        self.say(b"WWW.Corp.Example.")
        self.sniffed(1)
        self.assertEqual(self.successResultOf(first), "www.corp.example")
        self.assertNoResult(second)
        self.sniffed(1)
        self.say(b"")
        self.sniffed(2)
        self.assertEqual(self.successResultOf(second), "")
        self.assertEqual(self.library.named("ns_sniff"), [(HANDLE, 1), (HANDLE, 2)])

    def test_now(self) -> None:
        """
        A name that is there already is given at once.
        """
        self.library.results["ns_sniff"] = 1
        self.say(b"quic.example")
        self.assertEqual(self.successResultOf(self.datagrams.sniff()), "quic.example")

    def test_nothing(self) -> None:
        """
        A flow that no longer waits, or cannot be accepted, has no name; any other error is
        raised.
        """
        self.library.results["ns_sniff"] = [-errno.ENOENT, -errno.EMFILE, -errno.EALREADY]
        self.assertEqual(self.successResultOf(self.request.sniff()), "")
        self.assertEqual(self.successResultOf(self.request.sniff()), "")
        self.assertRaises(OSError, self.request.sniff)

    def test_cancelled(self) -> None:
        """
        Once it is cancelled, a name that comes later is nobody's.
        """
        name = self.request.sniff()
        name.cancel()
        self.failureResultOf(name, CancelledError)
        self.sniffed(1)
        self.assertEqual(self.library.named("ns_name"), [])

    def test_outer(self) -> None:
        """
        A name that all customers of a provider share stands for none.
        """
        for outer, expected in ((True, ""), (False, "cloudflare-ech.com")):
            self.library.results["ns_sniff"] = 1
            self.say(b"cloudflare-ech.com", outer)
            self.assertEqual(self.successResultOf(self.request.sniff()), expected)

    def test_afterStop(self) -> None:
        """
        After the stop there are no names.
        """
        self.successResultOf(self.engine.stop())
        self.assertEqual(self.successResultOf(self.request.sniff()), "")


class DatagramTests(EngineCase):
    """
    Tests for decisions about datagrams.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        kind = abi.NS_EVENT_UDP_REQUEST
        self.readEvents(*(request(number, kind=kind) for number in (1, 2, 3)))
        self.request, self.second, self.third = self.handler.datagramRequests

    def test_attach(self) -> None:
        """
        An association that is gone, or busy with the same query, is told apart from
        one that takes the flow; the note is passed.
        """
        self.library.results["ns_attach"] = [-errno.EBADF, -errno.EEXIST, 0]
        self.assertFalse(self.request.attach(7))
        self.assertFalse(self.request.attach(8))
        self.assertTrue(self.request.attach(9, note=12))
        self.assertEqual(
            self.library.named("ns_attach"),
            [(HANDLE, 1, 7, None, 0), (HANDLE, 1, 8, None, 0), (HANDLE, 1, 9, None, 12)],
        )

    def test_attachErrors(self) -> None:
        """
        A flow that no longer waits needs nothing; any other error is raised.
        """
        self.library.results["ns_attach"] = -errno.ENOENT
        self.assertTrue(self.request.attach(7))
        self.library.results["ns_attach"] = -errno.EINVAL
        self.assertRaises(OSError, self.second.attach, 7)

    def test_redirect(self) -> None:
        """
        The address that datagrams really go to is passed in the library's own form.
        """
        for redirected, host, port, family, packed in (
            (self.request, "192.0.2.7", 443, 4, bytes((192, 0, 2, 7)) + bytes(12)),
            (self.second, "2001:db8::1", 53, 6, bytes.fromhex("20010db8") + bytes(11) + b"\1"),
        ):
            redirected.attach(9, Endpoint(host, port))
            to = self.library.named("ns_attach")[-1][3]
            self.assertEqual((to.family, to.destination_port), (family, port))
            self.assertEqual(bytes(to.destination), packed)

    def test_serve(self) -> None:
        """
        The services get the flow.
        """
        self.request.serve()
        self.assertEqual(self.library.named("ns_serve"), [(HANDLE, 1)])

    def test_afterStop(self) -> None:
        """
        Decisions after the stop do not reach the library, and the flow is done with.
        """
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        self.assertTrue(self.request.attach(5))
        self.second.serve()
        self.third.drop()
        self.assertEqual(len(self.library.calls), before)
