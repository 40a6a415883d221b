"""
What the tests of the doctor's checks share.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.machine import Machine
from nanotun.linux.network import TABLE_MAIN, Address, KernelRoute, Link, MachineNetwork


def settings(*flags: str) -> Settings:
    """Settings from flags."""
    options = Options()
    options.parseOptions(["--proxy", "socks5://10.0.0.1", *flags])
    return options.settings


def link(number: int, name: str, kind: str = "", mtu: int = 1500, carrier: bool = False) -> Link:
    """A link that is up."""
    return Link(number, name, kind, mtu, True, carrier)


def route(network: str, via: str, table: int = TABLE_MAIN) -> KernelRoute:
    """A route."""
    return KernelRoute(table, ip_network(network), via)


def address(link: str, host: str, length: int) -> Address:
    """An address with its network."""
    return Address(link, host, ip_network(f"{host}/{length}", strict=False))


HOME = MachineNetwork(
    (link(1, "lo", mtu=65536), link(2, "eth0")),
    (
        address("lo", "127.0.0.1", 8),
        address("eth0", "10.0.0.2", 24),
        address("eth0", "fd00::2", 64),
    ),
    (route("0.0.0.0/0", "eth0"), route("10.0.0.0/24", "eth0"), route("::/0", "eth0")),
)
"""The network of a healthy machine."""


class CheckCase(SynchronousTestCase):
    """Provides a machine made of files."""

    def setUp(self) -> None:
        """Make an empty machine, used by root."""
        self.root = Path(self.mktemp()).resolve()
        self.root.mkdir()
        (self.root / "bin").mkdir()
        self.uid = 0
        self.files = (65536, 65536)
        self.machine = Machine(
            str(self.root), lambda: self.uid, lambda: self.files, str(self.root / "bin")
        )

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def findings(self, check: Any) -> list[Finding]:
        """Run a check; its findings must be whole sentences under its own name."""
        verifyObject(ICheck, check)
        found = cast(list[Finding], check.run())
        self.assertSentences(found, check)
        return found

    def assertSentences(self, found: list[Finding], check: Any) -> None:
        """Texts and cures are sentences, and each problem has a cure."""
        self.assertGreater(len(found), 0)
        for each in found:
            self.assertEqual(each.check, check.name)
            self.assertRegex(each.text, r"(?s)\A\S.*[.]\Z")
            self.assertRegex(each.cure, r"(?s)\A(|\S.*[.])\Z")
            if each.level >= Level.WARN:
                self.assertTrue(each.cure or ";" in each.text, each)

    def assertFinds(self, check: Any, level: Level, *words: str) -> None:
        """The check has one finding, with this level and these words."""
        (found,) = self.findings(check)
        self.assertEqual(found.level, level, found)
        for word in words:
            self.assertIn(word, f"{found.text} {found.cure}")
