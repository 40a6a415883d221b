"""
Tests for L{nanotun.gateway.dns.exchange}: one question to several servers.
"""

from __future__ import annotations

import struct

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UnexpectedEvent
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS, Deadlines, Exchange, Waiter
from tests.unit.gateway.gateway_cases import FIRST, SECOND, FakeQueries, answer, ask, read

CUT = answer(ask(), [], flags=0x8380)


def bare(rcode: int) -> bytes:
    """An error without a question."""
    return struct.pack("!HHHHHH", 1, 0x8180 | rcode, 0, 0, 0, 0)


def complete(rcode: int) -> bytes:
    """The same error with the question, as clients get it."""
    return b"??" + answer(ask(), [], flags=0x8180 | rcode)[2:]


class ExchangeTests(SynchronousTestCase):
    """Tests for L{Exchange}."""

    def setUp(self) -> None:
        """An exchange with two servers that one client by TCP waits for."""
        self.clock = Clock()
        self.queries = FakeQueries(FIRST, SECOND)
        self.deadlines = Deadlines(self.clock)
        self.ends: list[bytes | None] = []
        self.cut: list[bytes] = []
        self.exchange = Exchange(
            ask(), read(ask()), self.queries, self.deadlines, self.done, self.truncated, b"key"
        )
        waiter = Waiter("client", b"12", True, 65535, self.fail)
        self.exchange.waiters.append(waiter)

    def done(self, exchange: Exchange, message: bytes | None) -> None:
        """See L{Exchange}."""
        self.assertIs(exchange, self.exchange)
        self.assertEqual(exchange.wire, ask())
        self.ends.append(message)

    def truncated(self, exchange: Exchange, message: bytes) -> None:
        """See L{Exchange}."""
        self.assertIs(exchange, self.exchange)
        self.cut.append(message)

    def test_unexpected(self) -> None:
        """An event that the state does not allow is an error that names both."""
        early = self.assertRaises(UnexpectedEvent, self.exchange.answered, 0, answer(ask()))
        self.assertIn("unexpected event answer in the state new", str(early))
        self.exchange.begin(False)
        twice = self.assertRaises(UnexpectedEvent, self.exchange.begin, False)
        self.assertIn("unexpected event begin in the state udp", str(twice))
        self.exchange.cancel()
        over = self.assertRaises(UnexpectedEvent, self.exchange.begin, True)
        self.assertIn("unexpected event begin by TCP in the state done", str(over))

    def test_late(self) -> None:
        """After the end nothing is reported any more, whatever the servers do."""
        self.exchange.begin(False)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.answer(answer(ask()), attempt=0)
        events = list(self.queries.events)
        for number, asked in enumerate(self.queries.asked):
            asked.failed()
            asked.answered(answer(ask()))
            asked.answered(CUT)
            self.exchange.timedOut(number)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((len(self.ends), self.cut), (1, []))
        self.assertEqual(self.queries.events, events)

    def test_attemptsByTCP(self) -> None:
        """A truncated answer begins the attempts again, by TCP, with the server that gave it."""
        self.exchange.begin(False)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.answer(CUT)
        for _ in range(ATTEMPTS):
            self.assertEqual(self.ends, [])
            self.clock.advance(ATTEMPT_TIMEOUT)
        asked = [each[:2] for each in self.queries.asked]
        expected = [(FIRST, False), (SECOND, False)]
        expected += [(SECOND, True), (FIRST, True), (SECOND, True)]
        self.assertEqual(asked, expected)
        self.assertEqual((self.ends, self.cut), ([None], [b"??" + CUT[2:]]))

    def test_truncatedByTCP(self) -> None:
        """An answer by TCP that is truncated all the same is the answer."""
        self.exchange.begin(True)
        self.queries.answer(CUT)
        self.assertEqual((self.ends, self.cut), ([b"??" + CUT[2:]], []))

    def test_noServer(self) -> None:
        """Without a server there is no answer."""
        self.queries.servers = ()
        self.exchange.begin(False)
        self.assertEqual((self.ends, self.exchange.ended), ([None], True))

    def test_forgotten(self) -> None:
        """What remains of an exchange until its deadline does not hold the query."""
        self.exchange.begin(False)
        self.queries.answer(answer(ask()))
        self.assertTrue(self.exchange.ended)
        self.assertEqual(self.exchange.wire, b"")
        self.assertTrue(self.queries.attempts[0].cancelled)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bareAlone(self) -> None:
        """Without another server an error without a question is the answer, at once."""
        self.queries.servers = (FIRST,)
        self.exchange.begin(False)
        self.queries.answer(bare(5))
        self.assertEqual(self.ends, [complete(5)])
        self.assertEqual(self.queries.events, [("answered", FIRST)])

    def test_bareThenAnswer(self) -> None:
        """After such an error the next server is asked at once, and its answer is the answer."""
        for overTCP in (False, True):
            self.setUp()
            self.exchange.begin(overTCP)
            self.queries.answer(bare(1))
            self.assertEqual([each[:2] for each in self.queries.asked][1:], [(SECOND, overTCP)])
            self.queries.answer(answer(ask()))
            self.assertEqual(self.ends, [b"??" + answer(ask())[2:]])

    def test_bareThenSilence(self) -> None:
        """If the next server is silent, the error is the answer after one attempt's time."""
        self.exchange.begin(False)
        self.queries.answer(bare(1))
        self.assertEqual(self.ends, [])
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((self.ends, len(self.queries.asked)), ([complete(1)], 2))

    def test_bareTwice(self) -> None:
        """If all servers answer so, the first error is the answer."""
        self.exchange.begin(False)
        self.queries.answer(bare(1))
        self.queries.answer(bare(5))
        self.assertEqual((self.ends, len(self.queries.asked)), ([complete(1)], 2))

    def test_bareLate(self) -> None:
        """Such an error that comes late does not end the wait for the server asked since."""
        self.exchange.begin(False)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.answer(bare(1), attempt=0)
        self.assertEqual((self.ends, len(self.queries.asked)), ([], 2))
        self.queries.answer(answer(ask()))
        self.queries.asked[0].answered(bare(1))
        self.assertEqual(self.ends, [b"??" + answer(ask())[2:]])

    def test_bareBeforeTCP(self) -> None:
        """An error by UDP is no answer to what is asked again by TCP."""
        self.exchange.begin(False)
        self.queries.answer(bare(1))
        self.queries.answer(CUT)
        for _ in range(ATTEMPTS):
            self.assertEqual(self.ends, [])
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual(self.ends, [None])
