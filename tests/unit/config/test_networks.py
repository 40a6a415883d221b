"""Tests of L{nanotun.config.networks}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config import networks as module
from nanotun.config.networks import networks
from nanotun.errors import ConfigError


class NetworksTests(SynchronousTestCase):
    """L{networks}."""

    def test_limit(self) -> None:
        """As many networks as the limit are taken, and one more is an error that names it."""
        self.assertGreaterEqual(module.NETWORK_LIMIT, 100_000)
        self.patch(module, "NETWORK_LIMIT", 300)
        given = [f"11.{each >> 8}.{each & 255}.0/24" for each in range(300)]
        self.assertEqual(len(networks([*given, given[0]])), 300)
        error = self.assertRaises(ConfigError, networks, [*given, "192.0.2.7"])
        self.assertEqual(str(error), "must be at most 300 networks, not 301")
