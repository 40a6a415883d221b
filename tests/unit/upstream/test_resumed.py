"""
Tests for L{nanotun.upstream.plans.resumed}: dials that the engine began, on connections that
waited, and with little time left.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from nanotun.errors import (
    DestinationSilent,
    ProxyClosedError,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.interfaces import Connection, DialEnd, DialEndKind
from nanotun.upstream.dial.sockets import STALL_TIME
from nanotun.upstream.pool.warm import WarmConnection
from tests.unit.upstream.plan_cases import PlanCase
from tests.unit.upstream.upstream_cases import DESTINATION

METHOD = b"\5\0"
REPLY = b"\5\0\0\1\0\0\0\0\0\0"
REFUSED = b"\5\5\0\1\0\0\0\0\0\0"
GREETING = b"\5\1\0"
REQUEST = b"\5\1\0\1\xc0\0\2\1\1\xbb"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
TIMED_OUT = b"HTTP/1.1 408 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class WaitedTests(PlanCase):
    """
    Dials of the engine on connections that waited.
    """

    async def filled(self, url: str, *scripts: tuple[bytes, ...]) -> Any:
        """An upstream with one connection that waits, and a pool that dials no more."""
        text = url.format(f"127.0.0.1:{self.each(*scripts)}")
        upstream = self.makePlanned(text, poolSize=1)
        pool = self.pool = upstream.pool
        pool.startService()
        await self.until(lambda: len(pool.idle) == 1)
        self.events: list[str] = []
        (warm,) = pool.idle
        warm._happened = lambda warm, event: self.events.append(event.value)
        pool.refill = lambda: self.events.append("refill")
        return upstream

    def assertClean(self) -> None:
        """The reactor has no descriptor of ours left."""
        super().assertClean()
        readers = [each for each in self.reactor.getReaders() if isinstance(each, WarmConnection)]
        self.assertEqual(readers, [])

    async def closed(self) -> None:
        """Nothing is left open."""
        self.assertClean()
        self.pool.stopService()
        await self.ended()

    async def test_joins(self) -> None:
        """
        The engine sends the request alone; then the connection has worked, and others take its
        place.  With a pool, no plan stands.
        """
        for url in ("socks5://{}", "socks5://{}?pipeline=1"):
            upstream = await self.filled(url, (METHOD, REPLY + b"hello"), (METHOD,))
            connection, kind = await self.carryOut(upstream)
            self.assertEqual((connection.leftover, kind), (b"hello", None))
            os.close(connection.fd)
            self.assertEqual(self.scripts[0].heard, GREETING + REQUEST)
            self.assertEqual(self.events, ["worked"])
            self.clock.advance(0)
            self.assertEqual(self.events, ["worked", "refill"])
            plan = upstream.plan(DESTINATION)
            self.assertEqual((plan.fd, plan.standing), (-1, False))
            self.clock.advance(0)
            self.assertEqual(self.events[2:], ["refill"])
            await self.closed()
            self.scripts.clear()

    async def test_course(self) -> None:
        """
        All dials on connections that waited share one course, which is not made for each flow.
        """
        courses: list[Any] = []
        upstream = await self.filled("socks5://{}", (METHOD,))
        for _ in range(2):
            if courses:
                again = await self.filled("socks5://{}", (METHOD,))
                upstream.pool.idle.extend(again.pool.idle)
                again.pool.idle.clear()
            plan = upstream.plan(DESTINATION)
            os.close(plan.fd)
            courses.append(plan.course)
        self.assertIs(*courses)
        self.clock.advance(0)
        self.pool.stopService()

    async def test_refused(self) -> None:
        """
        A refusal is the same error, and the connection has worked.
        """
        upstream = await self.filled("socks5://{}", (METHOD, REFUSED, b""))
        await self.failure(UpstreamRefused, Deferred.fromCoroutine(self.carryOut(upstream)))
        self.assertEqual(self.events, ["worked"])
        await self.closed()

    async def test_lost(self) -> None:
        """
        A connection that the proxy had ended is replaced by a new one, on which all is said
        again.
        """
        upstream = await self.filled("socks5://{}", (METHOD, b""), (METHOD, REPLY))
        connection, kind = await self.carryOut(upstream)
        os.close(connection.fd)
        self.assertEqual(kind, DialEndKind.LOST)
        self.assertEqual(self.events, ["lost"])
        self.assertEqual(self.scripts[1].heard, GREETING + REQUEST)
        await self.closed()

    async def test_lostTwice(self) -> None:
        """
        If the new one ends as well, the dial fails.
        """
        upstream = await self.filled("socks5://{}", (METHOD, b""), (METHOD, b""))
        await self.failure(ProxyClosedError, Deferred.fromCoroutine(self.carryOut(upstream)))
        await self.closed()

    async def test_halfAnswer(self) -> None:
        """
        A proxy that has begun to answer is not asked again.
        """
        upstream = await self.filled("socks5://{}", (METHOD, b"\5\0", b""), (METHOD, REPLY))
        await self.failure(ProxyClosedError, Deferred.fromCoroutine(self.carryOut(upstream)))
        self.assertEqual(self.events, [])
        await self.closed()

    async def test_timedOut(self) -> None:
        """
        HTTP's 408 is an answer to nobody, and a new connection is dialled.
        """
        upstream = await self.filled("http://{}", (TIMED_OUT, b""), (OPEN,))
        connection, kind = await self.carryOut(upstream)
        os.close(connection.fd)
        self.assertEqual((kind, len(self.scripts)), (DialEndKind.HANDED, 2))
        await self.closed()

    async def test_stall(self) -> None:
        """
        A connection that goes on here gets the time that any other has to send.
        """
        odd = b"HTTP/1.1 100 Continue\r\n\r\n" + OPEN
        upstream = await self.filled("http://{}", (odd,))
        connection, kind = await self.carryOut(upstream)
        with socket.socket(fileno=connection.fd) as stream:
            limit = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        self.assertEqual((kind, limit), (DialEndKind.HANDED, STALL_TIME * 1000))
        self.assertEqual(self.events, ["worked"])
        await self.closed()

    async def test_silent(self) -> None:
        """
        Silence until the deadline is the destination's, and says nothing of the connection.
        """
        upstream = await self.filled("socks5://{}", (METHOD,))
        plan = upstream.plan(DESTINATION)
        os.close(plan.fd)
        end = DialEnd(DialEndKind.EXPIRED, step=0, seconds=5.0)
        await self.failure(DestinationSilent, plan.outcomes.resume(end))
        self.assertEqual(self.events, [])
        await self.closed()

    async def test_notWatched(self) -> None:
        """
        That the engine could not watch the connection is this machine's own trouble.
        """
        upstream = await self.filled("socks5://{}", (METHOD,))
        plan = upstream.plan(DESTINATION)
        os.close(plan.fd)
        end = DialEnd(DialEndKind.NO_SOCKET, 28, 0)
        self.assertIn(
            "cannot be made", await self.failure(UpstreamError, plan.outcomes.resume(end))
        )
        self.assertEqual(self.events, [])
        await self.closed()


class LeftTests(PlanCase):
    """
    What is left to do, and the time for it.
    """

    def planOf(self, *scripts: tuple[bytes, ...], **values: Any) -> Any:
        """The plan of an upstream by the proxy that L{each} makes."""
        self.upstream = self.makePlanned(f"socks5://127.0.0.1:{self.each(*scripts)}", **values)
        return self.upstream.plan(DESTINATION)

    def handed(self, plan: Any, received: bytes, step: int, seconds: float) -> Any:
        """A connection to the proxy, on which nothing was sent in fact, goes on."""
        stream = socket.create_connection(("127.0.0.1", self.upstream._addresses.endpoint.port))
        stream.setblocking(False)
        end = DialEnd(DialEndKind.HANDED, 0, step, 0, stream.detach(), received, seconds)
        return plan.outcomes.resume(end)

    async def test_onTime(self) -> None:
        """
        A dial that goes on has the time that the engine has left, and no more.
        """
        dial = self.handed(self.planOf(()), METHOD, 1, 3.0)
        self.clock.advance(1.9)
        self.assertNoResult(dial)
        self.clock.advance(0.1)
        await self.failure(DestinationSilent, dial)

    async def test_general(self) -> None:
        """
        What the engine cannot do is dialled here, from the beginning, in the time that is left.
        """
        plan = self.planOf((METHOD, REPLY))
        connection = await plan.outcomes.resume(DialEnd(DialEndKind.GENERAL, seconds=1.0))
        os.close(connection.fd)
        self.assertEqual(self.scripts[0].heard, GREETING + REQUEST)
        dial = self.planOf(()).outcomes.resume(DialEnd(DialEndKind.GENERAL, seconds=4.0))
        self.clock.advance(1.0)
        self.failureResultOf(dial, UpstreamTimeout)

    async def test_cancel(self) -> None:
        """
        Cancelling closes the connection that was handed over.
        """
        plan = self.planOf(())
        before = self.sockets()
        dial = self.handed(plan, METHOD, 1, 0.0)
        dial.cancel()
        await self.assertFailure(dial, CancelledError)
        self.assertClean()
        self.assertEqual(self.sockets() - before, set())

    async def test_noSocket(self) -> None:
        """
        Why no socket could be made is said as if it had been tried here.
        """
        for number, words in (
            (1, "without CAP_NET_ADMIN"),
            (24, "ulimit"),
            (105, "cannot be made"),
        ):
            end = DialEnd(DialEndKind.NO_SOCKET, number)
            self.assertIn(
                words, await self.failure(UpstreamError, self.planOf(()).outcomes.resume(end))
            )

    async def test_slow(self) -> None:
        """
        A deadline that passes while the engine connects puts the addresses in doubt.
        """
        plan = self.planOf(())
        doubted: list[bool] = []
        self.patch(self.upstream._addresses, "doubt", lambda: doubted.append(True))
        end = DialEnd(DialEndKind.EXPIRED, seconds=5.0)
        text = await self.failure(UpstreamTimeout, plan.outcomes.resume(end))
        self.assertIn("did not answer within 5 s (while connecting)", text)
        self.assertEqual(doubted, [True])

    async def test_silence(self) -> None:
        """
        A dial whose patience is over fires with what its end comes to; cancelling it cancels the
        engine's.
        """
        engine: Deferred[DialEnd] = Deferred()
        plan = self.planOf((METHOD, REPLY))
        dial = plan.outcomes.silent(engine, 1.0)
        engine.callback(DialEnd(DialEndKind.GENERAL))
        connection = await dial
        assert isinstance(connection, Connection)
        os.close(connection.fd)
        engine = Deferred()
        dial = plan.outcomes.silent(engine, 1.0)
        dial.cancel()
        self.failureResultOf(engine, CancelledError)

    async def test_seenLate(self) -> None:
        """
        A connection whose end the engine saw, and the answer before it not, is replaced by
        another one, if the answer asks for that.
        """
        head = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest nonce=x\r\n\r\n"
        port = self.each((OPEN,))
        upstream = self.makePlanned(f"http://user:secret@127.0.0.1:{port}?pipeline=1")
        outcomes = upstream.plan(DESTINATION).outcomes
        connection = await outcomes.resume(DialEnd(DialEndKind.LOST, step=1, received=head))
        os.close(connection.fd)
        self.assertIn(b"Digest username", self.scripts[0].heard)
        self.assertClean()

    async def test_direct(self) -> None:
        """
        Without a proxy, the errors are the same too, and a connection that comes late is used.
        """
        upstream = self.makePlanned("direct://")
        port = self.each(())
        there, away = (
            DESTINATION._replace(host="127.0.0.1", port=each) for each in (port, self.closedPort())
        )
        for destination, joins in ((there, True), (away, False)):
            expected = await self.told(upstream.connect(destination))
            self.assertEqual(await self.told(self.carryOut(upstream, destination)), expected)
            self.assertEqual(expected == (b"",), joins)
        outcomes = upstream.plan(there).outcomes
        end = DialEnd(DialEndKind.EXPIRED, seconds=5.0)
        text = await self.failure(DestinationSilent, outcomes.resume(end))
        self.assertEqual(text, f"The destination {there} did not answer within 5 s.")
        stream = socket.create_connection(there)
        end = DialEnd(DialEndKind.HANDED, step=0, fd=stream.detach())
        connection = await outcomes.resume(end)
        os.close(connection.fd)
        self.assertEqual(connection.leftover, b"")
        self.assertClean()
