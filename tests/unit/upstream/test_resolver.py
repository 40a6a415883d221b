"""
Tests for L{nanotun.upstream.dial.resolver}.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import ProxyError
from nanotun.upstream.dial.resolver import (
    DOUBTED_AGE,
    MAX_AGE,
    AddressBook,
    HostAddresses,
    SocketAddress,
)

FOUR = SocketAddress(socket.AF_INET, ("192.0.2.1", 1080))
SIX = SocketAddress(socket.AF_INET6, ("2001:db8::1", 1080, 0, 0))


class ResolvingClock(Clock):
    """Time, and a resolver that the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self
        self.receivers: list[Any] = []

    def resolveHostName(self, receiver: Any, name: str, port: int = 0) -> None:
        """Keep the receiver for the test."""
        self.receivers.append(receiver)

    def answer(self, *addresses: Any) -> None:
        """Answer the oldest lookup."""
        receiver = self.receivers.pop(0)
        verifyObject(IResolutionReceiver, receiver)
        receiver.resolutionBegan(None)
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


class HostAddressesTests(SynchronousTestCase):
    """
    Tests for L{HostAddresses}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = ResolvingClock()
        self.addresses = HostAddresses(self.clock, "proxy.example", 1080)

    def answer(self) -> None:
        """Answer with one address of each family."""
        self.clock.answer(
            IPv6Address("TCP", "2001:db8::1", 1080), IPv4Address("TCP", "192.0.2.1", 1080)
        )

    def test_literal(self) -> None:
        """
        A literal address is known from the start and never expires.
        """
        for host, family in (("192.0.2.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6)):
            addresses = HostAddresses(self.clock, host, 1080)
            expected = [SocketAddress(family, (host, 1080))]
            self.assertEqual(addresses.known(), expected)
            self.clock.advance(MAX_AGE * 2)
            self.assertEqual(self.successResultOf(addresses.get()), expected)

    def test_shared(self) -> None:
        """
        Callers that ask at the same time share one lookup.
        """
        self.assertIsNone(self.addresses.known())
        first, second = self.addresses.get(), self.addresses.get()
        self.assertEqual(len(self.clock.receivers), 1)
        self.answer()
        self.assertEqual(self.successResultOf(first), [SIX, FOUR])
        self.assertEqual(self.successResultOf(second), [SIX, FOUR])

    def test_include(self) -> None:
        """
        From the first lookup on, its addresses are known, with the port.
        """
        self.assertFalse(self.addresses.include("192.0.2.1", 1080))
        self.addresses.get()
        self.answer()
        for host, port, included in (
            ("192.0.2.1", 1080, True),
            ("2001:db8::1", 1080, True),
            ("192.0.2.1", 1081, False),
            ("192.0.2.2", 1080, False),
        ):
            self.assertEqual(self.addresses.include(host, port), included, host)
        self.assertTrue(HostAddresses(self.clock, "192.0.2.9", 1).include("192.0.2.9", 1))
        self.assertFalse(HostAddresses(self.clock, "/run/proxy", 0).include("/run/proxy", 0))

    def test_age(self) -> None:
        """
        An answer is used for a minute.
        """
        self.addresses.get()
        self.answer()
        self.clock.advance(MAX_AGE - 1)
        self.assertEqual(self.addresses.known(), [SIX, FOUR])
        self.clock.advance(1)
        self.assertIsNone(self.addresses.known())

    def test_doubt(self) -> None:
        """
        If no address can be reached, the host is looked up again, but not for each flow.
        """
        self.addresses.get()
        self.answer()
        self.clock.advance(DOUBTED_AGE - 1)
        self.addresses.doubt()
        self.assertEqual(self.addresses.known(), [SIX, FOUR])
        self.clock.advance(1)
        self.addresses.doubt()
        self.assertIsNone(self.addresses.known())

    def test_prefer(self) -> None:
        """
        The address that worked comes first.
        """
        self.addresses.get()
        self.answer()
        before = self.addresses.known()
        self.addresses.prefer(FOUR)
        self.assertEqual(self.addresses.known(), [FOUR, SIX])
        self.assertEqual(before, [SIX, FOUR])
        self.addresses.prefer(SocketAddress(socket.AF_INET, ("192.0.2.99", 1)))
        self.assertEqual(self.addresses.known(), [FOUR, SIX])

    def test_notFound(self) -> None:
        """
        A lookup without an answer fails all callers, and the next caller starts another.
        """
        waiting = self.addresses.get()
        self.clock.answer()
        self.failureResultOf(waiting, ProxyError)
        self.addresses.get()
        self.assertEqual(len(self.clock.receivers), 1)

    def test_fake(self) -> None:
        """
        A fake address is not used as the host's.
        """
        four = IPv4Address("TCP", "192.0.2.1", 1080)
        fakes = [
            IPv6Address("TCP", "fdfe:dcba:9876:1::1", 1080),
            IPv4Address("TCP", "198.19.0.1", 1080),
        ]
        waiting = self.addresses.get()
        self.clock.answer(*fakes)
        error = self.failureResultOf(waiting, ProxyError)
        self.assertIn("proxy.example", str(error.value))
        self.assertIn("full name", str(error.value))
        waiting = self.addresses.get()
        self.clock.answer(*fakes, four)
        self.assertEqual(self.successResultOf(waiting), [FOUR])

    def test_cancel(self) -> None:
        """
        Cancelling one caller's wait does not cancel the others'.
        """
        first, second = self.addresses.get(), self.addresses.get()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.answer()
        self.successResultOf(second)


class HeldAddressesTests(SynchronousTestCase):
    """
    Tests for L{HostAddresses.hold}.
    """

    def setUp(self) -> None:
        """Count what is told."""
        self.clock = ResolvingClock()
        self.changes = 0
        self.addresses = HostAddresses(self.clock, "proxy.example", 1080, self.changed)

    def changed(self) -> None:
        """Something else is known."""
        self.changes += 1

    def lookUp(self, *hosts: str) -> None:
        """Find these addresses."""
        self.addresses.get()
        self.clock.answer(*(IPv4Address("TCP", host, 1080) for host in hosts))

    def test_told(self) -> None:
        """
        Whoever holds the addresses is told once when they are too old, in another order, in
        doubt or others; and nobody else is.
        """

        def prefer() -> None:
            self.addresses.prefer(self.addresses._known[1])

        def doubt() -> None:
            self.clock.advance(DOUBTED_AGE)
            self.addresses.doubt()

        for change in (prefer, doubt, lambda: self.clock.advance(MAX_AGE)):
            self.clock.advance(MAX_AGE)
            self.assertIsNone(self.addresses.hold())
            self.lookUp("192.0.2.1", "192.0.2.2")
            change()
            self.assertEqual(self.changes, 0)
            self.clock.advance(MAX_AGE)
            self.lookUp("192.0.2.1", "192.0.2.2")
            for _ in range(2):
                self.assertEqual(self.addresses.hold(), self.addresses.known())
            change()
            self.assertEqual(self.changes, 1)
            change()
            self.assertEqual(self.changes, 1)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.changes = 0

    def test_same(self) -> None:
        """
        Nothing is told of what changes nothing: the first address worked, or was in doubt
        before it was old enough for that.
        """
        self.lookUp("192.0.2.1", "192.0.2.2")
        held = self.addresses.hold()
        assert held is not None
        self.addresses.prefer(held[0])
        self.addresses.doubt()
        self.assertEqual(self.changes, 0)

    def test_literal(self) -> None:
        """
        An address that is written out is good for ever, in doubt or not, and needs no timer.
        """
        addresses = HostAddresses(self.clock, "192.0.2.1", 1080, self.changed)
        addresses.hold()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(MAX_AGE)
        addresses.doubt()
        self.assertEqual(self.changes, 0)


class AddressBookTests(SynchronousTestCase):
    """
    Tests for L{AddressBook}.
    """

    def test_of(self) -> None:
        """
        All who dial a host have the same addresses, and another port is another matter.
        """
        book = AddressBook(ResolvingClock())
        found = book.of("proxy.example", 1080)
        self.assertIs(book.of("proxy.example", 1080), found)
        self.assertIsNot(book.of("proxy.example", 1081), found)
        self.assertEqual(found.endpoint, ("proxy.example", 1080))
