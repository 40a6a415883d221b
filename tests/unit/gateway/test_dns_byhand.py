"""
Tests for L{nanotun.gateway.dns.byhand}.
"""

from __future__ import annotations

import struct

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import ScriptReply
from nanotun.gateway.dns.byhand import QueriesByHand
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import readQuery
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.scripted import ScriptedDns
from nanotun.gateway.dns.trace import Trace
from nanotun.testing import FakeScript
from tests.unit.gateway.gateway_cases import (
    FIRST,
    TXT,
    FakeQueries,
    answer,
    choiceOf,
    name,
    record,
)


class ByHandTests(SynchronousTestCase):
    """Tests for L{QueriesByHand}."""

    def setUp(self) -> None:
        """A relay whose server the test answers for, behind a script."""
        self.queries = FakeQueries()
        self.relay = DnsRelay(Clock(), choiceOf(self.queries), Counters(), 10, 100_000)
        self.addCleanup(self.relay.stop)
        self.scripted = ScriptedDns(self.relay, self.relay, lambda server: self.queries)
        self.byHand = QueriesByHand(self.scripted)

    def ask(self, text: str = "host.lab", kind: int = 1) -> tuple[Deferred[bytes], Trace]:
        """Ask, and want to know."""
        trace = Trace()
        return self.byHand.ask(text, kind, trace), trace

    def test_query(self) -> None:
        """
        The query is what programs send: recursion desired, no EDNS; the whole answer arrives,
        however large, and the trace says whose it is.
        """
        found, trace = self.ask(kind=TXT)
        (asked,) = self.queries.asked
        question = name("host.lab") + struct.pack("!HH", TXT, 1)
        header = struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0)
        self.assertEqual(asked.wire[2:], header + question)
        self.assertNotEqual(readQuery(asked.wire).key, b"")
        large = answer(asked.wire, [record(TXT, 300, b"\xff" + bytes(255))] * 20)
        self.queries.answer(large)
        self.assertEqual(self.successResultOf(found)[2:], large[2:])
        self.assertEqual((trace.stage, trace.server), ("server", str(FIRST)))

    def test_shared(self) -> None:
        """An answer is kept, and given to the next who asks."""
        self.ask()
        self.queries.answer(answer(self.queries.asked[0].wire))
        found, trace = self.ask()
        self.successResultOf(found)
        self.assertEqual((trace.stage, len(self.queries.asked)), ("cache", 1))

    def test_several(self) -> None:
        """Whoever asks the same at the same time gets an answer, too."""
        both = [self.ask()[0] for _ in range(2)]
        self.queries.answer(answer(self.queries.asked[0].wire))
        for found in both:
            self.successResultOf(found)

    def test_root(self) -> None:
        """The root can be asked about."""
        self.ask("", 2)
        self.assertEqual(readQuery(self.queries.asked[0].wire).question, b"\0\0\2\0\1")

    def test_script(self) -> None:
        """The script hears of it as of a program of this machine."""
        script = FakeScript()
        script.reply = ScriptReply(refused=True)
        self.scripted.configure(script)
        found, trace = self.ask()
        self.assertEqual((self.successResultOf(found)[3] & 15, trace.stage), (5, "script"))
        (query,) = script.queries
        self.assertEqual(
            (query.name, query.source, query.protocol), ("host.lab", "127.0.0.1", "tcp")
        )
