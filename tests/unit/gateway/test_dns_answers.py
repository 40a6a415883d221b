"""
Tests for what L{nanotun.gateway.dns.relay} makes of queries and answers: the client's subnet,
answers past their time, and protection against rebinding.
"""

from __future__ import annotations

import struct

from nanotun.gateway.dns.edns import CLIENT_SUBNET
from tests.unit.gateway.gateway_cases import answer, ask, edns
from tests.unit.gateway.test_dns_relay import RelayCase

SUBNET = struct.pack("!HHHBB", CLIENT_SUBNET, 7, 1, 24, 0) + b"\xc0\0\2"


class SubnetTests(RelayCase):
    """EDNS client subnet."""

    def test_removed(self) -> None:
        """Servers see no subnet, and queries that differ in nothing else share an answer."""
        self.query(ask(ident=1, extension=edns(options=SUBNET)), "a")
        self.query(ask(ident=2, extension=edns()), "b")
        plain = ask(extension=edns())
        self.assertEqual([each.wire[2:] for each in self.queries.asked], [plain[2:]])
        self.queries.answer(answer(plain))
        self.query(ask(ident=3, extension=edns(options=SUBNET)), "c")
        self.assertEqual([message[:2] for message in self.messages()], [b"\0\1", b"\0\2", b"\0\3"])
        self.assertEqual(len({message[2:] for message in self.messages()}), 1)
        self.assertEqual((len(self.queries.asked), self.counters.hits), (1, 1))

    def test_named(self) -> None:
        """No server that the script names sees a subnet either."""
        wire = ask(extension=edns(options=SUBNET))
        self.relay.query(wire, "c", lambda message: None, servers=self.queries)
        self.assertEqual(self.queries.asked[0].wire, ask(extension=edns()))

    def test_kept(self) -> None:
        """Where the subnet is wanted it reaches the server, and the answer is for it alone."""
        self.relay.keepsSubnet = True
        wire = ask(extension=edns(options=SUBNET))
        for _ in range(2):
            self.query(wire)
            self.assertEqual(self.queries.asked[-1].wire, wire)
            self.queries.answer(answer(wire))
        self.assertEqual((len(self.queries.asked), len(self.relay.cache)), (2, 0))
