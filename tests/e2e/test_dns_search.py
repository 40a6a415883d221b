"""
Search lists with C{dnsMode: fake-ip}: names that do not exist, as real resolvers see them.
"""

from __future__ import annotations

from itertools import count

from tests.e2e.case import engines
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.httpproxies import FORBIDDEN, Squid, Tinyproxy
from tests.e2e.lab.nameserver import Unbound
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import withFiles
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4
from tests.e2e.run_case import RunCase
from tests.e2e.test_dns import DNSCase
from tests.e2e.test_run_names import MACHINE

#: As in a pod of Kubernetes.
RESOLV = f"nameserver {IPV4.gateway}\nsearch a.lab lab\noptions ndots:5\n"

#: Seconds within which a name has an address although the question about it is in vain.
IN_VAIN = 2.0


class SearchChecks(DNSCase):
    """
    A direct path to the servers is open in every test, so that a leak would succeed, and is
    watched.
    """

    def setUp(self) -> None:
        """Open the path."""
        super().setUp()
        self.lab.openDirectPath()

    def fakes(self, **settings: object) -> Daemon:
        """Start a daemon with fake addresses, and watch what is asked past its proxy."""
        watch = Tcpdump(self.lab.app, self.directory, "up0", "port", "53")
        self.addCleanup(watch.stop)
        self.watch = watch
        given: dict[str, object] = {"dnsMode": "fake-ip", "dnsVia": "proxy", "dnsStateFile": ""}
        return self.daemon(**given | {"dns": [IPV4.world]} | settings)

    def lookUp(self, name: str) -> str:
        """What glibc finds, as a program of the app calls it."""
        place = self.directory / "etc"
        place.mkdir(exist_ok=True)
        files = {"/etc/resolv.conf": RESOLV, "/etc/nsswitch.conf": "hosts: files dns\n"}
        argv = withFiles(place, ["getent", "ahosts", name], files)
        return self.lab.app.run(argv, check=False).stdout

    def asked(self, server: Unbound) -> set[str]:
        """The names that the server was asked for, by the proxy and nobody else."""
        queries = server.queries()
        self.assertLessEqual({asker for asker, _ in queries}, {IPV4.proxyOutside})
        return {name for _, name in queries}

    def test_search(self) -> None:
        """With a search list and ndots:5, glibc finds the name that exists, and the servers are
        asked through the proxy only, once for each name."""
        server = self.nameServer(IPV4.world)
        daemon = self.fakes(proxy=self.dante().url())
        for _ in range(2):
            found = self.lookUp("host")
            self.assertRegex(found, r"198\.19\.0\.1 +STREAM")
            self.assertRegex(found, r"STREAM host\.lab\n")
        self.assertEqual(self.asked(server), {"host.a.lab", "host.lab"})
        self.assertEqual(len(server.queries("host.lab")), 1)
        for family in FAMILIES:
            for kind in ("A", "AAAA", "HTTPS"):
                got = self.ask("host.a.lab", kind, family=family)
                kinds = [record.kind for record in got.records]
                self.assertEqual((got.status, kinds), ("NXDOMAIN", ["SOA"]))
        self.assertEqual(self.lookUp("absent"), "")
        self.assertEqual(self.watch.destinations(), {})
        self.assertEndsWell(daemon)

    def test_records(self) -> None:
        """HTTPS records arrive with ALPN and ECH keys, but without an address, over UDP and TCP,
        and the servers are asked for them through the proxy only."""
        server = self.nameServer(IPV4.world)
        proxy = self.dante().url()
        for mode, hinted in (("fake-ip", False), ("normal", True)):
            daemon = self.fakes(proxy=proxy, dnsMode=mode)
            for transport in ("+notcp", "+tcp"):
                (data,) = self.ask(transport, "web.lab", "HTTPS").data
                # Newer ones put it in quotes.
                self.assertIn("alpn=h2", data.replace('"', ""))
                self.assertIn("ech=AEUAAA==", data)
                for hint in ("10.1.2.5", "fd00::5"):
                    self.assertEqual(hint in data, hinted, data)
            self.assertEqual(self.watch.destinations(), {})
            self.assertEndsWell(daemon)
        self.assertEqual(self.asked(server), {"web.lab"})

    def test_forbidden(self) -> None:
        """If the proxy forbids DNS, names get addresses soon, and one line says why."""
        proxy = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(proxy.stop)
        url = f"http://{IPV4.proxy}:{proxy.port}"
        daemon = self.fakes(proxy=url, dns=[FORBIDDEN[IPV4]])
        names = (f"a{number}.lab" for number in count())
        for _ in range(3):
            self.assertQuick(
                lambda: self.assertEqual(len(self.ask(next(names), "A").data), 1), IN_VAIN
            )
        self.assertEqual(self.ask("a0.lab", "HTTPS").status, "NOERROR")
        lines = {line for line in daemon.log().splitlines() if "No server of dns" in line}
        self.assertEqual(len(lines), 1, daemon.log())
        self.assertNotIn("does not allow", daemon.log())
        self.assertEqual(self.watch.destinations(), {})

    def test_silent(self) -> None:
        """If no server answers, names get addresses after 1.5 s, and from then on at once."""
        daemon = self.fakes(proxy=self.dante().url(), dns=["10.77.2.99"])
        names = (f"a{number}.lab" for number in count())

        def answered() -> None:
            self.assertEqual(len(self.ask(next(names), "A").data), 1)

        answered()
        waitUntil(lambda: "No server of dns" in daemon.log(), PATIENCE, "the daemon says so")
        for _ in range(2):
            self.assertQuick(answered, 0.5)
        self.assertEqual(self.watch.destinations(), {})

    def test_direct(self) -> None:
        """With C{dnsVia: direct} no name is asked for: every one has an address."""
        server = self.nameServer(IPV4.world)
        self.fakes(proxy=self.dante().url(), dnsVia="direct")
        for kind in ("A", "AAAA"):
            self.assertEqual(len(self.ask("absent.lab", kind).data), 1)
        self.assertEqual([each.kind for each in self.ask("host.lab", "HTTPS").records], ["SOA"])
        self.assertRegex(self.lookUp("host"), r"STREAM host\.a\.lab\n")
        self.assertEqual(server.queries(), [])
        self.assertEqual(self.watch.destinations(), {})


engines(globals(), SearchChecks)
# Otherwise trial would run the base class, too.
del SearchChecks


class IntranetTests(RunCase):
    """Names without a dot, which only the proxy knows, in C{nanotun run}."""

    def test_intranet(self) -> None:
        """Through real proxies a name without a dot is found, whatever the machine's search list
        says, and whether or not the proxy lets DNS out."""
        self.nameServer(IPV4.world)
        web = self.webServer()
        tinyproxy = Tinyproxy(self.lab.proxy, self.directory, hosts={"intranet": [IPV4.world]})
        squid = Squid(self.lab.proxy, self.directory, hosts=f"{IPV4.world} intranet\n")
        for proxy in (tinyproxy, squid):
            self.addCleanup(proxy.stop)
        stub = "printf 'nameserver 127.0.0.53\\nsearch nowhere.lab lab\\n' >/etc/resolv.conf\n"
        for proxy in (tinyproxy, squid):
            for server in (IPV4.world, FORBIDDEN[IPV4]):
                url = f"http://{IPV4.proxy}:{proxy.port}"
                argv = self.argv(
                    ["curl", "-qsS", f"http://intranet:{web.port}/peer"], url, "--dns", server
                )
                whole = f"rm -rf etc run\n{MACHINE}{stub}exec {' '.join(argv)}\n"
                done = self.launch(["unshare", "--mount", "sh", "-c", whole]).done()
                self.assertEqual((done.status, done.out, done.err), (0, IPV4.proxyOutside, ""))
