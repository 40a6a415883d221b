"""
What the tests of checks share that ask by datagram.
"""

from __future__ import annotations

import socket

from nanotun.doctor.question import DnsQuestion
from nanotun.flow import Endpoint
from nanotun.gateway.dns.message import A
from nanotun.upstream.datagramtrial import RETRY, TRIES
from tests.clocks import ReaderClock
from tests.unit.doctor.doctor_cases import CheckCase

QUESTION = DnsQuestion("proxy.example", A)
SERVER = Endpoint("127.0.0.1", 53)
IDENT = 0x1234
ANSWER = b"\x12\x34\x81\x80" + bytes(8)


def withCode(rcode: int) -> bytes:
    """An answer with a response code."""
    return ANSWER[:3] + bytes([0x80 | rcode]) + ANSWER[4:]


class PeerCase(CheckCase):
    """Provides a datagram socket on the loopback that answers."""

    def setUp(self) -> None:
        """Bind the socket."""
        super().setUp()
        self.clock = ReaderClock()
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(self.peer.close)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(5)

    def client(self) -> socket.socket:
        """A socket that is connected to the peer."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(self.peer.getsockname())
        sock.setblocking(False)
        return sock

    def answer(self, data: bytes) -> bytes:
        """Answer the oldest datagram, and return it."""
        heard, source = self.peer.recvfrom(1000)
        self.peer.sendto(data, source)
        for reader in list(self.clock.readers):
            reader.doRead()
        return heard

    def exhaust(self) -> None:
        """Let time pass until every attempt is used up."""
        for _ in range(TRIES):
            self.clock.advance(RETRY)

    def assertClean(self) -> None:
        """No reader and no delayed call is left."""
        self.assertEqual((self.clock.readers, self.clock.getDelayedCalls()), ([], []))
