"""Tests of L{nanotun.owners.ownerOptions}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.errors import ConfigError
from nanotun.owners.make import makeOwners
from nanotun.owners.options import ownerOptions, soughtBy


def settings(proxy: str = "192.0.2.1", **values: object) -> Settings:
    """Settings as from a file."""
    given = {name: Given(value, f"FILE, line 7: {name}") for name, value in values.items()}
    return makeSettings({"proxy": Given(proxy, "proxy"), **given}, {}, None)


class OptionsTests(SynchronousTestCase):
    """L{ownerOptions}."""

    def test_firstHops(self) -> None:
        """
        The proxies whose processes are looked for are those that nanotun itself connects to:
        the loopback of a proxy behind another is another machine's.
        """
        upstreams = {
            "tor": "127.0.0.1:9050",
            "deep": {"proxy": "http://127.0.0.1:3128", "via": "proxy"},
        }
        options = ownerOptions(settings(upstreams=upstreams))
        self.assertEqual(
            [str(proxy) for proxy in options.proxies],
            ["socks5://192.0.2.1:1080", "socks5://127.0.0.1:9050"],
        )

    def test_everybody(self) -> None:
        """Every flow's process is wanted by a script, or for a log-in of its own."""
        for proxy, script, expected in (
            ("socks5://h", False, False),
            ("socks5://h", True, True),
            ("socks5://{user}:x@h", False, False),
            ("socks5://{user}-{process}:x@h", False, True),
        ):
            options = ownerOptions(settings(proxy), everybody=script)
            self.assertIs(options.everybody, expected, proxy)

    def test_sought(self) -> None:
        """The processes of all rules are sought, also those of a not, each once."""
        rules = [
            {"to": "direct", "processes": ["curl", "uid:0"]},
            {"to": "reject", "not": {"processes": ["Curl", "git"]}},
            {"to": "reject", "ports": [25]},
        ]
        sought = ownerOptions(settings(rules=rules)).sought
        self.assertEqual(list(map(str, sought)), ["curl", "uid:0", "git"])
        self.assertEqual(ownerOptions(settings()).sought, ())

    def test_overruled(self) -> None:
        """Rules, and a script, come before excludedProcesses."""
        rule = {"to": "reject", "ports": [25]}
        self.assertTrue(ownerOptions(settings(rules=[rule])).overruled)
        self.assertTrue(ownerOptions(settings(script="/etc/x.py")).overruled)
        self.assertFalse(ownerOptions(settings()).overruled)

    def test_places(self) -> None:
        """An unknown user is an error that names the rule's line, and a user who may be meant."""
        missing = {"to": "direct", "not": {"processes": "uid:roott"}}
        wrong = settings(rules=[{"to": "direct", "ports": [1]}, missing])
        error = self.assertRaises(
            ConfigError, makeOwners, ownerOptions(wrong), Clock(), None, soughtBy(wrong)
        )
        self.assertEqual(
            str(error),
            "FILE, line 7: rules, entry 2, not.processes: this machine has no user roott; did you "
            "mean root?",
        )
