"""
DNS servers over TLS, HTTPS and TCP, as the servers, the wire and the programs see them.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial

from tests.e2e.case import engines
from tests.e2e.dns_case import SCHEMES, EncryptedCase
from tests.e2e.lab import nameserver, toydns
from tests.e2e.lab.baddns import NAME
from tests.e2e.lab.dnsdist import Dnsdist
from tests.e2e.lab.httpproxies import Tinyproxy
from tests.e2e.lab.nameserver import HUGE_RECORDS
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.servers import Server
from tests.e2e.lab.tlsdns import DohServer, DotServer
from tests.e2e.lab.tlsfront import Stunnel, certificate
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.test_names import world

ROUND_TRIP = 0.1

SLACK = 0.07
"""Seconds that all but the round trip of a query may take on a busy machine."""

BLOCK = 128
"""Queries have a multiple of these bytes (RFC 8467, section 4.1)."""

OTHER_OUTSIDE = "10.77.2.9"
"""A second address of the proxy's."""

WITH_DATA = (
    "(tcp port 853 or tcp port 443) and "
    "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0"
)
"""Packets over IPv4 that carry something, unlike those that only end a connection."""

QUESTIONS = (
    ("host.lab", "A"),
    ("host.lab", "AAAA"),
    ("svc.lab", "HTTPS"),
    ("big.lab", "TXT"),
    ("huge.lab", "TXT"),
    ("absent.lab", "A"),
    ("host.lab", "MX"),
)


class WireChecks(EncryptedCase):
    """Connections and messages."""

    programs = ("openssl", "stunnel", "tcpdump", "tinyproxy")

    def upstreams(self) -> dict[str, object]:
        """Start proxies of each kind."""
        gate = self.started(Microsocks(self.lab.proxy, self.directory))
        second = self.dante(port=1082, internal=("127.0.0.1",))
        http = self.started(Tinyproxy(self.lab.proxy, self.directory))
        front = self.started(
            Stunnel(self.lab.proxy, self.directory, http.port, certificate(self.directory, self.ca))
        )
        return {
            "socks": self.dante().url(),
            "http": f"http://{IPV4.proxy}:{http.port}",
            "https": f"https://{IPV4.proxy}:{front.port}?ca={self.ca.cert}",
            "chain": {"proxy": f"socks5://127.0.0.1:{second.port}", "via": "gate"},
            "gate": gate.url(),
        }

    def test_ways(self) -> None:
        """
        Over TLS and HTTPS, IPv4 and IPv6, past the proxies and through each kind of them,
        answers arrive, and the server sees who should ask; nothing leaves in the clear.
        """
        server = self.unbound(IPV4.world, IPV6.world)
        upstreams = self.upstreams()
        clear, leaks = self.watch("port 53"), None
        for way in ("direct", *upstreams):
            for family in FAMILIES:
                for scheme in SCHEMES:
                    before = len(server.queries())
                    self.asking(self.entry(scheme, family), upstreams=upstreams, dnsVia=way)
                    if way != "direct" and leaks is None:
                        # Not before: the connections past the proxies have been reset.
                        leaks = self.watch()
                    self.assertFinds(what=(way, scheme, family.name))
                    asker = family.app if way == "direct" else family.proxyOutside
                    self.assertEqual(server.queries()[before:], [(asker, "host.lab")], way)
        assert leaks is not None
        self.assertEqual(leaks.destinations(), {})
        self.assertEqual(clear.destinations(), {})

    def test_oneConnection(self) -> None:
        """Many queries take one connection, whatever the proxy."""
        queries = nameserver.writeQueries(self.directory / "queries", 100)
        proxy = self.started(Tinyproxy(self.lab.proxy, self.directory))
        leaks = self.watch("port 53 or host", IPV4.world)
        url = f"http://{IPV4.proxy}:{proxy.port}"
        for scheme, make in (("tls", DotServer), ("https", DohServer)):
            server: DotServer | DohServer = make(self.shown)
            port = self.peer(server, timeout=60).port
            self.asking(self.entry(scheme, port=port), proxy=url, dnsVia="proxy")
            got = nameserver.dnsperf(self.lab.app, IPV4.gateway, queries, 1, "-Q", "100", "-c", "4")
            self.assertLess(got.loss, 0.01, got.output)
            self.assertEqual((scheme, server.opened), (scheme, 1))
            self.assertGreater(len(server.queries), 80)
        self.assertEqual(leaks.destinations(), {})

    def test_roundTrip(self) -> None:
        """On an open connection a query takes one round trip, and twenty take no longer."""
        self.unbound(IPV4.world)
        for scheme, port in (("tls", nameserver.TLS_PORT), ("https", nameserver.HTTPS_PORT)):
            argv = [sys.executable, "-m", "benchmarks.delay", IPV4.world]
            argv += [str(8000 + port), str(port), str(ROUND_TRIP)]
            log = self.directory / f"delay-{port}.log"
            self.started(Server(self.lab.world, argv, 8000 + port, log))
            self.asking(self.entry(scheme, port=8000 + port))
            self.elapsed("first.any.lab")
            # The best of a few, as the machine may be busy.
            one = min(self.elapsed(f"n{number}.any.lab") for number in range(5))
            self.assertGreater(one, ROUND_TRIP, "the server is not far away")
            self.assertLess(one, ROUND_TRIP + SLACK, scheme)
            labels = [[f"m{turn}-{number}.any.lab" for number in range(20)] for turn in range(3)]
            self.assertLess(min(self.elapsed(*each) for each in labels), 2 * ROUND_TRIP, scheme)

    def test_resumed(self) -> None:
        """After a pause that the server ends, the next query resumes the session."""
        for scheme, make in (("tls", DotServer), ("https", DohServer)):
            server: DotServer | DohServer = make(self.shown, idle=1.0)
            peer = self.peer(server)
            self.asking(self.entry(scheme, port=peer.port))
            self.assertFinds()
            peer.result()
            self.assertFinds("other.lab")
            self.assertEqual((scheme, server.resumed), (scheme, [False, True]))

    def test_padding(self) -> None:
        """
        Queries are padded on the wire, with ids that tell nothing by HTTPS; answers lose their
        padding before a program sees them.
        """
        for scheme, make in (("tls", DotServer), ("https", DohServer)):
            server: DotServer | DohServer = make(self.shown)
            self.asking(self.entry(scheme, port=self.peer(server).port))
            names = [f"{'a' * length}.lab" for length in (1, 30, 60)]
            for name in names:
                for option in ("+noedns", "+edns"):
                    self.assertEqual(self.ask(option, name, "A").data, [toydns.RIGHT])
            self.assertEqual({len(query) % BLOCK for query in server.queries}, {0}, scheme)
            self.assertEqual(len(server.queries), 2 * len(names))
            if scheme == "https":
                self.assertEqual({toydns.idOf(query) for query in server.queries}, {0})
        self.unbound(IPV4.world)
        for scheme in SCHEMES:
            self.asking(self.entry(scheme))
            for option in ("+noedns", "+edns"):
                # Padded, it would have 468 bytes (RFC 8467, section 4.2).
                self.assertLess(self.ask(option, "host.lab", "A").size, BLOCK)

    def test_tcp(self) -> None:
        """A server of tcp:// is asked on one TCP connection, and never over UDP."""
        peer = self.peer(toydns.lateOverTCP(0.0, "none.lab"), port=nameserver.PORT)
        datagrams = self.watch("udp port 53")
        self.asking(f"tcp://{IPV4.world}")
        for transport in ("+notcp", "+tcp"):
            self.assertEqual(self.ask(transport, "host.lab", "A").data, [toydns.RIGHT])
        self.assertTrue(peer.results.empty(), "a connection has ended")
        self.assertEqual(datagrams.destinations(), {})


class ChoiceChecks(EncryptedCase):
    """Which server is asked, by which way."""

    programs = ("dnsdist", "openssl", "tcpdump")

    def test_byName(self) -> None:
        """
        A server by name is looked up once, at the next server and by that one's way; at none
        if its address is given.
        """
        server = self.unbound(IPV4.world, IPV6.world)
        asked = self.toy(world, IPV4.direct)
        named = {"server": f"tls://{NAME}", "ca": str(self.ca.cert)}
        proxy = self.dante().url()
        for via, expected in (("direct", IPV4.app), ("proxy", IPV4.proxyOutside)):
            asked.heard.clear()
            second = {"server": IPV4.direct, "via": via}
            self.asking({**named, "via": "proxy"}, second, proxy=proxy)
            for number in range(3):
                self.assertFinds(f"n{number}.any.lab", "10.9.9.9")
            self.assertEqual(
                {name for query, _ in asked.heard for name in toydns.asked(query)}, {NAME.encode()}
            )
            self.assertLessEqual(len(asked.heard), 2, "one for each IP version")
            self.assertEqual({source[0] for _, source in asked.heard}, {expected})
        outside = {IPV4.proxyOutside, IPV6.proxyOutside}
        self.assertLessEqual({asker for asker, _ in server.queries()}, outside)
        asked.heard.clear()
        self.asking({**named, "address": IPV4.world})
        self.assertFinds()
        self.assertEqual(asked.heard, [])

    def test_reload(self) -> None:
        """A reload asks other servers, or another way, from the next query on."""
        first, second = self.unbound(IPV4.world), self.unbound(IPV4.direct)
        proxy = self.dante().url()
        for scheme in SCHEMES:
            here, there = self.entry(scheme), self.entry(scheme, host=IPV4.direct)
            for entry, server in ((here, first), (there, second)):
                before = len(server.queries())
                self.asking(entry, proxy=proxy)
                self.assertFinds()
                self.assertEqual(server.queries()[before:], [(IPV4.app, "host.lab")])
            leaks = self.watch(f"port 53 or ({WITH_DATA})")
            self.asking(there, proxy=proxy, dnsVia="proxy")
            self.assertFinds()
            self.assertEqual(second.queries()[-1], (IPV4.proxyOutside, "host.lab"))
            self.assertEqual(leaks.destinations(), {})

    def test_stopped(self) -> None:
        """While the first server hangs the second one answers; then the first one is used again."""
        first, second = self.unbound(IPV4.world), self.unbound(IPV4.direct)
        for scheme in SCHEMES:
            self.asking(self.entry(scheme), self.entry(scheme, host=IPV4.direct))
            self.assertFinds()
            before = len(second.queries())
            os.kill(first.pid, signal.SIGSTOP)
            self.elapsed("hung.any.lab")
            self.assertEqual(len(second.queries()), before + 1)
            os.kill(first.pid, signal.SIGCONT)
            name = f"again-{scheme}.any.lab"
            waitUntil(partial(self._used, first, name), PATIENCE, "the first is used again")

    def _used(self, server: nameserver.Unbound, name: str) -> bool:
        """Whether a server is the one that is asked now."""
        self.assertFinds(name, "10.9.9.9")
        return bool(server.queries(name))

    def test_vias(self) -> None:
        """Each server is asked by its own way, and the others by that of dnsVia."""
        self.lab.proxy.ip(f"addr add {OTHER_OUTSIDE}/24 dev up0")
        first, second = self.unbound(IPV4.world), self.unbound(IPV4.direct)
        upstreams = {
            "office": self.dante(port=1082, external=(OTHER_OUTSIDE,)).url(),
            "home": self.dante().url(),
        }
        leaks = self.watch()
        for scheme in SCHEMES:
            servers = (
                self.entry(scheme, via="office"),
                self.entry(scheme, host=IPV4.direct),
            )
            self.asking(*servers, upstreams=upstreams, dnsVia="home")
            self.assertFinds()
            self.assertEqual(first.queries()[-1], (OTHER_OUTSIDE, "host.lab"))
            self.asking(*reversed(servers), upstreams=upstreams, dnsVia="home")
            self.assertFinds()
            self.assertEqual(second.queries()[-1], (IPV4.proxyOutside, "host.lab"))
        self.assertEqual(leaks.destinations(), {})

    def test_dnsdist(self) -> None:
        """Dnsdist's answers are the same as those of unbound, whatever is asked."""
        self.nameServer(IPV4.world, shown=self.shown)
        self.started(Dnsdist(self.lab.world, self.directory, IPV4.direct, IPV4.world, self.shown))
        found = []
        for host in (IPV4.world, IPV4.direct):
            for scheme in SCHEMES:
                self.asking(self.entry(scheme, host=host))
                got = [self.ask("+tcp", *question, wait=10) for question in QUESTIONS]
                self.assertEqual(len(set(got[4].data)), HUGE_RECORDS)
                found.append([(each.status, sorted(each.data)) for each in got])
        for other in found[1:]:
            self.assertEqual(other, found[0])

    def test_closing(self) -> None:
        """Of a server that ends each connection soon every query is answered."""
        self.nameServer(IPV4.world)
        self.started(
            Dnsdist(self.lab.world, self.directory, IPV4.direct, IPV4.world, self.shown, each=1)
        )
        self.asking(self.entry("tls", host=IPV4.direct))
        for number in range(10):
            self.assertFinds(f"n{number}.any.lab", "10.9.9.9")


engines(globals(), WireChecks)
engines(globals(), ChoiceChecks)
# Otherwise trial would run the base classes, too.
del WireChecks, ChoiceChecks
