"""
Tests for L{nanotun.gateway.dns.exchange}: one question to several servers.
"""

from __future__ import annotations

import struct

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UnexpectedEvent
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS, Deadlines, Exchange, Waiter
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.trace import Trace, Try
from nanotun.interfaces import DnsServer
from tests.unit.gateway.gateway_cases import FIRST, SECOND, FakeQueries, answer, ask, read

THIRD = DnsServer("udp", "127.0.0.3", 53)
CUT = answer(ask(), [], flags=0x8380)


def bare(rcode: int) -> bytes:
    """An error without a question."""
    return struct.pack("!HHHHHH", 1, 0x8180 | rcode, 0, 0, 0, 0)


def complete(rcode: int) -> bytes:
    """The same error with the question, as clients get it."""
    return b"??" + answer(ask(), [], flags=0x8180 | rcode)[2:]


class ExchangeCase(SynchronousTestCase):
    """An exchange and what comes of it."""

    def setUp(self) -> None:
        """An exchange with two servers that one client by TCP waits for."""
        self.clock = Clock()
        self.queries = FakeQueries(FIRST, SECOND)
        self.deadlines = Deadlines(self.clock)
        self.ends: list[bytes | None] = []
        self.cut: list[bytes] = []
        self.late: list[int] = []
        self.exchange = Exchange(
            ask(),
            read(ask()),
            self.queries,
            self.deadlines,
            self.done,
            self.truncated,
            b"key",
            lambda exchange: self.late.append(len(self.queries.asked)),
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

    def tally(self, server: DnsServer) -> ServerTally:
        """What has come of the queries to a server."""
        return self.queries.tallies[server]


class ExchangeTests(ExchangeCase):
    """Tests for L{Exchange}."""

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

    def test_server(self) -> None:
        """It says whose answer was taken, also when that server was asked first and is late."""
        self.exchange.begin(False)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.answer(answer(ask()), attempt=0)
        self.assertEqual((self.exchange.server, self.exchange.tally), (FIRST, self.tally(FIRST)))

    def test_noServerAnswers(self) -> None:
        """If none answers, there is none whose answer was taken, though one was cut off."""
        self.exchange.begin(False)
        self.queries.answer(CUT)
        for _ in range(ATTEMPTS):
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((self.ends, self.exchange.server), ([None], None))

    def test_bareServer(self) -> None:
        """Of several errors without a question the first is the answer, and its server is named."""
        self.exchange.begin(False)
        self.queries.answer(bare(5))
        self.queries.answer(bare(2))
        self.assertEqual((self.ends, self.exchange.server), ([complete(5)], FIRST))

    def test_lateOnce(self) -> None:
        """That the first server is late is told once, before the next one is asked."""
        self.exchange.begin(False)
        self.assertEqual(self.late, [])
        for _ in range(ATTEMPTS):
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((self.late, self.ends), ([1], [None]))

    def test_lateNever(self) -> None:
        """A server that cannot be asked, or that refuses, is not late."""
        self.exchange.begin(False)
        self.queries.asked[0].failed()
        self.queries.answer(answer(ask()))
        self.assertEqual((self.late, len(self.ends)), ([], 1))


class ConnectionTests(ExchangeCase):
    """Tests for servers that are asked on a connection, where nothing is lost."""

    def begin(self, *servers: DnsServer) -> None:
        """The first server is asked, and need not be asked again."""
        self.queries.servers = servers
        self.exchange.begin(False)
        self.queries.attempts[0].again = False

    def test_alone(self) -> None:
        """The only server gets one query and the time of all attempts."""
        self.begin(FIRST)
        for _ in range(ATTEMPTS - 1):
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((len(self.queries.asked), self.late, self.ends), (1, [1], []))
        self.queries.answer(answer(ask()))
        self.assertEqual((len(self.ends), self.exchange.server), (1, FIRST))

    def test_aloneAndSilent(self) -> None:
        """That time over, there is no answer."""
        self.begin(FIRST)
        for _ in range(ATTEMPTS):
            self.assertEqual(self.ends, [])
            self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((len(self.queries.asked), self.ends), (1, [None]))
        # Each time counts for the order of the servers, but it is one query that has failed.
        self.assertEqual(self.queries.events, [("timedOut", FIRST)] * ATTEMPTS)
        self.assertEqual(self.tally(FIRST).errors, 1)

    def test_fails(self) -> None:
        """If its connection ends in its second time, it is asked again at once."""
        self.begin(FIRST)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.attempts[0].again = True
        self.queries.asked[0].failed()
        self.assertEqual([each.server for each in self.queries.asked], [FIRST, FIRST])

    def test_two(self) -> None:
        """The other server is asked in its turn; then the answer of the first is awaited."""
        self.begin(FIRST, SECOND)
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.queries.attempts[1].again = False
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual([each.server for each in self.queries.asked], [FIRST, SECOND])
        # The other's failure changes nothing, as it is not its turn.
        self.queries.asked[1].failed()
        self.assertEqual((len(self.queries.asked), self.ends), (2, []))
        self.queries.answer(answer(ask()), attempt=0)
        self.assertEqual((len(self.ends), self.exchange.server), (1, FIRST))

    def test_failsInDoubt(self) -> None:
        """A doubt by which an attempt fails has the next server asked once."""
        self.begin(FIRST, SECOND)

        def doubt() -> bool:
            self.queries.asked[0].failed()
            return True

        self.queries.attempts[0].doubt = doubt  # type: ignore[method-assign]
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual([each.server for each in self.queries.asked], [FIRST, SECOND])


class TraceTests(ExchangeCase):
    """Tests for what a waiter is told of the servers that were asked."""

    def begin(self, overTCP: bool = True) -> Trace:
        """A client waits that wants to know."""
        trace = Trace()
        waiter = Waiter("other", b"34", overTCP, 65535, self.fail, trace)
        self.exchange.waiters.append(waiter)
        self.exchange.begin(False)
        return trace

    def test_tries(self) -> None:
        """Each server is told with its time and what came of it, and so is who has answered."""
        self.queries.servers = (FIRST, SECOND, THIRD)
        trace = self.begin()
        self.queries.error = OSError("It is broken.")
        self.clock.advance(ATTEMPT_TIMEOUT)
        # The second cannot be asked, and so is the third; then no attempt is left.
        self.assertEqual((trace.stage, trace.server, trace.via), ("server", "", ""))
        self.assertEqual(
            trace.tries,
            (
                Try("127.0.0.1:53", "direct", ATTEMPT_TIMEOUT, "no answer"),
                Try("127.0.0.2:53", "direct", 0, "It is broken."),
                Try("127.0.0.3:53", "direct", 0, "It is broken."),
            ),
        )

    def test_answered(self) -> None:
        """The server that has answered has no trouble; the one that is still asked has not
        answered."""
        trace = self.begin()
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.clock.advance(0.25)
        self.queries.answer(answer(ask()), attempt=0)
        self.assertEqual((trace.server, trace.via), ("127.0.0.1:53", "direct"))
        self.assertEqual(
            trace.tries,
            (
                Try("127.0.0.1:53", "direct", ATTEMPT_TIMEOUT + 0.25, ""),
                Try("127.0.0.2:53", "direct", 0.25, "no answer"),
            ),
        )

    def test_longTurn(self) -> None:
        """A server that is awaited for several turns is told once."""
        self.queries.servers = (FIRST,)
        trace = self.begin()
        self.queries.attempts[0].again = False
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.clock.advance(0.5)
        self.queries.answer(answer(ask()))
        self.assertEqual(trace.tries, (Try("127.0.0.1:53", "direct", 2.0, ""),))

    def test_truncated(self) -> None:
        """A client by UDP that gets an answer which is cut off is told whose it is."""
        trace = self.begin(overTCP=False)
        self.queries.answer(CUT)
        self.assertEqual((trace.stage, trace.server), ("server", "127.0.0.1:53"))
        self.assertEqual(trace.tries, (Try("127.0.0.1:53", "direct", 0, ""),))
