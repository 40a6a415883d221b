"""
Tests for L{nanotun.upstream.relaynames}.
"""

from __future__ import annotations

import socket
from typing import cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ProxyError
from nanotun.flow import Endpoint
from nanotun.interfaces import DatagramLeg, LegKind
from nanotun.testing import FakeControl
from nanotun.upstream.relaynames import RECHECK, RETRY, TRIES, RelayNames
from tests.clocks import ReaderClock

FIRST, SECOND, THIRD = Endpoint("192.0.2.53", 53), Endpoint("2001:db8::53", 53), Endpoint("h", 53)

NAMED = b"\0\0\0\x03\x0a192.0.2.53\0\x35"
NUMBERED = b"\0\0\0\x01\xc0\0\x02\x35\0\x35"
NAMED6 = b"\0\0\0\x03\x0c2001:db8::53\0\x35"


class RelayNamesTests(SynchronousTestCase):
    """Tests for L{RelayNames}, whose relay is a socket of the test."""

    def setUp(self) -> None:
        """A relay that was not asked yet."""
        self.clock = ReaderClock()
        self.relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.relay.close)
        self.relay.bind(("127.0.0.1", 0))
        self.relay.setblocking(False)
        self.asked: list[int] = []
        self.legs: list[Deferred[DatagramLeg]] = []
        self.cancelled = 0
        self.controls: list[FakeControl] = []
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.names = self.make(FIRST)

    def make(self, *servers: Endpoint) -> RelayNames:
        """One that knows these servers."""
        return RelayNames("socks5://p:1080", self.clock, servers, self.openLeg)

    def openLeg(self, family: int) -> Deferred[DatagramLeg]:
        """An association that the test opens."""
        self.asked.append(family)
        leg: Deferred[DatagramLeg] = Deferred(self.cancel)
        self.legs.append(leg)
        return leg

    def cancel(self, leg: Deferred[DatagramLeg]) -> None:
        """Nobody wants it any more."""
        self.cancelled += 1
        self.legs.remove(leg)

    def open(self) -> FakeControl:
        """Open the oldest association."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.relay.getsockname())
        sock.setblocking(False)
        self.controls.append(FakeControl())
        leg = DatagramLeg(sock.detach(), LegKind.SOCKS5, self.controls[-1])
        self.legs.pop(0).callback(leg)
        return self.controls[-1]

    def hear(self, header: bytes, answer: bool) -> None:
        """The relay gets a query with this header, and perhaps answers it, as from anybody."""
        heard, source = self.relay.recvfrom(1000)
        self.assertTrue(heard.startswith(header), heard)
        query = heard[len(header) :]
        self.assertEqual(query[2:4], b"\x01\0")
        if answer:
            reply = query[:2] + b"\x81\x85" + query[4:]
            self.relay.sendto(b"\0\0\0\x01\x0a\x4d\0\x01\0\x35" + reply, source)
            for reader in list(self.clock.readers):
                reader.doRead()

    def silence(self, header: bytes) -> None:
        """All tries of a query stay without an answer."""
        for _ in range(TRIES):
            self.hear(header, False)
            self.clock.advance(RETRY)
        self.assertRaises(BlockingIOError, self.relay.recv, 1)

    def lines(self) -> list[str]:
        """What was logged since the last call."""
        events, self.events[:] = self.events[:], []
        return [formatEvent(event) for event in events]

    def assertClean(self) -> None:
        """Nothing is left of a probe."""
        self.assertEqual((self.clock.readers, self.clock.getDelayedCalls()), ([], []))
        self.assertEqual([each.closed for each in self.controls], [True] * len(self.controls))

    def test_yes(self) -> None:
        """A relay that carries a query to a named server takes names, which is no news; it is
        asked again after an hour."""
        first, second = self.names.ask(), self.names.ask()
        self.assertIsNone(self.names.known)
        self.open()
        self.hear(NAMED, True)
        self.assertEqual([self.successResultOf(each) for each in (first, second)], [True, True])
        self.assertIs(self.names.known, True)
        self.clock.advance(RECHECK[True] - 1)
        self.assertTrue(self.successResultOf(self.names.ask()))
        self.assertEqual((self.asked, self.lines()), ([4], []))
        self.clock.advance(1)
        self.names.ask()
        self.open()
        self.assertEqual(self.asked, [4, 4])
        self.hear(NAMED, True)
        self.assertClean()

    def test_loss(self) -> None:
        """Losses cost time, and change nothing."""
        asked = self.names.ask()
        self.open()
        for _ in range(TRIES - 1):
            self.hear(NAMED, False)
            self.clock.advance(RETRY)
        self.hear(NAMED, True)
        self.assertTrue(self.successResultOf(asked))
        self.assertClean()

    def test_no(self) -> None:
        """A relay that carries the query only by address takes no names, which is told once; on
        another association, as the first may be spoilt."""
        for _ in range(2):
            asked = self.names.ask()
            self.open()
            self.silence(NAMED)
            self.open()
            self.hear(NUMBERED, True)
            self.assertFalse(self.successResultOf(asked))
            self.assertIs(self.names.known, False)
            self.clock.advance(RECHECK[False])
        self.assertClean()
        (line,) = self.lines()
        self.assertEqual(
            line,
            "The UDP relay of the proxy socks5://p:1080 takes no host names, so nanotun looks up "
            "the names of UDP destinations itself, as dnsVia says.",
        )
        self.names.ask()
        self.open()
        self.hear(NAMED, True)
        self.assertEqual(
            self.lines(), ["The UDP relay of the proxy socks5://p:1080 takes host names now."]
        )

    def test_unknown(self) -> None:
        """If no server answers either way that is told, and the relay is soon asked again."""
        names = self.make(FIRST)
        asked = names.ask()
        for header in (NAMED, NUMBERED):
            self.open()
            self.silence(header)
        self.assertFalse(self.successResultOf(asked))
        self.assertIsNone(names.known)
        (line,) = self.lines()
        self.assertIn(
            "socks5://p:1080 takes host names: 192.0.2.53:53 answers through it neither", line
        )
        self.clock.advance(RECHECK[None] - 1)
        self.assertFalse(self.successResultOf(names.ask()))
        self.clock.advance(1)
        names.ask().addErrback(lambda reason: reason.trap(CancelledError)).cancel()
        self.assertEqual(len(self.asked), 3)
        self.assertClean()

    def test_second(self) -> None:
        """The second server is asked where the first says nothing, and no third one."""
        names = self.make(FIRST, SECOND, THIRD)
        asked = names.ask()
        for header in (NAMED, NUMBERED):
            self.open()
            self.silence(header)
        self.open()
        self.hear(NAMED6, True)
        self.assertTrue(self.successResultOf(asked))
        self.assertEqual(self.asked, [4, 4, 6])
        self.assertClean()

    def test_noServer(self) -> None:
        """Without servers nothing can be told."""
        self.assertFalse(self.successResultOf(self.make().ask()))
        self.assertEqual((self.asked, len(self.lines())), ([], 1))

    def test_fails(self) -> None:
        """If there is no association all who wait are told why, and the next one asks again."""
        waiting = [self.names.ask(), self.names.ask()]
        self.legs.pop().errback(ProxyError("It is off."))
        for asked in waiting:
            self.failureResultOf(asked, ProxyError)
        self.names.ask()
        self.assertEqual(len(self.asked), 2)
        self.open()
        self.hear(NAMED, True)
        self.assertEqual(self.lines(), [])

    def test_hangsUp(self) -> None:
        """A proxy that ends the association because of the name takes none."""
        asked = self.names.ask()
        control = self.open()
        self.hear(NAMED, False)
        control.lose()
        self.open()
        self.hear(NUMBERED, True)
        self.assertFalse(self.successResultOf(asked))
        self.assertClean()

    def test_hungUp(self) -> None:
        """The same if it has ended it by then."""
        asked = self.names.ask()
        control = FakeControl()
        control.lose()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.relay.getsockname())
        self.legs.pop().callback(DatagramLeg(sock.detach(), LegKind.SOCKS5, control))
        self.assertTrue(control.closed)
        self.assertNoResult(asked)
        self.hear(NAMED, False)
        self.open()
        self.hear(NUMBERED, True)
        self.assertFalse(self.successResultOf(asked))
        self.assertClean()

    def test_cancelled(self) -> None:
        """Who gives up does not end the probe for the others; the last one does."""
        first, second = self.names.ask(), self.names.ask()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.cancelled, 0)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.cancelled, 1)
        third = self.names.ask()
        self.open()
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.assertClean()
        fourth = self.names.ask()
        self.open()
        self.hear(NAMED, False)
        self.hear(NAMED, True)
        self.assertTrue(self.successResultOf(fourth))

    def test_deadline(self) -> None:
        """Where flows have less time than a probe takes, the first to give up is the last to
        wait: for a while it counts as not known, and flows go by address."""
        asked = self.names.ask()
        self.open()
        self.silence(NAMED)
        self.open()
        self.hear(NUMBERED, False)
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertClean()
        self.assertFalse(self.successResultOf(self.names.ask()))
        self.assertIsNone(self.names.known)
        self.clock.advance(RECHECK[None])
        self.names.ask()
        self.open()
        self.hear(NAMED, True)
        self.assertIs(self.names.known, True)
