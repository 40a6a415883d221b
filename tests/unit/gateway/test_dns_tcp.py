"""
Tests for L{nanotun.gateway.dns.tcp}, with a real server.
"""

from __future__ import annotations

import contextlib
import os
import socket

from twisted.internet.defer import fail, succeed
from twisted.internet.task import deferLater

from nanotun.errors import UnexpectedEvent, UpstreamError, UpstreamRefused
from nanotun.gateway.dns.serverconnection import IDLE, StreamQuery
from nanotun.interfaces import Connection
from tests.unit.gateway.gateway_cases import A, answer, ask, record
from tests.unit.gateway.serverstream_cases import StreamCase

PAUSE, LONG_IDLE = 2.0, 60.0


class PipelineTests(StreamCase):
    """Tests for L{ServerStream}."""

    async def test_pipelined(self) -> None:
        """Queries share a connection, with ids of their own; answers come in any order."""
        for number in range(3):
            self.ask(number)
        heard = await self.queries(3)
        self.assertEqual(len({query[:2] for query in heard}), 3)
        for number in (2, 0, 1):
            self.servers[0].sendString(answer(heard[number]))
        await self.until(lambda: len(self.heard) == 3)
        expected = [(number, answer(ask(f"a{number}"))[2:]) for number in (2, 0, 1)]
        self.assertEqual(self.heard, expected)
        self.ask(3)
        await self.queries(4)
        self.assertEqual(len(self.servers), 1)

    async def test_largest(self) -> None:
        """An answer of 65,535 bytes arrives whole."""
        self.ask(0)
        (query,) = await self.queries(1)
        padding = 65535 - len(answer(query, [])) - 12
        large = answer(query, [record(A, 300, bytes(padding))])
        self.assertEqual(len(large), 65535)
        self.servers[0].sendString(large)
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(0, large[2:])])

    async def test_wrong(self) -> None:
        """Messages that answer no query are ignored, and so is the answer to a cancelled query."""
        given = self.ask(0)
        self.ask(1)
        first, second = await self.queries(2)
        given.cancel()
        given.cancel()
        for wrong in (b"", first, answer(first), second[:2] + answer(first)[2:]):
            self.servers[0].sendString(wrong)
        self.servers[0].sendString(answer(second))
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(1, answer(ask("a1"))[2:])])
        self.assertEqual(self.counters.ignored, 4)

    async def test_keptAndClosed(self) -> None:
        """If a connection that has worked is closed, its query is sent again, once."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.ask(1)
        await self.queries(2)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.queries(1, server=1)
        self.assertEqual(len(self.heard), 1)
        self.servers[1].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: len(self.heard) == 2)
        self.assertEqual(self.heard[1:], [1])

    async def test_freshAndClosed(self) -> None:
        """If a fresh connection is closed, its query has failed."""
        self.ask(0)
        await self.queries(1)
        self.servers[0].transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.heard)
        self.assertEqual((self.heard, len(self.servers)), ([0], 1))

    async def test_manyAndClosed(self) -> None:
        """However many queries are under way when a connection ends, each is handled once."""
        count = 500
        self.ask(count)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        for number in range(count):
            self.ask(number).retried = bool(number % 2)
        await self.queries(count + 1)
        compared = 0

        def isSame(one: object, other: object) -> bool:
            nonlocal compared
            compared += 1
            return one is other

        self.patch(StreamQuery, "__eq__", isSame)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.queries(count // 2, server=1)
        self.assertEqual(self.heard[1:], list(range(1, count, 2)))
        self.assertLess(compared, count)

    async def test_idle(self) -> None:
        """An idle connection is closed, and the next query opens another."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.clock.advance(IDLE - 1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.clock.advance(IDLE - 1)
        self.assertFalse(self.servers[0].lost)
        self.clock.advance(1)
        await self.until(lambda: self.servers[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.ask(1)
        await self.queries(1, server=1)

    async def test_silent(self) -> None:
        """A connection without answers is closed, however many queries are sent on it."""
        self.ask(0)
        await self.queries(1)
        self.clock.advance(IDLE / 2)
        self.ask(1)
        self.clock.advance(IDLE / 2)
        await self.until(lambda: self.servers[0].lost)
        self.assertEqual(self.heard, [0, 1])

    async def test_idleLonger(self) -> None:
        """A connection may stay longer while idle, but with a query it waits as ever."""
        self.stream = self.make(idle=LONG_IDLE)
        self.ask(0)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.clock.advance(LONG_IDLE - 1)
        self.assertFalse(self.servers[0].lost)
        self.ask(1)
        await self.queries(2)
        self.clock.advance(IDLE - 1)
        self.assertEqual(self.dials, 1)
        self.clock.advance(1)
        await self.queries(1, server=1)
        self.assertTrue(self.servers[0].lost)

    async def test_notOpened(self) -> None:
        """If no leg opens, the queries that wait fail, and the reason is reported once."""
        self.open = self.later
        self.ask(0)
        self.ask(1)
        self.assertEqual((self.heard, self.troubles), ([], []))
        self.legs[0].errback(UpstreamRefused("No."))
        self.assertEqual((self.heard, self.troubles), ([0, 1], ["No."]))

    async def test_notOpenedTooLate(self) -> None:
        """The reason is reported also when nobody waits for an answer any more."""
        self.open = self.later
        self.ask(0).cancel()
        self.legs[0].errback(UpstreamRefused("No."))
        self.assertEqual((self.heard, self.troubles), ([], ["No."]))

    async def test_notOpenedAtOnce(self) -> None:
        """A query whose leg fails at once raises, and hears nothing more."""
        self.open = lambda: fail(UpstreamRefused("No."))
        error = self.assertRaises(UpstreamError, self.ask, 0)
        self.assertEqual((str(error), self.heard), ("Trouble: No.", []))
        self.assertRaises(UpstreamError, self.ask, 1)
        self.assertEqual(self.dials, 2)

    async def test_pause(self) -> None:
        """For a while after a leg failed, queries fail at once, and nothing is dialled."""
        self.stream = self.make(lambda failures: PAUSE)
        self.open = lambda: fail(UpstreamRefused("No."))
        for _ in range(3):
            self.assertRaises(UpstreamError, self.ask, 0)
        self.clock.advance(PAUSE - 0.1)
        self.assertRaises(UpstreamError, self.ask, 0)
        self.assertEqual((self.dials, self.troubles), (1, ["No."]))
        self.open = self.connect
        self.clock.advance(0.1)
        self.ask(1)
        await self.queries(1)

    async def test_renew(self) -> None:
        """In another network a query under way is sent again on a new connection."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.ask(1)
        await self.queries(2)
        self.stream.renew()
        (query,) = await self.queries(1, server=1)
        self.servers[1].sendString(answer(query))
        await self.until(lambda: len(self.heard) == 2)
        await self.until(lambda: self.servers[0].lost)

    async def test_renewDial(self) -> None:
        """A connection that is being opened then is opened anew; without one nothing is."""
        self.stream.renew()
        self.assertEqual(self.dials, 0)
        self.open = self.later
        self.ask(0)
        self.open = self.connect
        self.stream.renew()
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.assertEqual(self.dials, 2)

    async def test_renewPause(self) -> None:
        """In another network the pause after a failure is over."""
        self.stream = self.make(lambda failures: PAUSE)
        self.open = lambda: fail(UpstreamRefused("No."))
        self.assertRaises(UpstreamError, self.ask, 0)
        self.stream.renew()
        self.open = self.connect
        self.ask(1)
        await self.queries(1)

    async def test_againNotOpened(self) -> None:
        """If the second connection does not open, the query that needs it has failed."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.ask(1)
        await self.queries(2)
        self.open = lambda: fail(UpstreamRefused("No."))
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: len(self.heard) == 2)
        self.assertEqual(self.heard[1:], [1])

    async def test_internalError(self) -> None:
        """An internal error of the upstream is logged, and no query waits for ever."""
        self.open = self.later
        self.ask(0)
        self.legs[0].errback(ZeroDivisionError())
        self.assertEqual((self.heard, len(self.flushLoggedErrors())), ([0], 1))

    async def test_unixSocket(self) -> None:
        """A leg that is a unix socket, to a proxy on this machine, carries queries."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        near.setblocking(False)
        self.open = lambda: succeed(Connection(near.detach(), b""))
        self.ask(0)
        query = b""

        def received() -> bytes:
            nonlocal query
            with contextlib.suppress(BlockingIOError):
                query = far.recv(600)[2:]
            return query

        far.setblocking(False)
        await self.until(received)
        reply = answer(query)
        far.send(len(reply).to_bytes(2, "big") + reply)
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(0, reply[2:])])

    async def test_leftover(self) -> None:
        """Bytes that came with the end of the handshake are read first."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        near.setblocking(False)
        self.open = self.later
        self.ask(0)
        reply = answer(b"\0\0" + ask("a0")[2:])
        whole = len(reply).to_bytes(2, "big") + reply
        self.legs[0].callback(Connection(near.detach(), whole[:5]))
        far.send(whole[5:])
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(0, reply[2:])])

    async def test_lostAtOnce(self) -> None:
        """A leg that cannot be used any more is closed, and its query fails."""
        made = socket.socket()
        made.setblocking(False)
        descriptor = made.detach()
        self.open = lambda: succeed(Connection(descriptor, b""))
        self.assertRaises(OSError, self.ask, 0)
        self.assertRaises(OSError, os.fstat, descriptor)

    async def test_stop(self) -> None:
        """After stop, the dial that was under way is cancelled and reported to nobody."""
        self.open = self.later
        self.ask(0)
        self.stream.stop()
        await deferLater(self.reactor, 0)
        self.assertTrue(self.legs[0].called)
        self.assertEqual((self.heard, self.troubles), ([], []))

    def test_unexpected(self) -> None:
        """An event that the state of the connection does not allow names both."""
        error = self.assertRaises(UnexpectedEvent, self.stream._step, "ended")
        self.assertIn("unexpected event ended in the state closed", str(error))
