"""Tests of L{nanotun.config.values}; L{tests.unit.config.test_settings} tests its errors too."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.values import DNS_SERVER_LIMIT, dnsServers, parseDuration, wholePath
from nanotun.errors import ConfigError


class DurationTests(SynchronousTestCase):
    """L{parseDuration}."""

    def test_accepted(self) -> None:
        """Go's notation gives seconds."""
        for text, seconds in {
            "300ms": 0.3,
            "30s": 30,
            "1m": 60,
            "2m30s": 150,
            "1h": 3600,
            "1.5s": 1.5,
            "0s": 0,
        }.items():
            self.assertAlmostEqual(parseDuration(text), seconds)

    def test_rejected(self) -> None:
        """Everything else is an error."""
        for text in ("", "5", "s", "-1s", "1 s", "1d", "1s2", "1e3s", "s1", "1..5s", "1s\n", "٣s"):
            self.assertRaises(ValueError, parseDuration, text)


class ServerTests(SynchronousTestCase):
    """L{dnsServers}."""

    def fails(self, value: object) -> str:
        """The error for a value."""
        message = str(self.assertRaises(ConfigError, dnsServers, value))
        self.assertTrue(message.startswith("must "), message)
        return message

    def test_accepted(self) -> None:
        """One address or several, as a text or a list, each with a port or without."""
        for value, expected in (
            ("8.8.8.8", [("8.8.8.8", 53)]),
            ("8.8.8.8:5353", [("8.8.8.8", 5353)]),
            ("2001:DB8:0::1", [("2001:db8::1", 53)]),
            ("[2001:db8::1]", [("2001:db8::1", 53)]),
            ("[2001:db8::1]:65535", [("2001:db8::1", 65535)]),
            ("127.0.0.53", [("127.0.0.53", 53)]),
            ("8.8.8.8, ::1,9.9.9.9:54", [("8.8.8.8", 53), ("::1", 53), ("9.9.9.9", 54)]),
            (["8.8.8.8", "[::1]:54"], [("8.8.8.8", 53), ("::1", 54)]),
            (["9.9.9.9", "8.8.8.8,9.9.9.9:53"], [("9.9.9.9", 53), ("8.8.8.8", 53)]),
        ):
            self.assertEqual(list(dnsServers(value)), expected)

    def test_rejected(self) -> None:
        """Anything else is an error that shows what is right."""
        for value in (
            "",
            ",",
            "8.8.8.8,",
            "8.8.8",
            "8.8.8.8:",
            "8.8.8.8:x",
            "8.8.8.8 9.9.9.9",
            "08.8.8.8",
            "2001:db8::1::",
            "[2001:db8::1",
            "[2001:db8::1]53",
            "fe80::1%eth0",
            "udp://8.8.8.8",
            "\0",
            "224.0.0.251",
            "0.0.0.0",
            "::",
            "ff02::fb",
            5,
            None,
            [5],
            {"8.8.8.8": 53},
        ):
            self.assertIn("such as 8.8.8.8, 9.9.9.9:53 or '[2001:db8::1]:53'", self.fails(value))

    def test_ports(self) -> None:
        """A port out of range is an error."""
        for text in ("8.8.8.8:0", "8.8.8.8:65536", "[::1]:99999"):
            self.assertIn(f"from 1 to 65535, which that of {text} is not", self.fails(text))

    def test_count(self) -> None:
        """There must be at least one server, and at most eight."""
        self.assertIn("1 to 8 DNS servers", self.fails([]))
        many = [f"192.0.2.{n}" for n in range(1, DNS_SERVER_LIMIT + 2)]
        self.assertEqual(len(dnsServers(many[1:])), DNS_SERVER_LIMIT)
        self.assertIn("not 9", self.fails(many))

    def test_name(self) -> None:
        """The error for a name says why only addresses are allowed."""
        for text in ("dns.google", "dns.google:53", "localhost"):
            self.assertIn("a name would itself need DNS to be found", self.fails(text))

    def test_gateway(self) -> None:
        """The relay's own address is refused: it would ask itself."""
        for text in ("198.18.0.1", "[fdfe:dcba:9876::1]:53"):
            self.assertIn("would ask itself", self.fails(text))

    def test_noPassword(self) -> None:
        """The error for a URL in the wrong setting shows no password."""
        self.assertNotIn("hunter2", self.fails("socks5://a:hunter2@h"))


class PathTests(SynchronousTestCase):
    """L{wholePath}."""

    def test_whole(self) -> None:
        """A relative path, or a value that is not a path, is refused."""
        self.assertEqual(wholePath("/run/nanotun"), "/run/nanotun")
        for value in ("", "run", "./run", "/a\0b", 7, None):
            error = self.assertRaises(ConfigError, wholePath, value)
            self.assertIn("must be a directory's path that begins with /, not", str(error))
