"""
Tests for L{nanotun.gateway.dns.servers}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.servers import Servers
from tests.unit.gateway.gateway_cases import FIRST, SECOND


class ServersTests(SynchronousTestCase):
    """Tests for L{Servers}."""

    def setUp(self) -> None:
        """Two servers; the random number is always 0.5, which makes 30 seconds."""
        self.servers = Servers([FIRST, SECOND], lambda: 0.5)

    def test_toTheBack(self) -> None:
        """The third failure in a row moves a server to the back, and only that one says so."""
        told = [self.servers.failed(FIRST, 0, 0) for _ in range(4)]
        self.assertEqual(told, [False, False, True, False])
        self.assertEqual(self.servers.order(29), (SECOND, FIRST))

    def test_trial(self) -> None:
        """At intervals a single query asks a server at the back first."""
        for _ in range(3):
            self.servers.failed(FIRST, 0, 0)
        for now in (30, 60):
            self.assertEqual(self.servers.order(now - 0.1)[0], SECOND)
            self.assertEqual(self.servers.order(now), (FIRST, SECOND))
            self.assertEqual(self.servers.order(now), (SECOND, FIRST))
            self.assertFalse(self.servers.failed(FIRST, now + 1.5, now + 1.5))

    def test_answered(self) -> None:
        """An answer, even a late one, moves a server to its old place, and says so once."""
        for _ in range(3):
            self.servers.failed(FIRST, 0, 0)
        self.assertTrue(self.servers.answered(FIRST, 0))
        self.assertFalse(self.servers.answered(FIRST, 0))
        self.assertEqual(self.servers.order(1), (FIRST, SECOND))
        self.assertFalse(self.servers.failed(FIRST, 1, 1))

    def test_inARow(self) -> None:
        """An answer resets the count of failures."""
        for _ in range(10):
            self.servers.failed(FIRST, 0, 0)
            self.assertFalse(self.servers.answered(FIRST, 0))
        self.assertEqual(self.servers.order(0), (FIRST, SECOND))

    def test_all(self) -> None:
        """With all servers at the back, the order is that of the configuration."""
        for server in (SECOND, FIRST):
            for _ in range(3):
                self.servers.failed(server, 0, 0)
        self.assertEqual(self.servers.order(1), (FIRST, SECOND))

    def test_jitter(self) -> None:
        """The interval between trials is random, from 22.5 to 37.5 seconds."""
        for chance, until in ((0.0, 22.5), (1.0, 37.5)):
            servers = Servers([FIRST, SECOND], [chance, chance].pop)
            for _ in range(3):
                servers.failed(FIRST, 0, 0)
            self.assertEqual(servers.order(until - 0.1)[0], SECOND)
            self.assertEqual(servers.order(until)[0], FIRST)

    def test_silenceOfBefore(self) -> None:
        """Queries that a server missed before its latest answer do not count against it."""
        for _ in range(3):
            self.servers.failed(FIRST, 0, 0)
        self.assertTrue(self.servers.answered(FIRST, 10))
        for _ in range(9):
            self.assertFalse(self.servers.failed(FIRST, 10.5, 9))
        self.assertEqual(self.servers.order(11), (FIRST, SECOND))
        told = [self.servers.failed(FIRST, 12, 10.5) for _ in range(3)]
        self.assertEqual(told, [False, False, True])
