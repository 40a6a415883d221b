"""
Tests for L{nanotun.gateway.dns.servertally}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer
from tests.unit.gateway.gateway_cases import answer, ask


class ServerTallyTests(SynchronousTestCase):
    """Tests for L{ServerTally}."""

    def setUp(self) -> None:
        """The tally of a server that was not asked yet."""
        self.tally = ServerTally(DnsServer("udp", "192.0.2.1", 53, via="proxy"))

    def answered(self, rcode: int = 0, seconds: float = 0.0) -> None:
        """The server answers."""
        self.tally.answered(answer(ask(), flags=0x8180 | rcode), seconds)

    def test_latency(self) -> None:
        """The latency is a mean to which the latest answers count most."""
        self.assertIsNone(self.tally.latency)
        self.answered(seconds=0.8)
        self.assertEqual(self.tally.latency, 0.8)
        self.answered(seconds=0.0)
        self.assertAlmostEqual(self.tally.latency or 0, 0.7)

    def test_seconds(self) -> None:
        """What all answers took is added up."""
        self.answered(seconds=0.5)
        self.answered(2, seconds=0.25)
        self.tally.failed("")
        self.assertEqual(self.tally.seconds, 0.75)

    def test_faults(self) -> None:
        """An answer that says that the server has trouble is an error, and one that says that
        there is no such name is none."""
        for rcode, name in ((1, "FORMERR"), (2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED")):
            self.answered(rcode)
            self.assertEqual(self.tally.trouble, f"The DNS server 192.0.2.1:53 answers {name}.")
        self.assertEqual((self.tally.answers, self.tally.errors), (4, 4))
        self.answered(3)
        self.assertEqual((self.tally.answers, self.tally.errors), (5, 4))
        self.assertEqual(self.tally.trouble, "")

    def test_failed(self) -> None:
        """Silence is told of unless more is known; an answer ends it."""
        self.tally.failed("")
        self.assertEqual(self.tally.trouble, "The DNS server 192.0.2.1:53 does not answer.")
        self.tally.failed("It is broken.")
        self.tally.failed("")
        self.assertEqual((self.tally.trouble, self.tally.errors), ("It is broken.", 3))
        self.answered()
        self.assertEqual((self.tally.trouble, self.tally.heard), ("", True))

    def test_renew(self) -> None:
        """In another network nothing is known of the server yet, but the counts stay."""
        self.answered(2)
        self.tally.renew()
        self.assertEqual((self.tally.trouble, self.tally.heard), ("", False))
        self.assertEqual(self.tally.errors, 1)
