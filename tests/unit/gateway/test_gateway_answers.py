"""
Tests for L{nanotun.gateway} and the settings of answers: they hold from the next query on.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import Any

from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import GATEWAY4
from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.flow import Datagram, Endpoint
from nanotun.gateway import makeGateway
from nanotun.gateway.dns.edns import CLIENT_SUBNET
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.gateway.dns.message import NOERROR, SERVFAIL
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy
from nanotun.testing import FakeUpstream
from tests.unit.gateway.gateway_cases import (
    A,
    FakeEngine,
    FakeReactor,
    answer,
    ask,
    edns,
    makeDatagram,
    rcode,
    record,
)

APP = Endpoint("127.0.0.1", 40000)
GATEWAY = Endpoint(GATEWAY4, 53)
PRIVATE = b"\x0a\0\0\1"
SUBNET = struct.pack("!HHHBB", CLIENT_SUBNET, 7, 1, 24, 0) + b"\xc0\0\2"


class AnswersTests(SynchronousTestCase):
    """Tests for L{Gateway<nanotun.gateway.gateway.Gateway>}."""

    def setUp(self) -> None:
        """A gateway that has been started, and its server; nothing is at the other one."""
        self.reactor = FakeReactor()
        self.engine = FakeEngine()
        self.ways = {"direct": FakeUpstream("direct://"), "proxy": FakeUpstream("proxy://")}
        self.server = makeDatagram(socket.AF_INET)
        self.server.bind(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.asked = DnsServer("udp", *self.server.getsockname())
        proxy = flagValue(KEYS["proxy"], "socks5://127.0.0.1:1080")
        self.settings = replace(
            makeSettings({}, {"proxy": proxy}, None),
            dns=(self.asked, DnsServer("udp", "127.0.0.1", 9)),
        )
        engine: Any = self.engine
        self.gateway = makeGateway(self.reactor, engine, self.settings, makeDatagram)
        self.gateway.configure(self.settings, self.ways)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def configure(self, *rules: DnsRule, **settings: Any) -> Settings:
        """Change settings."""
        self.settings = replace(self.settings, **settings)
        self.gateway.configure(self.settings, self.ways, names=NamePolicy(rules))
        return self.settings

    def query(self, wire: bytes) -> None:
        """An app sends a query."""
        self.engine.receiver([Datagram(APP, GATEWAY, wire)])

    def serve(self, *records: bytes) -> bytes:
        """The server answers the next query; return the query."""
        wire, address = self.server.recvfrom(65535)
        self.server.sendto(answer(wire, list(records)), address)
        self.reactor.turn()
        return wire

    def got(self) -> list[bytes]:
        """The answers that the app has got since this was last called."""
        batches, self.engine.sent = self.engine.sent, []
        return [datagram.payload for batch in batches for datagram in batch]

    def test_subnet(self) -> None:
        """The client's subnet reaches servers while that is wanted, and not before or after."""
        wire = ask(extension=edns(options=SUBNET))
        for wanted in (False, True, False):
            self.configure(dnsClientSubnet=wanted, dnsCache=False)
            self.query(wire)
            self.assertEqual(SUBNET in self.serve(record(A, 9)), wanted)

    def test_stale(self) -> None:
        """If no server responds, an answer is given after its time where that is wanted."""
        for stale, expected in ((60.0, NOERROR), (0.0, SERVFAIL)):
            self.configure(dnsStale=stale)
            self.query(ask())
            self.serve(record(A, 9))
            self.got()
            self.reactor.advance(30)
            self.query(ask())
            self.reactor.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
            self.assertEqual([rcode(message) for message in self.got()], [expected])
            self.server.recvfrom(65535)
        self.assertEqual(self.gateway.stats().stale, 1)

    def test_rebinding(self) -> None:
        """Where protection is wanted, answers of before are forgotten, and a name has a local
        address only once it has servers of its own."""
        private = record(A, 300, PRIVATE)
        public = DnsServer("udp", "8.8.8.8")
        self.configure(dns=(self.asked, public))
        self.query(ask())
        self.serve(private)
        self.assertIn(PRIVATE, self.got()[0])
        self.configure(dnsRebindProtection=True)
        with capturedLogs() as events:
            self.query(ask())
            self.serve(private)
        self.assertNotIn(PRIVATE, self.got()[0])
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])
        self.assertIn("leads to 10.0.0.1", events[0]["cause"])
        self.configure(DnsRule((pattern("example.com"),), (self.asked, public)))
        self.query(ask())
        self.serve(private)
        self.assertIn(PRIVATE, self.got()[0])
        self.assertEqual(self.gateway.stats().rebound, 1)
