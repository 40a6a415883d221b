"""
What the relay makes of answers: DNSSEC and DNS64 pass, old answers are given while servers are
away, and neither the client's subnet nor an address of a local network comes through.
"""

from __future__ import annotations

import os
import signal
import time

from tests.e2e.case import engines
from tests.e2e.lab import signedzone, toydns
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.httpproxies import Tinyproxy
from tests.e2e.lab.nameserver import Answer
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.signedzone import FORGED, RIGHT, ZONE
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_dns import NOWHERE, DNSCase

NAME = "v4.example"
SYNTHESISED = "64:ff9b::a4d:202"
"""The world's IPv4 address as a DNS64 server writes it (RFC 6052)."""

_V4 = f"""\
server:
  local-zone: "{NAME}." static
  local-data: "{NAME}. 300 IN A {IPV4.world}"
"""

_DNS64 = f"""\
server:
  module-config: "dns64 iterator"
forward-zone:
  name: "example."
  forward-addr: {IPV4.world}
"""

_PUBLIC = """\
server:
  local-data: "public.lab. 300 IN A 8.8.8.8"
  local-data: "mixed.lab. 300 IN A 8.8.8.8"
  local-data: "mixed.lab. 300 IN A 192.168.1.7"
"""

#: Seconds that the first server has for its answer.
ATTEMPT = 1.5

#: Seconds within which an answer arrives that nobody has to be asked for.
AT_ONCE = 0.5


class AnswersChecks(DNSCase, ProgramsCase):
    """A server in the world that is asked past the proxy."""

    programs = signedzone.PROGRAMS
    seconds = 90

    def reload(self, daemon: Daemon, **settings: object) -> None:
        """Give the daemon other settings."""
        given = {"stackMode": self.stackMode, "proxy": NOWHERE, "dns": [IPV4.world]}
        writeConfig(daemon.directory, given | settings)
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_dnssec(self) -> None:
        """DO, AD and CD reach a server that validates, and come back, also from the cache."""
        server = self.nameServer(IPV4.world, more=signedzone.signedZone(self.directory))
        self.relayTo(IPV4.world)
        host, forged = f"host.{ZONE}", f"forged.{ZONE}"
        for _ in range(2):
            for family in FAMILIES:
                for options, flags, kinds in (
                    (("+noadflag",), {"qr", "rd", "ra"}, ["A"]),
                    (("+adflag",), {"qr", "rd", "ra", "ad"}, ["A"]),
                    (("+dnssec",), {"qr", "rd", "ra", "ad"}, ["A", "RRSIG"]),
                    (("+dnssec", "+cdflag"), {"qr", "rd", "ra", "cd"}, ["A", "RRSIG"]),
                ):
                    got = self.ask(*options, host, "A", family=family)
                    found = got.flags - ({"ad"} if "cd" in flags else set())
                    shown = [record.kind for record in got.records]
                    self.assertEqual((found, shown, got.data[0]), (flags, kinds, RIGHT), options)
                self.assertEqual(self.ask(forged, "A", family=family).status, "SERVFAIL")
                got = self.ask("+cdflag", forged, "A", family=family)
                self.assertEqual((got.status, got.data), ("NOERROR", [FORGED]))
        self.assertEqual(len(server.queries(host)), 4)

    def test_dns64(self) -> None:
        """Addresses that a DNS64 server makes pass, and a flow to one leaves by its name."""
        self.nameServer(IPV4.world, more=_V4)
        self.nameServer(IPV4.direct, more=_DNS64)
        web = self.webServer()
        proxy = Tinyproxy(self.lab.proxy, self.directory, hosts={NAME: [IPV4.world]})
        self.addCleanup(proxy.stop)
        watch = Tcpdump(self.lab.app, self.directory, "up0", "net 64:ff9b::/96")
        self.addCleanup(watch.stop)
        daemon = self.relayTo(IPV4.direct, proxy=f"http://{IPV4.proxy}:{proxy.port}")
        for family in FAMILIES:
            self.assertEqual(self.ask(NAME, "AAAA", family=family).data, [SYNTHESISED])
            self.assertEqual(self.ask("+cdflag", NAME, "AAAA", family=family).data[1:], [])
        url = f"http://[{SYNTHESISED}]:{web.port}/peer"
        done = self.lab.app.run(["curl", "-qgsS", "--max-time", "60", url])
        self.assertEqual(done.stdout, IPV4.proxyOutside)
        self.assertEqual(watch.destinations(), {})
        self.assertEndsWell(daemon)

    def short(self) -> tuple[int, float]:
        """The TTL of a name that has 2 s at most, and the seconds that it took to find out."""
        began = time.monotonic()
        got: Answer = self.ask("short.lab", "A", wait=10)
        self.assertEqual((got.status, got.data), ("NOERROR", ["10.1.2.4"]))
        return got.records[0].ttl, time.monotonic() - began

    def test_stale(self) -> None:
        """While the server is silent a name keeps its address: the first to ask waits for 1.5 s,
        and the next one not at all.  Once the server is back its answer counts."""
        server = self.nameServer(IPV4.world)
        daemon = self.relayTo(IPV4.world)
        self.assertLessEqual(self.short()[0], 2)
        os.kill(server.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, server.pid, signal.SIGCONT)
        times: list[float] = []

        def isOld() -> bool:
            ttl, seconds = self.short()
            times.append(seconds)
            return ttl == 30

        waitUntil(isOld, PATIENCE, "the answer is one after its time")
        self.assertGreater(max(times), ATTEMPT)
        for _ in range(2):
            self.assertQuick(lambda: self.assertEqual(self.short()[0], 30), AT_ONCE)
        os.kill(server.pid, signal.SIGCONT)
        waitUntil(lambda: self.short()[0] <= 2, PATIENCE, "the server's answer counts")
        lines = [line for line in daemon.log().splitlines() if "(dnsStale)" in line]
        self.assertEqual(len(set(lines)), 1, daemon.log())
        self.assertEndsWell(daemon)

    def test_neverStale(self) -> None:
        """With C{dnsStale: 0s} no answer is given after its time."""
        server = self.nameServer(IPV4.world)
        self.relayTo(IPV4.world, dnsStale="0s")
        self.short()
        server.stop()
        waitUntil(
            lambda: self.ask("short.lab", "A", wait=10).status == "SERVFAIL", PATIENCE, "it is over"
        )

    def test_subnet(self) -> None:
        """The client's subnet is not told to the server, and is if it is to be."""
        toy = self.toy(toydns.honest)
        daemon = self.relayTo(IPV4.world)
        for wanted in (False, True):
            if wanted:
                self.reload(daemon, dnsClientSubnet=True)
            before = len(toy.heard)
            for family in FAMILIES:
                for number, transport in enumerate(("+notcp", "+tcp")):
                    for subnet in ("203.0.113.0/24", "2001:db8:77::/48"):
                        name = f"a{number}.lab"
                        got = self.ask(transport, f"+subnet={subnet}", name, "A", family=family)
                        self.assertEqual(got.data, [toydns.RIGHT])
            found = [
                any(part in query for part in (b"\xcb\x00\x71", b"\x20\x01\x0d\xb8\x00\x77"))
                for query, _ in toy.heard[before:]
            ]
            # Without the subnet they are two questions, and the cache knows them.
            self.assertEqual(found, [True] * 8 if wanted else [False] * 2)

    def test_rebinding(self) -> None:
        """A name that leads into a local network has no address, over UDP and TCP, and the log
        says why; names of the Internet, and those with servers of their own, have theirs."""
        self.nameServer(IPV4.world, more=_PUBLIC)
        # All in the user's own network could be meant to know such names.
        daemon = self.relayTo(IPV4.world, "192.0.2.53", dnsRebindProtection=True)
        for family in FAMILIES:
            for transport in ("+notcp", "+tcp"):
                for name, kind in (
                    ("host.lab", "A"),
                    ("host.lab", "AAAA"),
                    ("web.lab", "HTTPS"),
                    ("mixed.lab", "A"),
                ):
                    got = self.ask(transport, name, kind, family=family)
                    shown = [record.kind for record in got.records]
                    self.assertEqual((got.status, shown), ("NOERROR", ["SOA"]), name)
                got = self.ask(transport, "public.lab", "A", family=family)
                self.assertEqual(got.data, ["8.8.8.8"])
        for part in ("host.lab was dropped, because it leads to 10.1.2.3", "to fd00::123"):
            self.assertIn(part, daemon.log())
        dns = [IPV4.world, "192.0.2.53"]
        rules = [{"domains": ["host.lab"], "servers": [IPV4.world]}]
        self.reload(daemon, dns=dns, dnsRebindProtection=True, dnsRules=rules)
        self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual([each.kind for each in self.ask("web.lab", "HTTPS").records], ["SOA"])
        self.reload(daemon, dns=dns)
        self.assertIn("ipv4hint=10.1.2.5", self.ask("web.lab", "HTTPS").data[0])
        self.assertEndsWell(daemon)


engines(globals(), AnswersChecks)
# Otherwise trial would run the base class, too.
del AnswersChecks
