"""
Tests for L{nanotun.upstream.pool.pool} and L{nanotun.upstream.pool.warm}, with a clock and
dials in memory.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import HandshakeError, ProxyError, UnexpectedEvent
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.pool.lifetimes import AGE_LIMIT, AGE_MIN, ALIKE_ENDS
from nanotun.upstream.pool.pool import (
    BACKOFF_FIRST,
    BACKOFF_LIMIT,
    DIALS,
    DISLIKED_FIRST,
    REST_TIME,
    SPREAD,
    WarmPool,
)
from nanotun.upstream.pool.warm import WarmConnection
from tests.unit.upstream.upstream_cases import FakeReactor

SIZE = 6

#: The life of a connection, and the first back-off, with the tests' chance of one half.
LIFE = AGE_LIMIT * (1 - SPREAD / 2)
FIRST = BACKOFF_FIRST * 0.75


@implementer(IHandshake)
class Greeting:
    """A greeting that accepts only the ticket C{b"t"}, and answers it."""

    again = requested = resumable = False
    done = True
    leftover = b""

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """Nothing."""
        return b""

    def receive(self, data: bytes) -> bytes:
        """Accept a ticket."""
        if data != b"t":
            raise HandshakeError("Not a ticket.")
        return b"T"


class PoolCase(SynchronousTestCase):
    """A pool whose dials the test answers."""

    greet: Any = Greeting

    def setUp(self) -> None:
        """Make the pool, which is not started."""
        self.reactor = FakeReactor()
        self.dials: list[Deferred[Connection]] = []
        self.far: list[socket.socket] = []
        self.events: list[LogEvent] = []
        self.pool = WarmPool(
            self.reactor, "socks5://p:1", SIZE, 10.0, self.greet, self.dial, lambda: 0.5
        )

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.events.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.addCleanup(self.end)

    def end(self) -> None:
        """Stop the pool; nothing is left."""
        if self.pool.running:
            self.pool.stopService()
        self.assertEqual(len(self.pool.idle), 0)
        self.assertEqual((self.dials, self.pool.dialling), ([], set()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers, [])
        for far in self.far:
            far.close()

    def dial(self, greeting: IHandshake | None) -> Deferred[Connection]:
        """Leave the answer to the test."""
        dial: Deferred[Connection] = Deferred(self.dials.remove)
        self.dials.append(dial)
        return dial

    def answer(self, count: int = 1000) -> None:
        """Up to this many dials succeed."""
        while self.dials and count:
            near, far = socket.socketpair()
            near.setblocking(False)
            self.far.append(far)
            self.dials.pop(0).callback(Connection(near.detach(), b""))
            count -= 1

    def fail(self, *arguments: Any) -> Any:  # type: ignore[override]
        """The oldest dial fails; with arguments, trial's own method."""
        if arguments:
            return super().fail(*arguments)
        self.dials.pop(0).errback(ProxyError("It is not there."))
        return None

    def started(self) -> None:
        """Start and fill the pool."""
        self.pool.startService()
        self.answer()
        self.assertEqual(len(self.pool.idle), SIZE)

    def lose(self, warm: WarmConnection) -> None:
        """The proxy ends a connection that waits."""
        self.reactor.readers.remove(warm)
        warm.connectionLost(Failure(ZeroDivisionError()))

    def take(self) -> WarmConnection:
        """Take a connection, whose socket is closed after the test."""
        warm = self.pool.take()
        assert warm is not None
        self.addCleanup(warm.stream.close)
        return warm


class FillTests(PoolCase):
    """How the pool fills itself."""

    def test_start(self) -> None:
        """
        It does not dial before the start, and then dials a few at a time.
        """
        self.pool.refill()
        self.assertEqual((self.dials, self.pool.take()), ([], None))
        self.pool.startService()
        self.assertEqual(len(self.dials), DIALS)
        self.answer(1)
        self.assertEqual(len(self.dials), DIALS)
        self.answer()
        self.assertEqual(len(self.pool.idle), SIZE)

    def test_networkMoved(self) -> None:
        """In another network it opens all connections anew, without a pause."""
        self.pool.networkMoved()
        self.assertEqual(self.dials, [])
        self.started()
        waited = list(self.pool.idle)
        self.pool.networkMoved()
        self.assertEqual((list(self.pool.idle), len(self.dials)), ([], DIALS))
        self.fail()
        before = len(self.dials)
        self.pool.networkMoved()
        self.assertEqual((before < DIALS, len(self.dials)), (True, DIALS))
        self.answer()
        self.assertEqual(len(self.pool.idle), SIZE)
        self.assertFalse(set(waited) & set(self.pool.idle))

    def test_use(self) -> None:
        """
        The oldest is taken and no longer watched; the next refill replaces it.
        """
        self.started()
        oldest = self.pool.idle[0]
        self.assertIs(self.take(), oldest)
        self.assertNotIn(oldest, self.reactor.readers)
        self.assertEqual(self.dials, [])
        self.pool.refill()
        self.assertEqual(len(self.dials), 1)
        oldest.worked()

    def test_empty(self) -> None:
        """
        An empty pool gives no connection.
        """
        self.started()
        for _ in range(SIZE):
            self.take()
        self.assertIsNone(self.pool.take())

    def test_stop(self) -> None:
        """
        Stopping cancels dials and closes the connections that wait.
        """
        self.pool.startService()
        self.answer(1)
        (warm,) = self.pool.idle
        self.pool.stopService()
        self.assertEqual(warm.stream.fileno(), -1)
        self.assertIsNone(self.pool.take())

    def test_expires(self) -> None:
        """
        Connections that are too old are replaced.
        """
        self.started()
        self.reactor.advance(LIFE - 0.1)
        self.assertEqual(self.dials, [])
        self.reactor.advance(0.1)
        self.assertEqual((len(self.pool.idle), len(self.dials)), (0, DIALS))

    def test_tooOld(self) -> None:
        """
        A connection that is too old is not given out, even if the timer is late.
        """
        self.started()
        self.reactor.rightNow += LIFE
        self.assertIsNone(self.pool.take())

    def test_rest(self) -> None:
        """
        If no flow comes for long, connections are not replaced until the next one.
        """
        self.started()
        while self.pool.idle:
            self.reactor.advance(LIFE)
            self.answer()
        self.assertGreaterEqual(self.reactor.seconds(), REST_TIME)
        self.assertIsNone(self.pool.take())
        self.pool.refill()
        self.assertEqual(len(self.dials), DIALS)


class TroubleTests(PoolCase):
    """How the pool deals with trouble."""

    def warnings(self) -> list[str]:
        """The lines that a user sees by default."""
        return [
            str(event["log_format"]) for event in self.events if event["log_level"] > LogLevel.info
        ]

    def test_failed(self) -> None:
        """
        A proxy that cannot be reached is dialled at longer and longer intervals, and
        nothing is logged.
        """
        self.pool.startService()
        while self.dials:
            self.fail()
        waited = [0.0] * 9
        for turn in range(9):
            while not self.dials:
                self.reactor.advance(0.25)
                waited[turn] += 0.25
            while self.dials:
                self.fail()
        self.assertEqual(waited[:3], [FIRST, 2 * FIRST, 4 * FIRST])
        self.assertEqual(waited[-1], BACKOFF_LIMIT * 0.75)
        self.assertEqual(self.warnings(), [])

    def test_internalError(self) -> None:
        """
        An internal error is logged, and the pool continues.
        """
        self.pool.startService()
        self.dials.pop(0).errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.answer()
        self.reactor.advance(FIRST)
        self.answer()
        self.assertEqual(len(self.pool.idle), SIZE)

    def test_ended(self) -> None:
        """
        A connection that ends while it waits is removed at once and replaced after a
        back-off.
        """
        self.started()
        warm = self.pool.idle[2]
        self.lose(warm)
        self.assertNotIn(warm, self.pool.idle)
        self.assertEqual((warm.stream.fileno(), self.dials), (-1, []))
        self.reactor.advance(FIRST)
        self.assertEqual(len(self.dials), 1)

    def test_lost(self) -> None:
        """
        If a request finds that its connection has ended, the others are closed too.
        """
        self.started()
        warm = self.take()
        warm.lost()
        self.assertEqual(len(self.pool.idle), 0)
        self.reactor.advance(FIRST)
        self.answer()
        self.assertEqual(len(self.pool.idle), SIZE)

    def test_learns(self) -> None:
        """
        If the proxy ends connections early, they are replaced earlier.
        """
        self.started()
        for _ in range(ALIKE_ENDS):
            self.reactor.advance(10)
            for warm in list(self.pool.idle):
                self.lose(warm)
            self.assertEqual(self.dials, [])
            self.reactor.advance(BACKOFF_LIMIT / 2)
            self.answer()
        self.assertLess(self.pool.idle[0].until - self.reactor.seconds(), 10)
        self.assertEqual(self.warnings(), [])

    def test_disliked(self) -> None:
        """
        If the proxy ends connections at once, the pool turns itself off, logs one line,
        and tries again much later.
        """
        for turn in range(2):
            if turn == 0:
                self.pool.startService()
            for _ in range(ALIKE_ENDS):
                self.answer()
                self.reactor.advance(AGE_MIN / 4)
                while self.pool.idle:
                    self.lose(self.pool.idle[0])
                self.reactor.advance(8 * BACKOFF_FIRST)
                self.pool.take()
            self.assertEqual((self.dials, len(self.pool.idle)), ([], 0))
            (line,) = self.warnings()
            self.assertIn("upstreamPool is off", line)
            self.reactor.advance(DISLIKED_FIRST * (turn + 1))
            self.pool.take()
            self.pool.refill()
            self.assertEqual(len(self.dials), DIALS)


class WarmTests(PoolCase):
    """One connection that waits."""

    def read(self, data: bytes) -> object:
        """What the oldest connection does when the proxy sends this; nothing is the end."""
        self.started()
        warm = self.pool.idle[0]
        verifyObject(IReadDescriptor, warm)
        verifyObject(ILoggingContext, warm)
        self.assertEqual(warm.logPrefix(), "warm")
        self.assertIsNone(warm.doRead())
        if data:
            self.far[0].send(data)
        else:
            self.far[0].close()
        return warm.doRead()

    def test_ticket(self) -> None:
        """
        Data that the greeting expects is answered.
        """
        self.assertIsNone(self.read(b"t"))
        self.assertEqual(self.far[0].recv(10), b"T")

    def test_noise(self) -> None:
        """
        Any other data ends the connection.
        """
        self.assertIsNotNone(self.read(b"noise"))

    def test_end(self) -> None:
        """
        The proxy's end does too.
        """
        self.assertIsNotNone(self.read(b""))

    def test_unexpected(self) -> None:
        """
        An event that a state does not allow is an error that names both.
        """
        self.started()
        warm = self.take()
        error = self.assertRaises(UnexpectedEvent, warm.lend)
        self.assertIn("lent in the state lent", str(error))


class PlainTests(WarmTests):
    """The same for a scheme that has no greeting."""

    greet = None

    def test_ticket(self) -> None:
        """
        Without a greeting any data ends the connection.
        """
        self.assertIsNotNone(self.read(b"t"))


class GoneTests(PoolCase):
    """Connections that end before they wait."""

    def test_gone(self) -> None:
        """
        A connection that has lost its peer is closed.
        """
        self.pool.startService()
        near = socket.socket()
        fd = near.detach()
        self.dials.pop(0).callback(Connection(fd, b""))
        self.assertRaises(OSError, socket.socket, fileno=fd)
        self.assertEqual(len(self.pool.idle), 0)
