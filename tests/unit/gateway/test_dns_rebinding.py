"""
Tests for L{nanotun.gateway.dns.rebinding}.
"""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from socket import AF_INET, AF_INET6, inet_pton

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.gateway.dns.rebinding import RebindingGuard, guardFor, localAddress
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy
from tests.unit.gateway.gateway_cases import (
    AAAA,
    CNAME,
    HTTPS,
    NS,
    TXT,
    A,
    answer,
    ask,
    edns,
    name,
    read,
    record,
)

SVCB = 64


def address(host: str, owner: bytes = b"\xc0\x0c") -> bytes:
    """A record of an address."""
    family, kind = (AF_INET6, AAAA) if ":" in host else (AF_INET, A)
    return record(kind, 60, inet_pton(family, host), owner)


def service(hosts: list[str], kind: int = HTTPS, more: bytes = b"") -> bytes:
    """A record with hints."""
    packed = {4: b"", 6: b""}
    for host in hosts:
        packed[6 if ":" in host else 4] += inet_pton(AF_INET6 if ":" in host else AF_INET, host)
    hints = [struct.pack("!HH", key, len(v)) + v for key, v in packed.items() if v]
    return record(kind, 60, b"\0\1\0" + b"\0\1\0\3\2h2" + b"".join(hints) + more)


def found(
    records: list[bytes],
    kind: int = A,
    authorities: list[bytes] | None = None,
    additionals: list[bytes] | None = None,
) -> str:
    """The address that is found in an answer, or the empty text."""
    wire = ask(kind=kind)
    got = localAddress(answer(wire, records, authorities, additionals), read(wire))
    return "" if got is None else got[0]


class AddressTests(SynchronousTestCase):
    """Tests for L{localAddress}."""

    def test_kinds(self) -> None:
        """Every kind of address is found that is not on the Internet, and no other."""
        for host in (
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.7",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "100.64.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "fdfe:dcba:9876::1",
            "::ffff:192.168.1.7",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:a00:1::1",
        ):
            self.assertEqual(found([address(host)]), host)
            self.assertEqual(found([service([host])], HTTPS), host)
        for host in ("8.8.8.8", "172.32.0.1", "2001:4860::8888", "64:ff9b::808:808", "2002:808::1"):
            self.assertEqual(found([address(host)]), "")
            self.assertEqual(found([service([host])], HTTPS), "")

    def test_special(self) -> None:
        """It is told which network the address is of; of a NAT64 address, the inner one's."""
        wire = ask(kind=AAAA)
        for host in ("64:ff9b::a00:1", "2002:a00:1::1"):
            got = localAddress(answer(wire, [address(host)]), read(wire))
            assert got is not None
            self.assertEqual((got[0], got[1].name), (host, "private use"))

    def test_anywhere(self) -> None:
        """It may be any record of the answer, and for any name; the other sections count for
        service records only, where addresses come along."""
        public, private = address("8.8.8.8"), address("10.0.0.1")
        alias = record(CNAME, 60, name("other.example"))
        stray = address("10.0.0.1", name("stray.example"))
        for records in ([public, private], [alias, stray], [record(TXT, 60, b"\1x"), private]):
            self.assertEqual(found(records), "10.0.0.1")
        glue = [record(NS, 60, name("ns.example"))], [stray]
        self.assertEqual(found([public], A, *glue), "")
        for kind in (HTTPS, SVCB):
            self.assertEqual(found([service([], kind)], kind, *glue), "10.0.0.1")
            self.assertEqual(found([service(["8.8.8.8", "fd00::1"], kind)], kind), "fd00::1")

    def test_manyHints(self) -> None:
        """Each address of a hint is looked at, also in a record that has no proper end."""
        hosts = [f"8.8.8.{number}" for number in range(50)]
        self.assertEqual(found([service([*hosts, "10.0.0.1"])], HTTPS), "10.0.0.1")
        self.assertEqual(found([service(["10.0.0.1"], more=b"\0")], HTTPS), "10.0.0.1")
        broken = record(HTTPS, 60, b"\0\1\x80")
        self.assertEqual(found([broken, service(["10.0.0.1"])], HTTPS), "10.0.0.1")

    def test_noEnd(self) -> None:
        """An answer is read as far as it goes: with more records than it has, fewer, too many to
        keep, or bytes of no meaning behind them."""
        wire = ask()
        message = answer(wire, [address("8.8.8.8"), address("10.0.0.1")])
        for each in (
            message + b"behind",
            message[:7] + b"\x09" + message[8:],
            answer(wire, [address("8.8.8.8")] * 300 + [address("10.0.0.1")]),
        ):
            self.assertIsNotNone(localAddress(each, read(wire)))
        self.assertIsNone(localAddress(message[:-1], read(wire)))

    def test_hostile(self) -> None:
        """Bytes that mean nothing cause no error."""
        randomly = random.Random(1)
        wire = ask(kind=HTTPS, extension=edns())
        whole = answer(wire, [service(["8.8.8.8", "2001:4860::8888"]), address("8.8.8.8")])
        for _ in range(3000):
            message = bytearray(whole[: randomly.randrange(40, len(whole))])
            message[randomly.randrange(33, len(message))] = randomly.randrange(256)
            localAddress(bytes(message), read(wire))


class GuardTests(SynchronousTestCase):
    """Tests for L{RebindingGuard} and L{guardFor}."""

    def setUp(self) -> None:
        """Protection is on; names of the office have servers of their own."""
        proxy = flagValue(KEYS["proxy"], "socks5://proxy.example:1080")
        self.settings = replace(makeSettings({}, {"proxy": proxy}, None), dnsRebindProtection=True)
        servers = (DnsServer("udp", "10.0.0.53"),)
        self.names = NamePolicy([DnsRule((pattern("corp.example"),), servers)])
        self.said: list[str] = []

    def drops(self, text: str, host: str = "192.168.1.7") -> bool:
        """Whether a name may not have an address."""
        guard = guardFor(self.settings, self.names, ["proxy.example"], self.said.append)
        assert guard is not None
        wire = ask(text)
        return guard.drops(answer(wire, [address(host)]), read(wire))

    def test_said(self) -> None:
        """Dropping an answer is explained, with the name in any spelling as it is."""
        self.assertTrue(self.drops("Evil.EXAMPLE"))
        expected = (
            "The answer for evil.example was dropped, because it leads to 192.168.1.7 (private "
            "use, RFC 1918) and dnsRebindProtection is on; if that is meant, give the name servers "
            "of its own in dnsRules."
        )
        self.assertEqual(self.said, [expected])

    def test_exempt(self) -> None:
        """Names that are local, have servers of their own, or are a proxy's keep any address."""
        for text in (
            "wiki.corp.example",
            "proxy.example",
            "router",
            "printer.local",
            "a.localhost",
            "nas.home.arpa",
            "metadata.google.internal",
            "ipv4only.arpa",
        ):
            self.assertFalse(self.drops(text), text)
        for text in ("a.proxy.example", "notcorp.example", "1.2.3.4.in-addr.arpa", "a.xlocal"):
            self.assertTrue(self.drops(text), text)
        self.assertEqual(len(self.said), 4)

    def test_allNames(self) -> None:
        """An entry of C{dnsRules} for all names does not take the protection from them."""
        servers = (DnsServer("udp", "192.0.2.53"),)
        office = DnsRule((pattern("corp.example"),), servers)
        for text in ("*", "~."):
            self.names = NamePolicy([office, DnsRule((pattern(text),), servers)])
            self.assertTrue(self.drops("evil.example"))
            self.assertFalse(self.drops("wiki.corp.example"))

    def test_blocked(self) -> None:
        """What servers give for names that they block is dropped without a word."""
        for host in ("0.0.0.0", "::"):
            self.assertTrue(self.drops("ads.example", host))
        self.assertEqual(self.said, [])

    def test_public(self) -> None:
        """An answer that leads to the Internet is left alone."""
        self.assertFalse(self.drops("www.example", "8.8.8.8"))

    def test_none(self) -> None:
        """There is no guard if none is wanted, or if all servers are meant to know local names."""
        self.assertIsInstance(guardFor(self.settings, self.names, (), print), RebindingGuard)
        router, public = DnsServer("udp", "192.168.1.1"), DnsServer("udp", "9.9.9.9")
        for settings, isNone in (
            (replace(self.settings, dnsRebindProtection=False), True),
            (replace(self.settings, dns=(router,)), True),
            (replace(self.settings, dns=(router, public)), False),
            (replace(self.settings, dns=(router,), dnsVia="proxy"), False),
        ):
            self.assertEqual(guardFor(settings, self.names, (), print) is None, isNone)
