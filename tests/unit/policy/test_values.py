"""Tests of L{nanotun.config.selectors} and L{nanotun.config.networks}."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.networks import lanPorts, networks
from nanotun.config.selectors import SelectorKind, processName, selectors
from nanotun.errors import ConfigError
from nanotun.flow import Protocol


class SelectorTests(SynchronousTestCase):
    """L{selectors}."""

    def test_kinds(self) -> None:
        """Each kind of selector is recognised, and duplicates are removed."""
        found = selectors(["Curl.EXE, /usr/bin/Curl", "pid:12,uid:0,uid:ann", "cgroup:/a/b/"])
        self.assertEqual(
            [(each.kind.value, each.value) for each in found],
            [
                ("name", "curl"),
                ("path", "/usr/bin/Curl"),
                ("pid", "12"),
                ("uid", "0"),
                ("uid", "ann"),
                ("cgroup", "/a/b"),
            ],
        )
        self.assertEqual(selectors("curl,CURL"), selectors("curl"))
        self.assertEqual(selectors(""), ())
        self.assertEqual(selectors("unit:ssh.service")[0].kind, SelectorKind.UNIT)

    def test_asWritten(self) -> None:
        """A selector is shown as it was written."""
        for text in ("curl", "/usr/bin/curl", "pid:1", "uid:ann", "cgroup:/x", "unit:a.scope"):
            self.assertEqual(str(*selectors(text)), text)

    def test_wrong(self) -> None:
        """A value that is no selector is refused with a sentence that says what is."""
        for value in (
            1, ["a", 1], "pid:0", "pid:x", "uid:", "cgroup:a", "unit:ssh", "a/b", "user:ann",
            [f"p{number}" for number in range(257)],
        ):  # fmt: skip
            self.assertIn("must", str(self.assertRaises(ConfigError, selectors, value)))

    def test_name(self) -> None:
        """Names are compared without their case and without C{.exe}."""
        self.assertEqual(processName("FireFox.EXE"), "firefox")


class TargetTests(SynchronousTestCase):
    """L{networks} and L{lanPorts}."""

    def test_networks(self) -> None:
        """Addresses and networks of both families are read, and their host bits cut off."""
        self.assertEqual(
            networks(["192.0.2.7, 10.1.2.3/8", "2001:db8::1/32"]),
            (ip_network("192.0.2.7"), ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        )
        self.assertEqual(networks(""), ())

    def test_ports(self) -> None:
        """Each port is read with the protocol before it."""
        self.assertEqual(lanPorts("TCP:445, udp:1"), {(Protocol.TCP, 445), (Protocol.UDP, 1)})
        self.assertEqual(lanPorts(""), frozenset())

    def test_wrong(self) -> None:
        """A value that is no network or port is refused with a sentence that says what is."""
        for check, value in (
            (networks, "lan"),
            (networks, 5),
            (networks, "10.0.0.0/33"),
            (lanPorts, "445"),
            (lanPorts, "tcp:0"),
            (lanPorts, "tcp:65536"),
            (lanPorts, "icmp:1"),
            (lanPorts, None),
        ):
            self.assertIn("must", str(self.assertRaises(ConfigError, check, value)))
