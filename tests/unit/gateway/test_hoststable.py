"""
Tests for L{nanotun.gateway.dns.hoststable}.
"""

from __future__ import annotations

from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.hoststable import ADDRESSES_LIMIT, HostsTable
from tests.unit.gateway.gateway_cases import AAAA, HTTPS, A

HOSTS = b"""\
# The machine itself.
127.0.0.1\tlocalhost
::1 localhost ip6-localhost

10.0.0.5   Printer.lan. printer # the one upstairs
10.0.0.6 printer.lan
fd00::5 printer.lan
10.0.0.5 later.lan printer.lan
fe80::1%lo0 zone.lan
10.0.0.300 wrong.lan
10.0.0.7
10.0.0.8 d\xc3\xa0mon.lan n\xff.lan
10.0.0.9 caf\x85.lan good.lan\r
10.0.0.10 a..b
"""


def packed(*hosts: str) -> list[bytes]:
    """Addresses as records have them."""
    return [ip_address(host).packed for host in hosts]


class HostsTableTests(SynchronousTestCase):
    """L{HostsTable}."""

    def setUp(self) -> None:
        """The file above."""
        self.table = HostsTable(HOSTS)

    def test_addresses(self) -> None:
        """A name has all of its addresses, each once and in the order of the file."""
        for name, kind, expected in (
            ("printer.lan", A, ("10.0.0.5", "10.0.0.6")),
            ("printer.lan", AAAA, ("fd00::5",)),
            ("printer", A, ("10.0.0.5",)),
            ("localhost", A, ("127.0.0.1",)),
            ("ip6-localhost", AAAA, ("::1",)),
            ("good.lan", A, ("10.0.0.9",)),
        ):
            self.assertEqual(self.table.of(name, kind), packed(*expected), (name, kind))

    def test_otherTypes(self) -> None:
        """A name in the file has nothing of a type that the file has not for it."""
        for name, kind in (("printer", AAAA), ("ip6-localhost", A), ("printer.lan", HTTPS)):
            self.assertEqual(self.table.of(name, kind), [])

    def test_leftOut(self) -> None:
        """What is no address, has a zone or has no name is left out, and comments are."""
        for name in ("zone.lan", "wrong.lan", "the", "upstairs", "machine", "lan", "", "mon.lan"):
            self.assertIsNone(self.table.of(name, A), name)

    def test_pointers(self) -> None:
        """An address has the first name that the file gives it; letters do not matter."""
        for host, expected in (
            ("10.0.0.5", "printer.lan"),
            ("fd00::5", "printer.lan"),
            ("127.0.0.1", "localhost"),
            ("::1", "localhost"),
            ("10.0.0.99", ""),
            ("fd00::6", ""),
            # No message could have these.
            ("10.0.0.8", ""),
            ("10.0.0.10", ""),
        ):
            pointer = ip_address(host).reverse_pointer
            self.assertEqual(self.table.nameOf(pointer), expected, host)

    def test_oddPointers(self) -> None:
        """What only looks like an address's name is none."""
        for pointer in (
            "",
            "arpa",
            "in-addr.arpa",
            "0.10.in-addr.arpa",
            "1.5.0.0.10.in-addr.arpa",
            "05.0.0.10.in-addr.arpa",
            "5.0.0.10.in-addr.example",
            "5.0.0.10.ip6.arpa",
            "x" + ip_address("fd00::5").reverse_pointer[1:],
            " " + ip_address("fd00::5").reverse_pointer[1:],
            "5" + ip_address("fd00::5").reverse_pointer,
            "_" + ip_address("fd00::5").reverse_pointer,
            ip_address("fd00::5").reverse_pointer[2:],
        ):
            self.assertEqual(self.table.nameOf(pointer), "", pointer)

    def test_lines(self) -> None:
        """The line of a name is the first on which it stands."""
        for name, line in (("localhost", 2), ("printer.lan", 5), ("good.lan", 13)):
            self.assertEqual(self.table.ruleOf(name), f"/etc/hosts, line {line}")

    def test_manyAddresses(self) -> None:
        """A name has its first L{ADDRESSES_LIMIT} addresses; each of the others has its
        name."""
        hosts = [f"10.0.{number >> 8}.{number & 255}" for number in range(2000)]
        table = HostsTable("".join(f"{host} many.lan\n" for host in hosts).encode())
        self.assertEqual(table.of("many.lan", A), packed(*hosts[:ADDRESSES_LIMIT]))
        self.assertEqual(table.nameOf(ip_address(hosts[-1]).reverse_pointer), "many.lan")

    def test_empty(self) -> None:
        """Nothing is in an empty file."""
        table = HostsTable()
        self.assertIsNone(table.of("localhost", A))
        self.assertEqual(table.nameOf("1.0.0.127.in-addr.arpa"), "")
