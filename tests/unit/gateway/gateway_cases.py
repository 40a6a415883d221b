"""
Shared by the tests of L{nanotun.gateway}: DNS messages written from the RFC's tables, a
reactor in memory and servers that the test answers for.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.task import Clock
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.flow import Datagram, Protocol
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.choice import ServerChoice
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import Query, readQuery
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy

A, NS, CNAME, SOA, TXT, AAAA, OPT, HTTPS = 1, 2, 5, 6, 16, 28, 41, 65

FIRST = DnsServer("udp", "127.0.0.1", 53)
SECOND = DnsServer("udp", "127.0.0.2", 53)


def name(text: str) -> bytes:
    """A name's labels."""
    labels = [label.encode() for label in text.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def question(text: str, kind: int = A) -> bytes:
    """A question section."""
    return name(text) + struct.pack("!HH", kind, 1)


def edns(size: int = 1232, flags: int = 0, options: bytes = b"") -> bytes:
    """An OPT record."""
    return b"\0" + struct.pack("!HHIH", OPT, size, flags, len(options)) + options


def ask(
    text: str = "www.example.com",
    kind: int = A,
    ident: int = 1,
    flags: int = 0x0100,
    extension: bytes = b"",
) -> bytes:
    """A query."""
    header = struct.pack("!HHHHHH", ident, flags, 1, 0, 0, bool(extension))
    return header + question(text, kind) + extension


def record(
    kind: int, ttl: int, data: bytes = b"\xc0\0\x02\x01", owner: bytes = b"\xc0\x0c"
) -> bytes:
    """A record, by default of the question's name."""
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def soa(ttl: int, minimum: int) -> bytes:
    """A SOA record."""
    return record(SOA, ttl, b"\xc0\x0c\xc0\x0c" + struct.pack("!IIIII", 1, 2, 3, 4, minimum))


def answer(
    query: bytes,
    answers: list[bytes] | None = None,
    authorities: list[bytes] | None = None,
    additionals: list[bytes] | None = None,
    flags: int = 0x8180,
) -> bytes:
    """The answer to a query with one question; one address by default."""
    answers = [record(A, 300)] if answers is None else answers
    authorities, additionals = authorities or [], additionals or []
    counts = 1, len(answers), len(authorities), len(additionals)
    end = query.index(b"\0", 12) + 5
    body = b"".join(answers + authorities + additionals)
    return query[:2] + struct.pack("!HHHHH", flags, *counts) + query[12:end] + body


def rcode(message: bytes) -> int:
    """The RCODE in a message's header."""
    return message[3] & 15


def isTruncated(message: bytes) -> bool:
    """The TC bit in a message's header."""
    return bool(message[2] & 2)


def read(query: bytes) -> Query:
    """What L{readQuery} finds in a query."""
    return readQuery(query)


class FakeReactor(Clock):
    """
    A clock that keeps the descriptors that want to read and write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard

    def turn(self) -> None:
        """Let each reader read once; one reader may remove another."""
        for reader in list(self.readers):
            if reader in self.readers:
                reader.doRead()
        self.advance(0)


@implementer(IAttempt)
class FakeAttempt:
    """An attempt that sends nothing."""

    def __init__(self) -> None:
        self.cancelled = False
        self.again = True

    def doubt(self) -> bool:
        """See L{IAttempt.doubt}."""
        return self.again

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
        self.cancelled = True


class Asked(NamedTuple):
    """A call of L{ServerQueries.ask}."""

    server: DnsServer
    overTCP: bool
    wire: bytes
    answered: Callable[[bytes], None]
    failed: Callable[[], None]


class FakeQueries(ServerQueries):
    """
    Servers that the test answers for.

    @ivar asked: the calls of L{ask} that did not raise.
    @ivar attempts: what they returned.
    @ivar events: what the relay said of the servers, in order.
    @ivar error: raised by L{ask}, if set.
    """

    def __init__(self, *servers: DnsServer, key: bytes = b"") -> None:
        self.key = key
        self.servers = servers or (FIRST,)
        self.asked: list[Asked] = []
        self.attempts: list[FakeAttempt] = []
        self.events: list[tuple[str, DnsServer]] = []
        self.error: OSError | UpstreamError | None = None
        self.tallies: dict[DnsServer, ServerTally] = {}

    def order(self, query: Query) -> tuple[DnsServer, ...]:
        return self.servers

    def tallyOf(self, server: DnsServer) -> ServerTally:
        return self.tallies.setdefault(server, ServerTally(server._replace(via="direct")))

    def ask(
        self,
        server: DnsServer,
        overTCP: bool,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> FakeAttempt:
        if self.error is not None:
            raise self.error
        self.asked.append(Asked(server, overTCP, wire, answered, failed))
        self.attempts.append(FakeAttempt())
        return self.attempts[-1]

    def answered(self, server: DnsServer, answer: bytes, seconds: float) -> None:
        self.tallyOf(server).answered(answer, seconds)
        self.events.append(("answered", server))

    def timedOut(self, server: DnsServer, waited: float, again: bool = False) -> None:
        if not again:
            self.tallyOf(server).failed("")
        self.events.append(("timedOut", server))

    def failed(self, server: DnsServer, error: OSError | UpstreamError | None) -> None:
        self.tallyOf(server).failed("" if error is None else str(error))
        self.events.append(("failed", server))

    def answer(self, message: bytes, attempt: int = -1) -> None:
        """The server answers an attempt, by default the latest, with another id."""
        self.asked[attempt].answered(b"??" + message[2:])


class FakeNameServers(NameServers):
    """
    Gives one list of servers, whichever is wanted.

    @ivar events: what was called, in order.
    """

    def __init__(self, queries: ServerQueries) -> None:
        self.queries = queries
        self.events: list[str] = []

    def of(self, *wanted: object, **options: object) -> ServerQueries:
        return self.queries

    def renew(self) -> None:
        self.events.append("renew")

    def stop(self) -> None:
        self.events.append("stop")


def choiceOf(queries: ServerQueries) -> ServerChoice:
    """A choice of these servers for each query."""
    return ServerChoice(FakeNameServers(queries), (), NamePolicy())


class FakeEngine:
    """
    The engine's side of the datagram services.

    @ivar sent: the batches given to C{sendDatagrams}.
    @ivar listening: the calls of C{listen}: protocol and port.
    @ivar receiver: what C{receiveDatagrams} was called with.
    """

    def __init__(self) -> None:
        self.sent: list[list[Datagram]] = []
        self.listening: list[tuple[Protocol, int]] = []
        self.receiver: Any = None

    def receiveDatagrams(self, receiver: Any) -> None:
        """See L{IPacketEngine.receiveDatagrams}."""
        self.receiver = receiver

    def listen(self, protocol: Protocol, port: int) -> None:
        """See L{IPacketEngine.listen}."""
        self.listening.append((protocol, port))

    def sendDatagrams(self, datagrams: list[Datagram]) -> None:
        """See L{IPacketEngine.sendDatagrams}."""
        self.sent.append(datagrams)


def makeDatagram(family: int) -> socket.socket:
    """A UDP socket without a mark."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made
