"""
Tests for L{nanotun.gateway.dns.udp} and L{nanotun.gateway.dns.ask}, with real sockets on the
loopback interface.
"""

from __future__ import annotations

import itertools
import socket
import struct
from typing import Any, cast

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.ask import OF_DNS, OF_SCRIPT, ServerQueries
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import DirectServer
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.troubles import Troubles
from nanotun.gateway.dns.udp import BUDGET, ERRORS_LIMIT, QuerySocket
from nanotun.interfaces import DnsServer
from nanotun.log.trouble import TroubleLog
from nanotun.testing import FakeUpstream
from tests.unit.gateway.gateway_cases import (
    FakeReactor,
    answer,
    ask,
    choiceOf,
    makeDatagram,
    read,
)


class QuerySocketTests(SynchronousTestCase):
    """Tests for L{QuerySocket}."""

    def setUp(self) -> None:
        """A server's socket that the test reads and writes."""
        self.reactor = FakeReactor()
        self.counters = Counters()
        self.server = makeDatagram(socket.AF_INET)
        self.server.bind(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.heard: list[object] = []

    def failed(self) -> None:
        """The attempt has failed."""
        self.heard.append("failed")

    def send(self, wire: bytes, server: Endpoint | None = None) -> QuerySocket:
        """Send a query to the server, with the id 0xabcd."""
        made = QuerySocket(
            makeDatagram,
            self.reactor,
            self.counters,
            server or Endpoint(*self.server.getsockname()),
            wire,
            read(wire),
            b"\xab\xcd",
            self.heard.append,
            self.failed,
        )
        self.addCleanup(made.cancel)
        return made

    def test_answer(self) -> None:
        """The query is sent with the new id, and the answer closes the socket."""
        made = self.send(ask(ident=1))
        verifyObject(IReadDescriptor, made)
        self.assertEqual(self.reactor.readers, {made})
        wire, address = self.server.recvfrom(600)
        self.assertEqual(wire, ask(ident=0xABCD))
        made.doRead()
        self.assertEqual(self.heard, [])
        self.server.sendto(answer(wire), address)
        made.doRead()
        self.assertEqual(self.heard, [answer(wire)])
        self.assertEqual((self.reactor.readers, made.fileno()), (set(), -1))

    def test_forger(self) -> None:
        """
        None of 10,000 wrong replies from the right address is accepted, and the right reply
        after them is.
        """
        made = self.send(ask("www.example.com", 65))
        wire, address = self.server.recvfrom(600)
        other = makeDatagram(socket.AF_INET)
        self.addCleanup(other.close)
        wrong = itertools.cycle(
            (
                answer(ask("wwx.example.com", 65, ident=0xABCD)),
                answer(ask("www.example.com", 97, ident=0xABCD)),
                wire,
                answer(wire)[:20],
                b"\xab\xcd",
                b"",
            )
        )
        for number in range(10_000):
            ident = number % 65536
            if number % 2 or ident == 0xABCD:
                forged = next(wrong)
            else:
                forged = struct.pack("!H", ident) + answer(wire)[2:]
            self.server.sendto(forged, address)
            other.sendto(answer(wire), address)
            if number % 50 == 49:
                made.doRead()
        self.assertEqual(self.heard, [])
        self.assertEqual(self.counters.ignored, 10_000)
        self.server.sendto(answer(wire), address)
        made.doRead()
        self.assertEqual(self.heard, [answer(wire)])

    def test_budget(self) -> None:
        """One turn of the reactor reads at most L{BUDGET} datagrams of a flood."""
        made = self.send(ask())
        _, address = self.server.recvfrom(600)
        for _ in range(BUDGET + 10):
            self.server.sendto(b"flood", address)
        made.doRead()
        self.assertEqual(self.counters.ignored, BUDGET)

    def test_refused(self) -> None:
        """A refusal is reported also when it is noticed by reading; the socket stays open."""
        server = Endpoint(*self.server.getsockname())
        self.server.close()
        made = self.send(ask(), server)
        made.doRead()
        self.assertEqual(self.heard, ["failed"])
        self.assertNotEqual(made.fileno(), -1)

    def test_notSent(self) -> None:
        """A query that cannot be sent raises and leaves no socket open."""
        made: list[socket.socket] = []

        def remember(family: int) -> socket.socket:
            made.append(makeDatagram(family))
            return made[-1]

        with self.assertRaises(OSError):
            QuerySocket(
                remember,
                self.reactor,
                self.counters,
                Endpoint("127.0.0.1", 53),
                ask() + bytes(66_000),
                read(ask()),
                b"ab",
                self.heard.append,
                self.failed,
            )
        self.assertEqual((made[0].fileno(), self.reactor.readers), (-1, set()))

    def test_lost(self) -> None:
        """A socket that the reactor removes for no error of its own has failed."""
        made = self.send(ask())
        made.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((self.heard, made.fileno()), (["failed"], -1))


class RefusedTests(TestCase):
    """Tests for L{QuerySocket} and ICMP messages, in the real reactor."""

    timeout = 5

    def setUp(self) -> None:
        """Ask a port that is closed."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.heard: list[object] = []
        self.sockets: list[socket.socket] = []
        with makeDatagram(socket.AF_INET) as closed:
            closed.bind(("127.0.0.1", 0))
            self.server = Endpoint(*closed.getsockname())
        self.made = QuerySocket(
            self.remember,
            self.reactor,
            Counters(),
            self.server,
            ask(),
            read(ask()),
            b"\xab\xcd",
            self.heard.append,
            lambda: self.failed(),
        )
        self.addCleanup(self.made.cancel)

    def remember(self, family: int) -> socket.socket:
        """Make a socket and keep it for the test."""
        self.sockets.append(makeDatagram(family))
        return self.sockets[-1]

    def failed(self) -> None:
        """The attempt has failed."""
        self.heard.append("failed")

    async def until(self, condition: Any) -> None:
        """Let the reactor turn until a condition holds."""
        while not condition():
            await deferLater(self.reactor, 0)

    async def test_answer(self) -> None:
        """A refusal is reported, and an answer after it is accepted."""
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, ["failed"])
        server = makeDatagram(socket.AF_INET)
        self.addCleanup(server.close)
        server.bind(self.server)
        server.sendto(answer(ask(ident=0xABCD)), self.sockets[0].getsockname())
        await self.until(lambda: len(self.heard) > 1)
        self.assertEqual(self.heard, ["failed", answer(ask(ident=0xABCD))])
        self.assertEqual(self.made.fileno(), -1)

    async def test_flood(self) -> None:
        """After L{ERRORS_LIMIT} refusals the socket is closed."""
        for count in range(1, ERRORS_LIMIT):
            await self.until(lambda count=count: len(self.heard) == count)
            self.assertNotEqual(self.made.fileno(), -1)
            self.sockets[0].send(b"\xab\xcd")
        await self.until(lambda: len(self.heard) == ERRORS_LIMIT)
        self.assertEqual(self.made.fileno(), -1)

    async def test_cancelled(self) -> None:
        """A caller that cancels when it hears of a failure leaves nothing in the reactor."""
        self.patch(self, "failed", lambda: self.made.cancel())
        await self.until(lambda: self.made.fileno() == -1)
        self.assertNotIn(self.made, self.reactor.getReaders())


class ServerQueriesTests(SynchronousTestCase):
    """Tests for L{ServerQueries}, below a relay."""

    def setUp(self) -> None:
        """Two servers that answer nothing by themselves."""
        self.reactor = FakeReactor()
        self.sockets = [makeDatagram(socket.AF_INET) for _ in range(2)]
        for each in self.sockets:
            each.bind(("127.0.0.1", 0))
            self.addCleanup(each.close)
        self.servers = [DnsServer("udp", *each.getsockname()) for each in self.sockets]
        self.counters = Counters()
        self.queries = self.make(makeDatagram)
        self.relay = DnsRelay(self.reactor, choiceOf(self.queries), self.counters, 0, 0)
        self.addCleanup(self.relay.stop)
        self.got: list[bytes] = []
        self.lines: list[LogEvent] = []
        observer = cast(ILogObserver, self.lines.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make(self, makeDatagram: Any, origin: str = OF_DNS) -> ServerQueries:
        """The servers, asked past the proxy."""
        trouble = TroubleLog(self.reactor, Logger())
        self.addCleanup(trouble.stop)
        way = FakeUpstream()
        servers = {}
        for server in self.servers:
            tally = ServerTally(server)
            troubles = Troubles(server._replace(via="direct"), False, False, trouble.report, tally)
            servers[server] = DirectServer(
                server, lambda: way, makeDatagram, self.reactor, self.counters, troubles, tally
            )
        return ServerQueries(self.reactor, servers, self.counters, origin=origin)

    def test_ports(self) -> None:
        """Each query is sent with its own id from its own port."""
        seen = set()
        for number in range(20):
            self.relay.query(ask(f"a{number}", ident=7), "c", self.got.append)
            wire, (_, port) = self.sockets[0].recvfrom(600)
            seen.add((wire[:2], port))
        self.assertGreater(len({ident for ident, _ in seen}), 15)
        self.assertEqual(len({port for _, port in seen}), 20)

    def test_health(self) -> None:
        """A server that stays silent is asked last, until it answers."""
        for number in range(3):
            self.relay.query(ask(f"a{number}"), "c", self.got.append)
        self.reactor.advance(1.5)
        self.assertEqual(self.queries.order(read(ask())), (self.servers[1], self.servers[0]))
        self.assertEqual(self.counters.timeouts, 3)
        wire, address = self.sockets[0].recvfrom(600)
        self.sockets[0].sendto(answer(wire), address)
        self.reactor.turn()
        self.assertEqual(len(self.got), 1)
        self.assertEqual(self.queries.order(read(ask())), tuple(self.servers))

    def test_noneAnswers(self) -> None:
        """If all servers stay silent, an error says so once, before an app gives up."""
        for number in range(3):
            self.relay.query(ask(f"a{number}"), "c", self.got.append)
        self.reactor.advance(1.5)
        self.assertEqual([each for each in self.lines if each["log_level"] is LogLevel.error], [])
        for _ in range(3):
            self.reactor.advance(1.5)
        (line,) = [each for each in self.lines if each["log_level"] is LogLevel.error]
        servers = ", ".join(map(str, self.servers))
        self.assertEqual(
            formatEvent(line),
            f"No server of dns answers ({servers}), so DNS queries go unanswered; set dns to one "
            "that does.",
        )

    def test_scripts(self) -> None:
        """Of a server that the script names, the error does not send anybody to dns."""
        self.servers = self.servers[:1]
        queries = self.make(makeDatagram, OF_SCRIPT)
        for _ in range(3):
            queries.timedOut(self.servers[0], 1.5)
        (line,) = self.lines
        self.assertEqual(
            formatEvent(line),
            f"The DNS server {self.servers[0]}, which the script names, does not answer, so the "
            "queries that are sent there fail.",
        )

    def test_noSocket(self) -> None:
        """If this machine has no sockets left, the server is not blamed."""

        def none(family: int) -> socket.socket:
            raise UpstreamError("There are no more file descriptors.")

        queries = self.make(none)
        relay = DnsRelay(self.reactor, choiceOf(queries), self.counters, 0, 0)
        for number in range(5):
            relay.query(ask(f"a{number}"), "c", self.got.append)
        self.assertEqual(len(self.got), 5)
        self.assertEqual(self.counters.failures, 15)
        self.assertEqual(queries.order(read(ask())), tuple(self.servers))
        (line,) = [each for each in self.lines if each["log_level"] is LogLevel.error]
        self.assertEqual(
            formatEvent(line),
            "A DNS query cannot be sent: There are no more file descriptors.",
        )
