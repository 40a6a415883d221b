"""
Tests for L{nanotun.gateway.dns.choice} and L{nanotun.gateway.dns.privatezones}.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.gateway.dns.addresses import packName
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.choice import ServerChoice, makeChoice
from nanotun.gateway.dns.message import PTR, Query
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.privatezones import privateZone
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy
from tests.unit.gateway.gateway_cases import ask, read

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h")}, None)

PUBLIC = DnsServer("udp", "192.0.2.53", 53)
OFFICE = DnsServer("udp", "10.0.0.53", 53)
ROUTER = DnsServer("udp", "192.168.1.1", 53)


class Listed:
    """Servers that would be asked."""

    def __init__(self, servers: tuple[DnsServer, ...]) -> None:
        self.servers = servers

    def order(self, query: Query) -> tuple[DnsServer, ...]:
        """See L{ServerQueries.order}."""
        return self.servers


class Wanted:
    """
    Notes which servers are wanted, and whether past the proxies.

    @ivar lists: what was wanted, in order; with C{keep}, what that keeps.
    """

    def __init__(self) -> None:
        self.lists: list[tuple[tuple[DnsServer, ...], bool]] = []

    def of(
        self,
        servers: tuple[DnsServer, ...],
        direct: bool = False,
        keep: Callable[[DnsServer], bool] | None = None,
    ) -> ServerQueries:
        """See L{NameServers.of}."""
        kept = tuple(each for each in servers if keep is None or keep(each))
        self.lists.append((kept, direct))
        return cast(ServerQueries, Listed(kept))


class ServerChoiceTests(SynchronousTestCase):
    """Tests for L{ServerChoice}."""

    def setUp(self) -> None:
        """Nobody has asked."""
        self.wanted = Wanted()
        self.servers = cast(NameServers, self.wanted)

    def ask(self, choice: ServerChoice, *names: str, kind: int = PTR) -> list[bool]:
        """Choose for some names; returns for each whether anybody may be asked."""
        return [choice.of(read(ask(name, kind))) is not None for name in names]

    def test_own(self) -> None:
        """A proxy's own name is asked past the proxies; what is below it, and all else, is not."""
        names = NamePolicy()
        choice = ServerChoice(self.servers, (PUBLIC,), names, frozenset(("proxy.example",)))
        asked = "proxy.example", "PROXY.Example", "a.proxy.example", "example", "a b.example"
        self.ask(choice, *asked)
        past = [direct for _, direct in self.wanted.lists]
        self.assertEqual(past, [True, True, False, False, False])

    def test_none(self) -> None:
        """
        Without own names none is asked past the proxies, not even a name that is none; and what
        is the same for all is found once.
        """
        choice = ServerChoice(self.servers, (PUBLIC,), NamePolicy())
        first, second = (choice.of(read(ask(name))) for name in ("proxy.example", "a b"))
        self.assertEqual(self.wanted.lists, [((PUBLIC,), False)])
        self.assertIs(first, second)

    def test_rules(self) -> None:
        """The first rule with servers that has a name says whom to ask, whatever the name is."""
        domains = pattern("corp.example"), pattern("10.in-addr.arpa")
        names = NamePolicy(
            [
                DnsRule((pattern("=www.corp.example"),), (PUBLIC,)),
                DnsRule(domains, (OFFICE,)),
            ]
        )
        choice = ServerChoice(self.servers, (ROUTER,), names, frozenset(("gate.corp.example",)))
        asked = (
            "www.corp.example",
            "A.Corp.Example",
            "my printer._ipp.corp.example",
            "7.0.0.10.in-addr.arpa",
            "example",
        )
        self.ask(choice, *asked, "gate.corp.example")
        lists = [(PUBLIC,), (OFFICE,), (OFFICE,), (OFFICE,), (ROUTER,)]
        self.assertEqual(self.wanted.lists, [*((each, False) for each in lists), ((OFFICE,), True)])

    def test_private(self) -> None:
        """
        A name behind a private address is asked of servers in the user's own network, past the
        proxies; if there are none, of nobody.
        """
        usual = PUBLIC, ROUTER, OFFICE
        choice = ServerChoice(self.servers, usual, NamePolicy(), bare=(PUBLIC, ROUTER))
        self.assertEqual(self.ask(choice, "7.1.168.192.in-addr.arpa"), [True])
        self.assertEqual(self.wanted.lists, [((ROUTER,), False)])
        none: tuple[DnsServer, ...] = ()
        for bare in ((PUBLIC,), none):
            choice = ServerChoice(self.servers, (OFFICE,), NamePolicy(), bare=bare)
            self.assertEqual(self.ask(choice, "7.1.168.192.IN-addr.arpa", "a."), [False, True])

    def test_privateRules(self) -> None:
        """A rule for all names does not send names behind private addresses to its servers; one
        that names their zone does."""
        everything = [DnsRule((pattern(text),), (PUBLIC,)) for text in ("*", "~.")]
        zone = DnsRule((pattern("10.in-addr.arpa"),), (OFFICE,))
        for rule in everything:
            names = NamePolicy([zone, rule])
            choice = ServerChoice(self.servers, (PUBLIC,), names, bare=(ROUTER,))
            self.wanted.lists.clear()
            self.ask(choice, "1.0.0.10.in-addr.arpa", "7.1.168.192.in-addr.arpa", "8.in-addr.arpa")
            lists = [servers for servers, _ in self.wanted.lists]
            self.assertEqual(lists, [(OFFICE,), (ROUTER,), (PUBLIC,)])

    def test_root(self) -> None:
        """A rule for all names is for the root as well."""
        names = NamePolicy([DnsRule((pattern("*"),), (OFFICE,))])
        self.ask(ServerChoice(self.servers, (PUBLIC,), names), "")
        self.assertEqual(self.wanted.lists, [((OFFICE,), False)])

    def test_made(self) -> None:
        """
        Only servers that are asked past every proxy count as bare, and a proxy's name is its own
        where some are not, or where a rule may have others for it.
        """
        rule = DnsRule((pattern("corp.example"),), (OFFICE,))
        proxied = ROUTER._replace(via="proxy")
        for servers, rules, own, asked in (
            ([ROUTER], [], False, [ROUTER]),
            ([ROUTER], [rule], True, [ROUTER]),
            ([proxied, ROUTER], [], True, [ROUTER]),
            ([proxied], [], True, []),
        ):
            settings = replace(SETTINGS, dns=tuple(servers), dnsRules=tuple(rules))
            names, real = NamePolicy(rules), ("gate.example", "192.0.2.1")
            choice = makeChoice(settings, self.servers, names, True, real)
            self.wanted.lists.clear()
            self.ask(choice, "7.1.168.192.in-addr.arpa", "gate.example")
            (local, _), (_, past) = self.wanted.lists
            self.assertEqual((list(local), past), (asked, own))
            same = makeChoice(settings, self.servers, NamePolicy(rules), True, real)
            self.assertTrue(choice.sameAs(same))
            other = makeChoice(settings, self.servers, names, True, ("b",))
            self.assertEqual(choice.sameAs(other), not own)
            without = makeChoice(settings, self.servers, names, False, real)
            self.ask(without, "gate.example")
            self.assertFalse(self.wanted.lists[-1][1])


class PrivateZoneTests(SynchronousTestCase):
    """Tests for L{privateZone}."""

    def test_zones(self) -> None:
        """The zones of RFC 6303, 7793 and 1918 are private, with all below; no others are."""
        for name, zone in (
            ("7.1.168.192.in-addr.arpa", "168.192.in-addr.arpa"),
            ("168.192.in-addr.arpa", "168.192.in-addr.arpa"),
            ("1.31.172.in-addr.arpa", "31.172.in-addr.arpa"),
            ("b._dns-sd._udp.0.1.168.192.in-addr.arpa", "168.192.in-addr.arpa"),
            ("1.64.100.in-addr.arpa", "64.100.in-addr.arpa"),
            ("1.0." * 8 + "d.f.ip6.arpa", "d.f.ip6.arpa"),
            ("1." + "0." * 31 + "ip6.arpa", "1." + "0." * 31 + "ip6.arpa"),
            ("8.8.8.8.in-addr.arpa", ""),
            ("1.32.172.in-addr.arpa", ""),
            ("1.128.100.in-addr.arpa", ""),
            ("2." + "0." * 31 + "ip6.arpa", ""),
            ("10.example", ""),
            ("ipv4only.arpa", ""),
            ("xarpa", ""),
        ):
            found = privateZone(packName(name)[:-1])
            self.assertEqual(found, packName(zone)[:-1] if zone else b"", name)
        # The first and the last address of each network, and those around it.
        for text, around in (
            ("0.0.0.0 0.255.255.255", "1.0.0.0"),
            ("10.0.0.0 10.255.255.255", "9.255.255.255 11.0.0.0"),
            ("100.64.0.0 100.127.255.255", "100.63.255.255 100.128.0.0"),
            ("127.0.0.0 127.255.255.255", "126.255.255.255 128.0.0.0"),
            ("169.254.0.0 169.254.255.255", "169.253.255.255 169.255.0.0"),
            ("172.16.0.0 172.31.255.255", "172.15.255.255 172.32.0.0"),
            ("192.0.2.0 192.0.2.255", "192.0.1.255 192.0.3.0"),
            ("192.168.0.0 192.168.255.255", "192.167.255.255 192.169.0.0"),
            ("198.18.0.0 198.19.255.255", "198.17.255.255 198.20.0.0"),
            ("198.51.100.0 198.51.100.255", "198.51.99.255 198.51.101.0"),
            ("203.0.113.0 203.0.113.255", "203.0.112.255 203.0.114.0"),
            ("255.255.255.255", "255.255.255.254"),
            (":: ::1", "::2"),
            ("2001:db8:: 2001:db8:ffff::1", "2001:db7:ffff::1 2001:db9::"),
            ("fc00:: fdff:ffff::1", "fbff:ffff::1 fe00::"),
            ("fe80:: febf:ffff::1", "fe7f:ffff::1 fec0::"),
        ):
            for hosts, isPrivate in ((text, True), (around, False)):
                for host in hosts.split():
                    found = privateZone(packName(ip_address(host).reverse_pointer)[:-1])
                    self.assertIs(bool(found), isPrivate, host)
        # A label that looks like the end of a zone (RFC 2317), and the root.
        self.assertTrue(privateZone(b"\x040/25" + packName("1.168.192.in-addr.arpa")[:-1]))
        self.assertEqual(privateZone(b""), b"")
