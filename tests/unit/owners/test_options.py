"""Tests of L{nanotun.owners.ownerOptions}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.settings import makeSettings
from nanotun.owners import ownerOptions


class OptionsTests(SynchronousTestCase):
    """L{ownerOptions}."""

    def test_firstHops(self) -> None:
        """
        The proxies whose processes are looked for are those that nanotun itself connects to:
        the loopback of a proxy behind another is another machine's.
        """
        values = {
            "proxy": "192.0.2.1",
            "upstreams": {
                "tor": "127.0.0.1:9050",
                "deep": {"proxy": "http://127.0.0.1:3128", "via": "proxy"},
            },
        }
        given = {name: Given(value, name) for name, value in values.items()}
        options = ownerOptions(makeSettings(given, {}, None))
        self.assertEqual(
            [str(proxy) for proxy in options.proxies],
            ["socks5://192.0.2.1:1080", "socks5://127.0.0.1:9050"],
        )
