"""
Tests for L{nanotun.upstream.plans.courses}, and for which dials the engine is given.
"""

from __future__ import annotations

import errno
import socket
import sys
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import DialEnd, DialEndKind, DialPlan, IDialOutcomes, IPlanned, Via
from nanotun.upstream.dial.resolver import MAX_AGE, SocketAddress
from nanotun.upstream.dial.sockets import STALL_TIME
from nanotun.upstream.make import upstreamsFor
from nanotun.upstream.plans.courses import Courses, pack
from nanotun.upstream.schemes.table import parseProxyURL
from tests.garbage import garbageOf
from tests.unit.upstream.upstream_cases import DESTINATION, FakeReactor, unmarkedContext

#: From linux/in.h, in6.h and un.h, with the families 2, 10 and 1.
FOUR = bytes.fromhex("1f90 c0000209 0000000000000000")
SIX = bytes.fromhex("1f90 00000007 20010db8000000000000000000000009")


class PackTests(SynchronousTestCase):
    """
    Tests for L{pack}.
    """

    def family(self, number: int) -> bytes:
        """The first member."""
        return number.to_bytes(2, sys.byteorder)

    def test_layouts(self) -> None:
        """
        Each address is packed as the kernel reads it: an interface's number in the machine's
        byte order, and everything else in the network's.
        """
        self.assertEqual(
            pack(SocketAddress(socket.AF_INET, ("192.0.2.9", 8080))), self.family(2) + FOUR
        )
        scope = (3).to_bytes(4, sys.byteorder)
        self.assertEqual(
            pack(SocketAddress(socket.AF_INET6, ("2001:db8::9", 8080, 7, 3))),
            self.family(10) + SIX + scope,
        )
        flowless = SIX.replace(b"\7", b"\0") + bytes(4)
        self.assertEqual(
            pack(SocketAddress(socket.AF_INET6, ("2001:db8::9", 8080))),
            self.family(10) + flowless,
        )
        self.assertEqual(
            pack(SocketAddress(socket.AF_UNIX, "/run/p\u00fc")),
            self.family(1) + b"/run/p\xc3\xbc\0",
        )

    def test_notPacked(self) -> None:
        """
        What Python would look up is left to Python.
        """
        for family, place in (
            (socket.AF_INET6, ("fe80::1%eth0", 1)),
            (socket.AF_INET, ("proxy.example", 1)),
        ):
            self.assertIsNone(pack(SocketAddress(family, place)))

    def test_kept(self) -> None:
        """
        A course is made once for one list of addresses, and has what the context says.
        """
        courses = Courses(unmarkedContext(None, 7.0)._replace(mark=5))
        addresses = [SocketAddress(socket.AF_INET, ("192.0.2.9", 8080))]
        course = courses.of(addresses, ())
        assert course is not None
        self.assertIs(courses.of(addresses, ()), course)
        self.assertEqual(course[1:], (7.0, 5, STALL_TIME, 0.0, (), 0))
        other = [*addresses, SocketAddress(socket.AF_INET, ("192.0.2.8", 8080))]
        found = courses.of(other, ())
        assert found is not None
        self.assertEqual(len(found.addresses), 2)


class WhichTests(SynchronousTestCase):
    """
    Which destinations have a plan, and whether it stands.
    """

    def setUp(self) -> None:
        """Count what changes."""
        self.reactor = FakeReactor()
        self.changes = 0

    def changed(self) -> None:
        """See L{nanotun.interfaces.UpstreamContext}."""
        self.changes += 1

    def makePlanned(self, text: str, **values: Any) -> Any:
        """The upstream of a URL."""
        context = unmarkedContext(self.reactor)._replace(mark=0, changed=self.changed)
        (upstream,) = upstreamsFor([parseProxyURL(text)], context._replace(**values))
        return upstream

    def resolve(self, *addresses: Any) -> None:
        """Answer the oldest lookup."""
        receiver, _ = self.reactor.lookups.pop(0)
        receiver.resolutionBegan(None)
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()

    def found(self, upstream: Any, destination: Endpoint = DESTINATION) -> DialPlan:
        """The plan, which there has to be."""
        verifyObject(IPlanned, upstream)
        plan = upstream.plan(destination)
        assert plan is not None
        verifyObject(IDialOutcomes, plan.outcomes)
        return plan  # type: ignore[no-any-return]

    def test_stands(self) -> None:
        """
        Each scheme that sends all at its own pace has a standing plan, by name as well.
        """
        for text in (
            "socks5://192.0.2.9",
            "socks5://u:p@192.0.2.9",
            "socks5h://[2001:db8::9]?pipeline=1",
            "socks4a:///run/proxy",
            "http://192.0.2.9",
            "http://u:p@192.0.2.9?pipeline=1",
            "https://192.0.2.9",
            "https://u:p@192.0.2.9",
        ):
            upstream = self.makePlanned(text)
            for host in ("192.0.2.1", "web.example"):
                plan = self.found(upstream, Endpoint(host, 443))
                self.assertEqual((plan.standing, plan.fd, plan.first), (True, -1, 0), text)
                self.assertIs(self.found(upstream, Endpoint(host, 443)).course, plan.course)

    def test_secret(self) -> None:
        """
        No password is in the flow's own bytes, nor in the text of the plan or of its parts.
        """
        for text in (
            "socks5://u:geheim@192.0.2.9",
            "http://u:geheim@192.0.2.9?pipeline=1",
            "https://u:geheim@192.0.2.9",
        ):
            plan = self.found(self.makePlanned(text))
            for secret in (b"geheim", b"Z2VoZWlt"):
                self.assertNotIn(secret, plan.request)
                begun = plan.outcomes._begun  # type: ignore[attr-defined]
                self.assertNotIn(secret.decode(), repr((plan, plan.course, begun)))

    def test_none(self) -> None:
        """
        There is none where the engine may make no sockets, behind another proxy, and for a
        log-in that the proxy has not asked for yet.
        """
        via = Via("other", self.makePlanned("direct://"))
        for text, values in (
            ("socks5://192.0.2.9", {"mark": None}),
            ("socks5://192.0.2.9", {"via": via}),
            ("http://u:p@192.0.2.9", {}),
            ("direct://", {"mark": None}),
        ):
            self.assertIsNone(self.makePlanned(text, **values).plan(DESTINATION), text)

    def test_notAskedFor(self) -> None:
        """
        There is none for a destination that the protocol cannot name.
        """
        for text, host in (
            ("socks4://192.0.2.9", "2001:db8::1"),
            ("socks5h://192.0.2.9", "x" * 256),
            ("http://192.0.2.9", "a b"),
        ):
            upstream = self.makePlanned(text)
            self.assertIsNone(upstream.plan(Endpoint(host, 443)), text)
            self.failureResultOf(upstream.connect(Endpoint(host, 443)), UpstreamError)

    def test_direct(self) -> None:
        """
        Without a proxy there is one for each address, unless its route leads into the tunnel.
        """
        upstream = self.makePlanned("direct://", leadsIn=lambda host: host == "192.0.2.2")
        plan = self.found(upstream)
        self.assertEqual((plan.standing, plan.request, plan.course.steps), (True, b"", ()))
        self.assertIn(FOUR[2:5], plan.course.addresses[0])
        for host in ("192.0.2.2", "web.example"):
            self.assertIsNone(upstream.plan(Endpoint(host, 443)))

    def test_looksUp(self) -> None:
        """
        There is one once the proxy's name is known, and it stands until that is old.
        """
        upstream = self.makePlanned("socks5://proxy.example")
        self.assertIsNone(upstream.plan(DESTINATION))
        dial = upstream.connect(DESTINATION)
        self.resolve(IPv6Address("TCP", "2001:db8::9", 1080), IPv4Address("TCP", "192.0.2.9", 1080))
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        plan = self.found(upstream)
        self.assertEqual((plan.standing, len(plan.course.addresses)), (True, 2))
        self.reactor.advance(MAX_AGE - 1)
        self.assertEqual(self.changes, 0)
        self.reactor.advance(1)
        self.assertEqual(self.changes, 1)
        self.assertIsNone(upstream.plan(DESTINATION))

    def test_prefers(self) -> None:
        """
        The address that the engine connected to is the first of the next plan.
        """
        upstream = self.makePlanned("socks5://proxy.example")
        upstream.connect(DESTINATION).addErrback(lambda reason: None)
        self.resolve(IPv4Address("TCP", "192.0.2.8", 1080), IPv4Address("TCP", "192.0.2.9", 1080))
        plan = self.found(upstream)
        plan.outcomes.opened(1, 0.01, 0)
        self.assertEqual(self.changes, 0)
        plan.outcomes.opened(3, 0.01, 1)
        self.assertEqual(self.changes, 1)
        expected = plan.course.addresses[::-1]
        self.assertEqual(self.found(upstream).course.addresses, expected)

    def test_logsIn(self) -> None:
        """
        There is one once Basic is what the proxy wants; it falls with the log-in.
        """
        upstream = self.makePlanned("http://u:p@192.0.2.9")
        handshake = upstream._handshakes.connect(DESTINATION)
        handshake.begin()
        head = b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nProxy-Authenticate: %b\r\n\r\n"
        handshake.receive(head % b"Basic realm=x")
        self.assertEqual(self.changes, 1)
        plan = self.found(upstream)
        self.assertTrue(plan.standing)
        self.assertIn(b"Proxy-Authorization: Basic dTpw\r\n\r\n", plan.course.steps[1].send)
        self.assertRaises(UpstreamError, handshake.receive, head % b"Basic realm=x")
        self.assertEqual(self.changes, 2)
        self.assertIsNone(upstream.plan(DESTINATION))
        handshake = upstream._handshakes.connect(DESTINATION)
        handshake.begin()
        handshake.receive(head % b"Digest realm=x, nonce=y, qop=auth")
        self.assertIsNone(upstream.plan(DESTINATION))

    def test_noGarbage(self) -> None:
        """
        However a dial of the engine ends, nothing is left to the garbage collector.
        """
        upstream = self.makePlanned("socks5://192.0.2.9")

        def opened() -> None:
            self.found(upstream).outcomes.opened(1, 0.01, 0)

        def ended(*end: Any) -> None:
            dial = self.found(upstream).outcomes.resume(DialEnd(*end))
            self.failureResultOf(dial, UpstreamError)

        self.assertEqual(garbageOf(opened), [])
        for end in (
            (DialEndKind.FAILED, errno.ECONNREFUSED),
            (DialEndKind.EXPIRED,),
            (DialEndKind.EXPIRED, 0, 1, 0, -1, b"\5\0"),
            (DialEndKind.LOST, 0, 1, 0, -1, b"\5\0\5"),
            (DialEndKind.NO_SOCKET, errno.EMFILE),
        ):
            self.assertEqual(garbageOf(partial(ended, *end)), [], end)
