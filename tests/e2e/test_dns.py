"""
The DNS relay on the gateway, as kdig and dnsperf see it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from tests.e2e.case import TRIES, TunnelCase, engines
from tests.e2e.lab import nameserver, toydns, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import HUGE_RECORDS, TTL, Unbound, ask, kdig
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, Family

NOWHERE = f"socks5://{IPV4.proxy}:9"
"""No proxy at all: what works with this, works without one."""

GIVE_UP_SECONDS = 30
"""Seconds within which a relay that gets no answer must say so."""


class DNSCase(TunnelCase):
    """What all tests of the relay need."""

    def relayTo(self, *hosts: str, **settings: object) -> Daemon:
        """Start a daemon that asks C{hosts}, by the host's own network."""
        self.lab.openDirectPath()
        settings.setdefault("proxy", NOWHERE)
        return self.daemon(dns=list(hosts), **settings)

    def toy(self, handler: toydns.Handler, host: str = IPV4.world) -> udp.UDPServer:
        """Start a DNS server of our own."""
        return self.udpServer(handler, IPV4, host, nameserver.PORT)

    def ask(self, *arguments: str, family: Family = IPV4, wait: int = 30) -> nameserver.Answer:
        """Ask the gateway one question."""
        return ask(self.lab.app, family.gateway, *arguments, wait=wait)


class AnswerChecks(DNSCase):
    """Questions and answers."""

    def _relay(self, **settings: object) -> Unbound:
        server = self.nameServer(IPV4.world, IPV6.world)
        self.relayTo(IPV4.world, **settings)
        return server

    def test_both(self) -> None:
        """Over UDP and TCP, IPv4 and IPv6, the server's answers arrive unchanged."""
        server = self._relay(dnsCache=False)
        for family in FAMILIES:
            for transport in ("+notcp", "+tcp"):
                for kind, data in (("A", "10.1.2.3"), ("AAAA", "fd00::123")):
                    got = self.ask(transport, "host.lab", kind, family=family)
                    self.assertEqual((got.status, got.data), ("NOERROR", [data]))
                    self.assertEqual(got.records[0].ttl, TTL)
                    name = "TCP" if transport == "+tcp" else "UDP"
                    self.assertEqual(got.server, f"{family.gateway}@53({name})")
                absent = self.ask(transport, "absent.lab", "A", family=family)
                self.assertEqual(absent.status, "NXDOMAIN")
        # Not through the proxy, as there is none: the server sees the host itself.
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})

    def test_upstreamOverIPv6(self) -> None:
        """The server may have an IPv6 address."""
        server = self.nameServer(IPV4.world, IPV6.world)
        self.relayTo(IPV6.world)
        for transport in ("+notcp", "+tcp"):
            got = self.ask(transport, "host.lab", "A" if transport == "+tcp" else "AAAA")
            self.assertEqual(len(got.data), 1)
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV6.app})

    def test_neverByTheProxy(self) -> None:
        """Even with a working proxy, queries to the relay do not go through it."""
        server = self.nameServer(IPV4.world)
        proxy = self.dante()
        self.relayTo(IPV4.world, proxy=proxy.url())
        for transport in ("+notcp", "+tcp"):
            self.assertEqual(self.ask(transport, "host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})
        self.assertNotIn("udpassociate", proxy.journal.read_text())
        self.assertEqual(proxy.connects(), [])

    def test_sizes(self) -> None:
        """An answer larger than the client's buffer is cut, with TC; one that fits is not."""
        self._relay()
        whole = self.ask("+ignore", "+bufsize=4096", "big.lab", "TXT")
        self.assertNotIn("tc", whole.flags)
        self.assertEqual(len(whole.records), 10)
        # From here on, the answer may come from the cache.
        for option, limit in (("+bufsize=1232", 1232), ("+bufsize=512", 512), ("+noedns", 512)):
            cut = self.ask("+ignore", option, "big.lab", "TXT")
            self.assertIn("tc", cut.flags, option)
            self.assertLessEqual(cut.size, limit)
        again = self.ask("+noedns", "big.lab", "TXT")  # kdig asks again, by TCP.
        self.assertEqual((len(again.records), again.server[-5:]), (10, "(TCP)"))

    def test_huge(self) -> None:
        """An answer of 60 KB arrives whole over TCP, on both gateways."""
        self._relay()
        for family in FAMILIES:
            got = self.ask("+tcp", "huge.lab", "TXT", family=family)
            self.assertEqual(len(set(got.data)), HUGE_RECORDS)
            self.assertGreater(got.size, 60_000)

    def test_severalOnOneConnection(self) -> None:
        """kdig asks several questions on one TCP connection, and each gets its answer."""
        self._relay()
        questions = []
        for number in range(20):
            questions += [f"n{number}.any.lab", "A"]
        questions += ["host.lab", "A", "host.lab", "AAAA", "absent.lab", "A"]
        for family in FAMILIES:
            got = kdig(self.lab.app, family.gateway, "+tcp", "+keepopen", *questions)
            self.assertEqual(len(got), 23)
            self.assertTrue(all(one.data == ["10.9.9.9"] for one in got[:20]))
            self.assertEqual([one.data for one in got[20:]], [["10.1.2.3"], ["fd00::123"], []])

    def test_outOfOrder(self) -> None:
        """
        On one TCP connection, a quick answer does not wait for a slow one (RFC 7766,
        6.2.1.1).
        """
        self.toy(toydns.late(1.5, "slow.lab"))
        peer = Peer(self.lab.world, toydns.lateOverTCP(1.5, "slow.lab"), nameserver.PORT)
        self.addCleanup(peer.stop)
        self.relayTo(IPV4.world)
        with self.lab.app.connect((IPV4.gateway, 53), 5) as app:
            for number, name in ((1, "slow.lab"), (2, "quick.lab")):
                app.sendall(toydns.framed(toydns.query(name, number)))
            first, second = toydns.readFramed(app), toydns.readFramed(app)
        self.assertEqual([toydns.idOf(first), toydns.idOf(second)], [2, 1])


class CacheChecks(DNSCase):
    """The cache."""

    def test_cache(self) -> None:
        """
        A repeated question does not reach the server, and its TTL has shrunk by the time
        passed.
        """
        server = self.nameServer(IPV4.world)
        self.relayTo(IPV4.world)
        began = time.monotonic()
        self.assertEqual(self.ask("host.lab", "A").records[0].ttl, TTL)
        self.assertEqual(self.ask("short.lab", "A").records[0].ttl, 2)
        time.sleep(2.5)
        for transport in ("+notcp", "+tcp"):
            again = self.ask(transport, "host.lab", "A")
            self.assertEqual(again.data, ["10.1.2.3"])
            self.assertGreaterEqual(TTL - again.records[0].ttl, 2)
            self.assertLess(TTL - again.records[0].ttl, time.monotonic() - began + 1)
        self.assertEqual(len(server.queries("host.lab")), 1)
        self.assertEqual(self.ask("short.lab", "A").records[0].ttl, 2)
        self.assertEqual(len(server.queries("short.lab")), 2)
        # Another question is not in the cache.
        self.assertEqual(self.ask("host.lab", "AAAA").data, ["fd00::123"])

    def test_off(self) -> None:
        """With C{dnsCache: false} every question reaches the server."""
        server = self.nameServer(IPV4.world)
        self.relayTo(IPV4.world, dnsCache=False)
        for _ in range(3):
            self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual(len(server.queries("host.lab")), 3)


class UpstreamChecks(DNSCase):
    """Servers that answer late or never."""

    seconds = 90

    def test_second(self) -> None:
        """If the first server is silent, the second is asked; soon, the first no longer is."""
        silent = self.toy(udp.sink, IPV4.direct)
        self.nameServer(IPV4.world)
        self.relayTo(IPV4.direct, IPV4.world, dnsCache=False)
        for _ in range(6):
            self.assertEqual(self.ask("host.lab", "A", wait=10).data, ["10.1.2.3"])
        self.assertTrue(silent.heard, "the first server was not asked at all")
        before = len(silent.heard)
        self.assertQuick(lambda: self.ask("host.lab", "A"), 1.4)
        self.assertEqual(len(silent.heard), before)

    def test_closedPort(self) -> None:
        """If nothing listens at the first server, the second is asked at once."""
        self.nameServer(IPV4.world)
        self.relayTo(IPV4.direct, IPV4.world, dnsCache=False)
        for transport in ("+notcp", "+tcp"):
            got = partial(self.ask, transport, "host.lab", "A")
            self.assertQuick(lambda: self.assertEqual(got().data, ["10.1.2.3"]), 1.4)  # noqa: B023

    def test_none(self) -> None:
        """If no server answers, the client gets SERVFAIL, and the log names the servers."""
        self.toy(udp.sink)
        daemon = self.relayTo(IPV4.world)
        for transport in ("+notcp", "+tcp"):
            started = time.monotonic()
            got = self.ask(transport, "host.lab", "A", wait=GIVE_UP_SECONDS)
            self.assertEqual(got.status, "SERVFAIL")
            self.assertLess(time.monotonic() - started, GIVE_UP_SECONDS)
        self.assertIn(IPV4.world, daemon.log())

    def test_errorWithoutQuestion(self) -> None:
        """An error without a question arrives at once."""
        self.toy(toydns.bare(1))
        self.relayTo(IPV4.world, dnsCache=False)
        ask = partial(self.ask, "host.lab", "A")
        self.assertQuick(lambda: self.assertEqual(ask().status, "FORMERR"), 1.4)

    def test_errorOfFirst(self) -> None:
        """After an error without a question a second server is asked at once."""
        self.toy(toydns.bare(1), IPV4.direct)
        self.toy(toydns.honest)
        self.relayTo(IPV4.direct, IPV4.world, dnsCache=False)
        ask = partial(self.ask, "host.lab", "A")
        self.assertQuick(lambda: self.assertEqual(ask().data, ["10.1.2.3"]), 1.4)

    def test_retransmission(self) -> None:
        """A client that asks again before the answer causes no second query to the server."""
        # After the last repetition, and before the relay asks the server once more (1.5 s).
        server = self.toy(toydns.late(1.2))
        self.relayTo(IPV4.world)

        def queries(name: str) -> int:
            before = len(server.heard)
            app = self.datagrams(53, IPV4.gateway)
            for _ in range(4):
                app.send(toydns.query(name, 4711))
                time.sleep(0.2)
            self.assertEqual(toydns.idOf(app.recv(1000)), 4711)
            return len(server.heard) - before

        # On a busy machine the relay may have asked once more.
        asked = (queries(f"n{number}.lab") for number in range(TRIES))
        self.assertIn(1, asked, "the server was asked more than once")

    def test_rawBytes(self) -> None:
        """What the relay does not understand is passed on unchanged: options, classes, types."""
        server = self.toy(toydns.reflect)
        self.relayTo(IPV4.world)
        app = self.datagrams(53, IPV4.gateway)
        for number, strange in enumerate(toydns.STRANGE):
            question = toydns.query("host.lab", 100 + number, extra=strange)
            app.send(question)
            got = app.recv(4096)
            self.assertEqual(got[:2], question[:2])
            self.assertEqual(got[12:], question[12:])
            self.assertEqual(server.heard[-1][0][2:], question[2:])


class LoadChecks(DNSCase):
    """Many questions."""

    def test_dnsperf(self) -> None:
        """1,000 queries per second for 5 s, half of them answered from the cache: none is lost."""
        self.nameServer(IPV4.world, log=False)
        self.relayTo(IPV4.world)
        queries = nameserver.writeQueries(self.directory / "queries", 2500)

        def load(family: Family) -> Iterator[nameserver.Performance]:
            for _ in range(3):
                options = ("-Q", "1000", "-c", "20")
                yield nameserver.dnsperf(self.lab.app, family.gateway, queries, 5, *options)

        for family in FAMILIES:
            # If the machine is busy elsewhere for long, some are lost between programs.
            runs = load(family)
            self.assertTrue(any(got.sent > 4500 and got.loss < 0.001 for got in runs), family.name)


engines(globals(), AnswerChecks)
engines(globals(), CacheChecks)
engines(globals(), UpstreamChecks)
engines(globals(), LoadChecks)
# Otherwise trial would run the base classes, too.
del AnswerChecks, CacheChecks, UpstreamChecks, LoadChecks
