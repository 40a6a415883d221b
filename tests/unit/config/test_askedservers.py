"""Tests of L{nanotun.config.askedservers}."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.askedservers import (
    bootstrapsOf,
    directEndpoints,
    goesBare,
    isLocal,
    literalHosts,
    probeEndpoints,
    serversOf,
    shownWays,
    viaOf,
)
from nanotun.config.dnsservers import checked
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, makeSettings
from nanotun.interfaces import DnsServer

#: A server whose addresses are known though it is given by name.
ADDRESSED = {"server": "tls://dns.example", "address": ["192.0.2.53", "2001:DB8::53"]}


def asking(*servers: object, text: str = "") -> Settings:
    """The settings of a file's text, with these servers."""
    settings = makeSettings(parseFile(f"proxy: p\n{text}", "n.yaml", KEYS), {}, "n.yaml")
    return replace(settings, dns=checked(list(servers)))


class BootstrapTests(SynchronousTestCase):
    """L{bootstrapsOf}."""

    def found(self, servers: str, others: str) -> list[str]:
        """The servers that may be asked for the name of the first."""
        first, *rest = checked(servers)
        return [str(each) for each in bootstrapsOf((first, *rest), first, checked(others))]

    def test_list(self) -> None:
        """Servers of the same list are asked, if they can be found without asking."""
        for servers, wanted in (
            ("tls://a.example, 9.9.9.9", ["9.9.9.9:53"]),
            ("tls://a.example, tls://b.example, tls://1.1.1.1", ["tls://1.1.1.1:853"]),
            ("tls://a.example, system, ::1", ["system", "[::1]:53"]),
        ):
            self.assertEqual(self.found(servers, "8.8.8.8"), wanted)
        addressed = checked(["tls://a.example", {"server": "tls://b", "address": "192.0.2.1"}])
        self.assertEqual(bootstrapsOf(addressed, addressed[0], ()), addressed[1:])

    def test_others(self) -> None:
        """Where there is none, those of C{dns} are."""
        self.assertEqual(self.found("tls://a.example", "8.8.8.8"), ["8.8.8.8:53"])
        self.assertEqual(self.found("tls://a.example", "tls://a.example"), [])

    def test_notNeeded(self) -> None:
        """Nobody is asked for a server whose address is known."""
        for value in ("tls://1.1.1.1", "system", {"server": "tls://a", "address": "192.0.2.1"}):
            first = checked(value)[0]
            self.assertEqual(bootstrapsOf((first,), first, checked("8.8.8.8")), ())


class ReaderTests(SynchronousTestCase):
    """What others ask about the servers of some settings."""

    def test_ways(self) -> None:
        """A server's own C{via} comes before C{dnsVia}, and a bare upstream is as direct."""
        text = "upstreams: {office: h, home: 'direct://'}\ndnsVia: "
        for via, own, name, bare in (
            ("direct", None, "direct", True),
            ("proxy", None, "proxy", False),
            ("home", None, "home", True),
            ("proxy", "direct", "direct", True),
            ("proxy", "home", "home", True),
            ("direct", "office", "office", False),
        ):
            entry = {"server": "9.9.9.9", **({"via": own} if own else {})}
            settings = asking(entry, text=text + via)
            (one,) = serversOf(settings)
            self.assertEqual(viaOf(settings, one), name)
            self.assertIs(goesBare(settings, one), bare, (via, own))

    def test_local(self) -> None:
        """A server is local if each of its addresses is known, and in a network of one's own."""
        both = ["10.0.0.53", "192.0.2.53"]
        for value, wanted in (
            ("192.168.1.1", True),
            ("tls://127.0.0.53", True),
            ("[::1]:53", True),
            ("fd00::53", True),
            ("9.9.9.9", False),
            ("2001:db8::53", False),
            ("tls://h", False),
            ("system", False),
            ({"server": "tls://h", "address": both[:1]}, True),
            ({"server": "tls://h", "address": both}, False),
        ):
            (one,) = checked(value)
            self.assertIs(isLocal(one), wanted, value)
        self.assertFalse(isLocal(DnsServer("udp", "::ffff:10.0.0.53", 53)))
        # As C{system} may stand for, on a link.
        self.assertTrue(isLocal(DnsServer("udp", "fe80::1%eth0", 53)))

    def test_literalHosts(self) -> None:
        """The addresses of all servers are known, but those that are yet to be looked up."""
        settings = asking(
            "9.9.9.9", "9.9.9.9:54", "https://1.1.1.1", "tls://h", "system", ADDRESSED
        )
        self.assertEqual(
            literalHosts(settings), ("9.9.9.9", "1.1.1.1", "192.0.2.53", "2001:db8::53")
        )

    def test_directEndpoints(self) -> None:
        """What the relay itself may ask past the proxy, in plain, is known by its address."""
        servers = (
            "9.9.9.9",
            "tcp://9.9.9.9:54",
            "tls://1.1.1.1",
            "system",
            {"server": "8.8.8.8", "via": "office"},
            {"server": "udp://h", "address": "192.0.2.1"},
        )
        text = "upstreams: {office: h, mixed: {proxy: [h, 'direct://']}}\ndnsVia: "
        direct = {("9.9.9.9", 53), ("9.9.9.9", 54), ("192.0.2.1", 53)}
        for via in ("direct", "mixed"):
            self.assertEqual(directEndpoints(asking(*servers, text=text + via)), direct)
        self.assertEqual(directEndpoints(asking(*servers, text=text + "proxy")), set())

    def test_probeEndpoints(self) -> None:
        """A trial of UDP is sent to the port of plain DNS, unless another is asked over UDP."""
        settings = asking("9.9.9.9:54", "https://1.1.1.1", "tls://h", "system", ADDRESSED)
        self.assertEqual(
            probeEndpoints(settings), (("9.9.9.9", 54), ("1.1.1.1", 53), ("192.0.2.53", 53))
        )

    def test_shownWays(self) -> None:
        """A common way is said once, and else each has its own."""
        text = "upstreams: {office: h}\ndnsVia: "
        for via, wanted in (
            ("direct", "9.9.9.9:53, tls://1.1.1.1:853, asked past the proxy"),
            ("proxy", "9.9.9.9:53, tls://1.1.1.1:853, asked through the proxy"),
            ("office", "9.9.9.9:53, tls://1.1.1.1:853, asked through office"),
        ):
            settings = asking("9.9.9.9", "tls://1.1.1.1", text=text + via)
            self.assertEqual(shownWays(settings), wanted)
        mixed = asking("9.9.9.9", {"server": "system", "via": "direct"}, text=text + "office")
        self.assertEqual(shownWays(mixed), "9.9.9.9:53 through office, system past the proxy")
