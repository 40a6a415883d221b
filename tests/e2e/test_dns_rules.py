"""
Who answers for which names: C{dnsRules}, C{hosts}, C{dnsRejected} and private addresses.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.e2e.case import engines
from tests.e2e.lab import toydns
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.nameserver import Answer, Unbound
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.run_case import RunCase
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_dns import NOWHERE, DNSCase
from tests.e2e.test_dns_system import Apart
from tests.e2e.test_reload import echo

PUBLIC = "9.9.9.9"
"""A server that is in nobody's own network."""

FOLLOWED = 20.0
"""Seconds within which another hosts file counts."""

PORTS = ("port 53 or port 853 or port 443",)
"""What may be DNS."""


def world(server: UDPServer, query: bytes, client: Address) -> None:
    """Answer with the address of the world, whatever the name."""
    server.sock.sendto(toydns.answer(query, IPV4.world), client)


class NamesCase(DNSCase, ProgramsCase):
    """
    A daemon that is reloaded, and a direct path on which a leak would succeed, and is watched.

    @ivar place: the daemon's folder.
    """

    seconds = 90
    programs: tuple[str, ...] = ("tcpdump", "unshare")

    def setUp(self) -> None:
        """Open the path."""
        super().setUp()
        self.lab.openDirectPath()
        self._daemon: Daemon | None = None

    def launched(self, settings: dict[str, object]) -> Daemon:
        """Start a daemon with these settings."""
        return self.daemon(**settings)

    def asking(self, *servers: object, **settings: object) -> Daemon:
        """Have the daemon ask these servers: start it, or reload it."""
        given: dict[str, object] = {"proxy": NOWHERE, "dns": list(servers), **settings}
        given["stackMode"] = self.stackMode
        if self._daemon is None:
            self._daemon = self.launched(given)
            return self._daemon
        writeConfig(self._daemon.directory, given)
        self.reload()
        return self._daemon

    def reload(self) -> None:
        """Reload the daemon."""
        assert self._daemon is not None
        done = say("reload", "--run-dir", str(self._daemon.directory / "run"))
        self.assertEqual(done.returncode, 0, done.stderr)

    def watch(self, *what: str) -> Tcpdump:
        """Watch what leaves past the proxies from now on; by default all that may be DNS."""
        watch = Tcpdump(self.lab.app, self.directory, "up0", *(what or PORTS))
        self.addCleanup(watch.stop)
        return watch

    def assertData(self, got: Answer, *data: str, what: object = "") -> None:
        """An answer has this data and no error."""
        self.assertEqual((what, got.status, got.data), (what, "NOERROR", list(data)))

    def assertEmpty(self, got: Answer, what: object = "") -> None:
        """An answer has no data and no error."""
        kinds = [record.kind for record in got.records]
        self.assertEqual((what, got.status, kinds), (what, "NOERROR", ["SOA"]))

    def names(self, server: Unbound) -> set[str]:
        """The names that a server was asked for."""
        return {name for _, name in server.queries()}


class DnsRuleChecks(NamesCase):
    """C{dnsRules}, C{dnsRejected} and private addresses."""

    def test_split(self) -> None:
        """
        Names of the office are asked of its server and all others of the usual one, over UDP and
        TCP, IPv4 and IPv6, whatever is nearer in the name.
        """
        usual = self.nameServer(IPV4.world, IPV6.world)
        office = self.nameServer(IPV4.direct, IPV6.direct)
        offices: set[str] = set()
        for at, server in enumerate((IPV4.direct, f"tcp://{IPV4.direct}", IPV6.direct)):
            rules = [
                {"domains": ["=host.lab", "public.any.lab"], "servers": [IPV4.world]},
                {"domains": ["any.lab", "*.168.192.in-addr.arpa"], "servers": [server]},
            ]
            self.asking(IPV6.world, dnsRules=rules)
            for family in FAMILIES:
                for transport in ("+notcp", "+tcp"):
                    mine = f"n{at}{family.option}{transport[1:]}.any.lab"
                    offices.add(mine)
                    self.assertData(self.ask(transport, mine, "A", family=family), "10.9.9.9")
                    for name in (f"{mine[:-8]}.public.any.lab", "short.lab"):
                        got = self.ask(transport, name, "A", family=family)
                        self.assertEqual(got.status, "NOERROR", name)
            self.ask("host.lab", "AAAA")
        pointer = f"{at}.1.168.192.in-addr.arpa"
        self.ask(pointer, "PTR")
        self.assertEqual(self.names(office), {*offices, pointer})
        self.assertFalse(self.names(usual) & {*offices, pointer})
        self.assertIn("host.lab", self.names(usual))
        # Only short.lab and its like are asked of the usual server, which is that of IPv6.
        askers = {asker for asker, name in usual.queries() if name == "short.lab"}
        self.assertEqual(askers, {IPV6.app})

    def test_lists(self) -> None:
        """
        A list of names blocks them by a refusal, by no data or by 0.0.0.0; a reload with another
        version is felt by the next query; and no packet leaves for a blocked name.
        """
        server = self.nameServer(IPV4.world)
        path = Path(self.directory, "blocked")
        for answer in ("refuse", "nodata", "0.0.0.0"):
            path.write_text("# Hosts.\n0.0.0.0 host.lab\nany.lab\n")
            rule = {"domains": f"file:{path}", "answer": answer}
            self.asking(IPV4.world, dnsRules=[rule])
            asked = len(server.queries())
            watch = self.watch()
            for name, kind in (
                ("host.lab", "A"), ("host.lab", "AAAA"), ("HOST.lab", "HTTPS"), ("x.any.lab", "A"),
            ):  # fmt: skip
                for transport in ("+notcp", "+tcp"):
                    got = self.ask(transport, name, kind)
                    what = answer, name, kind
                    if answer == "refuse":
                        self.assertEqual((what, got.status), (what, "REFUSED"))
                    elif answer == "nodata" or kind == "HTTPS":
                        self.assertEmpty(got, what)
                    else:
                        self.assertData(got, "0.0.0.0" if kind == "A" else "::", what=what)
            self.assertEqual((watch.destinations(), len(server.queries())), ({}, asked))
            path.write_text("any.lab\n")
            self.reload()
            self.assertData(self.ask("host.lab", "A"), "10.1.2.3")
            # What is in the cache is not given either.
            path.write_text("host.lab\n")
            self.reload()
            self.assertNotEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])

    def test_private(self) -> None:
        """
        The name of a private address never leaves towards a public server, past the proxy or
        through it; a server of our own network is asked, and nobody else.
        """
        self.lab.world.ip(f"addr add {PUBLIC}/32 dev down0")
        self.lab.proxy.ip(f"route add {PUBLIC}/32 dev up0")
        public, ours = self.nameServer(PUBLIC), self.nameServer(IPV4.world)
        proxy = self.dante().url()
        pointers = ["7.1.168.192.in-addr.arpa", "b._dns-sd._udp.0.0.0.10.in-addr.arpa"]
        pointers.append("7." + "0." * 29 + "d.f.ip6.arpa")
        for servers, via in (
            ([PUBLIC], "direct"),
            ([PUBLIC], "proxy"),
            # That of the proxy's network is not ours.
            ([IPV4.world], "proxy"),
        ):
            self.asking(*servers, proxy=proxy, dnsVia=via, dnsCache=False)
            watch = self.watch("port 53 and not host 10.77.3.2")
            for pointer in pointers:
                got = self.ask(pointer, "PTR")
                self.assertEqual((via, got.status), (via, "NXDOMAIN"), pointer)
            self.assertEqual(watch.destinations(), {})
            self.assertFalse(set(pointers) & (self.names(public) | self.names(ours)))
            # The server is there, and would have been asked.
            self.assertData(self.ask("host.lab", "A"), "10.1.2.3")
            asked = ours if servers == [IPV4.world] else public
            self.assertIn("host.lab", self.names(asked))
            self.assertEqual(self.ask("7.1.1.9.in-addr.arpa", "PTR").status, "SERVFAIL")
        before = len(public.queries())
        self.asking(PUBLIC, IPV4.world, proxy=proxy, dnsCache=False)
        for pointer in pointers:
            self.ask(pointer, "PTR")
        self.assertLessEqual(set(pointers), self.names(ours))
        self.assertEqual(len(public.queries()), before)

    def test_rejected(self) -> None:
        """
        With C{dnsRejected}, names that a rule rejects or drops are not looked up, and those that
        it rejects for some flows only are.
        """
        server = self.nameServer(IPV4.world)
        rules = [
            {"to": "reject", "domains": ["=bad.any.lab"]},
            {"to": "drop", "domains": ["=worse.any.lab"]},
            {"to": "reject", "domains": ["=some.any.lab"], "processes": ["curl"]},
            {"to": "reject", "domains": ["=port.any.lab"], "ports": [443]},
        ]
        refused = {"bad.any.lab", "worse.any.lab"}
        for answer, status in (("refuse", "REFUSED"), ("nodata", "NOERROR"), ("pass", "")):
            self.asking(IPV4.world, rules=rules, dnsRejected=answer, dnsCache=False)
            watch = self.watch()
            for name in refused if status else ():
                for family in FAMILIES:
                    got = self.ask(name, "A", family=family)
                    self.assertEqual((got.status, got.data[:-1]), (status, []))
            self.assertEqual(watch.destinations(), {})
            for name in {"some.any.lab", "port.any.lab"} | (set() if status else refused):
                self.assertData(self.ask(name, "A"), "10.9.9.9", what=name)
            self.assertEqual(self.names(server) >= refused, not status)

    def test_fakes(self) -> None:
        """
        Under fake-ip a name with servers has its real address, and rules about the name hold for
        flows there; a blocked name has none that leads anywhere.
        """
        office = self.toy(world, IPV4.direct)
        port, proxy = self.peer(echo).port, self.dante()
        dnsRules = [
            {"domains": ["corp.example"], "servers": [IPV4.direct]},
            {"domains": ["ads.example"], "answer": "0.0.0.0"},
        ]
        base = {"proxy": proxy.url(), "dnsMode": "fake-ip", "dnsStateFile": ""}
        for to in ("direct", "reject"):
            rules = [{"to": to, "domains": ["corp.example"]}]
            default = "proxy" if to == "reject" else "reject"
            self.asking(PUBLIC, dnsRules=dnsRules, rules=rules, default=default, **base)
            self.assertData(self.ask("www.corp.example", "A"), IPV4.world)
            self.assertData(self.ask("www.ads.example", "A"), "0.0.0.0")
            (fake,) = self.ask("www.example", "A").data
            self.assertTrue(fake.startswith("198.19."), fake)
            if to == "direct":
                with self.connect(port) as sock:
                    self.assertEchoes(sock)
            else:
                self.assertNotEqual(self.connectError(port)[0], 0)
            self.assertEqual(proxy.connects(), [])
        self.assertEqual(
            {each for query, _ in office.heard for each in toydns.asked(query)},
            {b"www.corp.example"},
        )

    def test_unjudged(self) -> None:
        """The relay's own queries go where they are to, past the proxy and through it, though a
        rule rejects what programs send there."""
        server = self.nameServer(IPV4.world)
        proxy = self.dante().url()
        more: dict[str, object] = {
            "rules": [{"to": "reject", "networks": [f"{IPV4.world}/32"], "ports": [53]}],
            "dnsOverride": False,
        }
        for via, asker in (("direct", IPV4.app), ("proxy", IPV4.proxyOutside)):
            dnsRules = [{"domains": ["any.lab"], "servers": [{"server": IPV4.world, "via": via}]}]
            self.asking(PUBLIC, proxy=proxy, dnsRules=dnsRules, dnsCache=False, **more)
            for transport in ("+notcp", "+tcp"):
                name = f"{via}-{transport[1:]}.any.lab"
                self.assertData(self.ask(transport, name, "A"), "10.9.9.9")
                self.assertEqual([each for each, _ in server.queries(name)], [asker])
        self.assertNotEqual(self.connectError(53)[0], 0)


engines(globals(), DnsRuleChecks)
# Otherwise trial would run the base class, too.
del DnsRuleChecks


class HostsChecks(NamesCase):
    """The hosts file of a machine that has an F{/etc} of its own."""

    def setUp(self) -> None:
        """Make the machine."""
        super().setUp()
        self.machine = self.directory / "machine"
        shutil.copytree("/etc", self.machine / "etc", symlinks=True)
        (self.machine / "run").mkdir()
        self.hosts = self.machine / "etc" / "hosts"

    def launched(self, settings: dict[str, object]) -> Daemon:
        """Start a daemon on the machine."""
        daemon = Apart(self.machine, self.lab.app, self.directory / "daemon", **settings)
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        self.lab.routeThroughTunnel(daemon.name)
        return daemon

    def waitFor(self, address: str) -> None:
        """Wait until the relay gives a name this address."""
        waitUntil(
            lambda: self.ask("host.lab", "A").data == [address], PATIENCE, f"{address} is given"
        )

    def test_follows(self) -> None:
        """
        The relay answers by the hosts file over UDP and TCP, IPv4 and IPv6, without a packet that
        leaves, and follows the file, whether it is written to or another takes its place.
        """
        server = self.nameServer(IPV4.world)
        self.hosts.write_text("10.5.5.5 host.lab nas\nfd00::55 host.lab\n")
        daemon = self.asking(IPV4.world, hosts=True)
        watch = self.watch()
        for family in FAMILIES:
            for transport in ("+notcp", "+tcp"):
                for kind, data in (("A", "10.5.5.5"), ("AAAA", "fd00::55")):
                    got = self.ask(transport, "host.lab", kind, family=family)
                    self.assertData(got, data)
                self.assertData(self.ask(transport, "5.5.5.10.in-addr.arpa", "PTR"), "host.lab.")
                self.assertEmpty(self.ask(transport, "host.lab", "HTTPS", family=family))
        self.assertEqual((watch.destinations(), server.queries()), ({}, []))
        other = self.hosts.with_name("hosts.new")

        def write(text: str) -> None:
            self.hosts.write_text(text)

        def replace(text: str) -> None:
            other.write_text(text)
            other.rename(self.hosts)

        for change, address in ((write, "10.5.5.6"), (replace, "10.5.5.7"), (write, "10.5.5.8")):
            change(f"{address} host.lab\n")
            began = time.monotonic()
            self.waitFor(address)
            self.assertLess(time.monotonic() - began, FOLLOWED)
        self.hosts.unlink()
        self.waitFor("10.1.2.3")
        write("10.5.5.9 host.lab\n")
        self.waitFor("10.5.5.9")
        self.asking(IPV4.world, hosts=False)
        self.assertData(self.ask("host.lab", "A"), "10.1.2.3")
        self.assertEndsWell(daemon)

    def test_order(self) -> None:
        """
        The hosts file comes before C{dnsRules}, these before rejected names, these before fake
        addresses, and these before the servers, but for names with servers of their own.
        """
        server = self.nameServer(IPV4.world)
        self.hosts.write_text("10.5.5.5 a.any.lab\n")
        self.asking(
            IPV4.world,
            dnsMode="fake-ip",
            dnsStateFile="",
            hosts=True,
            dnsRules=[
                {"domains": ["=a.any.lab", "=b.any.lab"], "answer": "10.6.6.6"},
                {"domains": ["=e.any.lab"], "servers": [IPV4.world]},
            ],
            dnsRejected="10.7.7.7",
            rules=[{"to": "reject", "domains": ["any.lab"]}],
        )
        for name, data in (
            ("a.any.lab", "10.5.5.5"),
            ("b.any.lab", "10.6.6.6"),
            ("c.any.lab", "10.7.7.7"),
            ("e.any.lab", "10.7.7.7"),
            ("d.lab", "198.19.0.1"),
        ):
            self.assertData(self.ask(name, "A"), data, what=name)
        self.assertEqual(server.queries(), [])
        self.asking(
            IPV4.world,
            dnsMode="fake-ip",
            dnsStateFile="",
            dnsRules=[{"domains": ["=e.any.lab"], "servers": [IPV4.world]}],
        )
        self.assertData(self.ask("e.any.lab", "A"), "10.9.9.9")
        self.assertTrue(self.ask("a.any.lab", "A").data[0].startswith("198.19."))
        self.assertEqual(self.names(server), {"e.any.lab"})


engines(globals(), HostsChecks)
del HostsChecks


class RunTests(RunCase):
    """C{nanotun run}."""

    def test_answers(self) -> None:
        """The hosts file, C{dnsRules} and rejected names count for a command, too, before its
        names go to the proxy, which is not there."""
        names = "for name in localhost ads.lab bad.lab; do kdig +short @$0 $name A; done"
        done = self.call(
            *("sh", "-c", names, IPV4.gateway),
            options=(
                "--hosts",
                *("--dns-rule", "{domains: ads.lab, answer: 10.6.6.6}"),
                *("--rule", "{domains: [bad.lab], to: reject}"),
                *("--dns-rejected", "10.7.7.7"),
            ),
        )
        self.assertEqual((done.out, done.err), ("127.0.0.1\n10.6.6.6\n10.7.7.7\n", ""))
