"""
The base class of the tests of the user's rules: many names, two proxies that count, and a witness
of whatever leaves for another place.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from twisted.names import dns

from tests.e2e.firewall_case import UPLINK
from tests.e2e.lab import nameserver, tlsfront, toydns
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.proxies import Dante, withFiles
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.tlsfront import Stunnel
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, Family
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.schemes import ProgramsCase

OFFICE = (
    "corp.example",
    "www.corp.example",
    "intranet.example",
    "ads1.example.org",
    "cdn7.example.net",
    "hosts.listed.example",
    "plain.listed.example",
    "below.plain.listed.example",
)
"""The names that L{RULE} is about."""

USUAL = (
    "corp.example.org",
    "notcorp.example",
    "www.intranet.example",
    "ads.example.org",
    "cdn.example.net",
    "below.hosts.listed.example",
    "listed.example",
)
"""Names that look like those, and are none."""

RULE = {
    "to": "office",
    "domains": ["corp.example", "=intranet.example", "ads*.example.org", r"~^cdn\d"],
}
"""A rule with one entry of each form; L{RulesCase.rule} has a list in addition."""

LIST = "# Hosts and plain names.\n0.0.0.0 hosts.listed.example\nplain.listed.example\n"

SHARED = ("one.shared.example", "two.shared.example")
"""Names of one address."""

NAMES = (*OFFICE, *USUAL, SHARED[0])

HTTP, HTTPS, NOBODY = 80, 443, 7000
"""Ports of the world's servers, and one where nobody listens."""

Command = subprocess.CompletedProcess[str]


def addressOf(name: str, family: Family) -> str:
    """A name's address, which no other name has but the one that shares it."""
    number = 10 + NAMES.index(SHARED[0] if name in SHARED else name)
    return f"fd77:2::{number}" if family is IPV6 else f"10.77.2.{number}"


def answerNames(server: UDPServer, query: bytes, client: Address) -> None:
    """Act as a DNS server that knows the names."""
    message = dns.Message()
    message.fromStr(query)
    message.answer = 1
    message.additional = []
    kind = message.queries[0].type
    name = message.queries[0].name.name.decode().lower()
    if name not in (*NAMES, *SHARED):
        message.rCode = dns.ENAME
    elif kind == dns.A:
        server.sock.sendto(toydns.answer(query, addressOf(name, IPV4)), client)
        return
    elif kind == dns.AAAA:
        record = dns.Record_AAAA(addressOf(name, IPV6), 300)
        message.answers = [dns.RRHeader(name.encode(), kind, dns.IN, 300, record)]
    server.sock.sendto(message.toStr(), client)


class RulesCase(ProgramsCase):
    """
    Two proxies, C{usual} and C{office}, which look names up by themselves.

    @ivar web: the world's web server, at port L{HTTP}, and by TLS at port L{HTTPS}.
    """

    seconds = 120
    programs: tuple[str, ...] = ("openssl", "stunnel", "tcpdump")

    def setUp(self) -> None:
        """Start everything but the daemon."""
        super().setUp()
        self.lab.openDirectPath()
        addresses = [addressOf(name, family) for name in NAMES for family in FAMILIES]
        self.lab.world.ip(
            *(f"addr add {x}/64 dev down0 nodad" if ":" in x else f"addr add {x}/24 dev down0"
              for x in addresses)
        )  # fmt: skip
        hosts = {
            name: [addressOf(name, family) for family in FAMILIES] for name in (*NAMES, *SHARED)
        }
        self.usual, self.office = self.dante(hosts=hosts), self.dante(hosts=hosts, port=1082)
        self.udpServer(answerNames, IPV4, IPV4.world, nameserver.PORT)
        self.web = self.started(WebServer(self.lab.world, self.directory, HTTP))
        self.ca = tlsfront.authority(self.directory)
        names = tuple(f"DNS:{name}" for name in (*NAMES, *SHARED))
        self.shown = tlsfront.certificate(self.directory, self.ca, names)
        self.tlsFront(HTTPS, HTTP)
        self.list = Path(self.directory, "list")
        self.list.write_text(LIST)
        self.rule = {**RULE, "domains": [*RULE["domains"], f"file:{self.list}"]}

    def tlsFront(self, port: int, behind: int) -> None:
        """Offer a server of the world by TLS."""
        self.started(Stunnel(self.lab.world, self.directory, behind, self.shown, port))

    def ruled(self, *rules: object, **settings: object) -> Daemon:
        """A daemon with these rules, or with the rule about many names."""
        settings.setdefault("dnsMode", "normal")
        settings.setdefault("proxy", self.usual.url())
        return self.daemon(
            upstreams={"office": self.office.url()},
            rules=list(rules or (self.rule,)),
            dns=[IPV4.world],
            dnsVia="direct",
            dnsStateFile=str(self.directory / "fakeip.json"),
            **settings,
        )

    def witness(self) -> Tcpdump:
        """Record what leaves the app for another place than the proxies and the DNS server."""
        ours = [f"host {IPV4.proxy}", f"host {IPV6.proxy}", f"dst host {IPV4.world} and port 53"]
        what = [*ours, "arp", "icmp6", "ip6 multicast"]
        witness = Tcpdump(
            self.lab.app, self.directory, UPLINK, " and ".join(f"not ({each})" for each in what)
        )
        self.addCleanup(witness.stop)
        return witness

    def app(self, *argv: str, timeout: float = 2 * PATIENCE) -> Command:
        """Run a program of the app's whose resolver is the gateway."""
        files = {
            "/etc/resolv.conf": f"nameserver {IPV4.gateway}\n",
            "/etc/nsswitch.conf": "hosts: dns\n",
        }
        # The proxies have files of the same names.
        directory = self.directory / "app"
        directory.mkdir(exist_ok=True)
        return self.lab.app.run(withFiles(directory, list(argv), files), timeout, check=False)

    def curl(self, *options: str) -> Command:
        """Run curl."""
        unset = ("--noproxy", "*", "--cacert", str(self.ca.cert))
        return self.app("curl", "-q", "-sS", "-m", "60", *unset, *options)

    def fetch(self, name: str, family: Family, *options: str, scheme: str = "https") -> str:
        """What curl gets from the web server by a name."""
        return self.curl(family.option, *options, f"{scheme}://{name}/peer").stdout

    def hidden(self, name: str, family: Family, port: int = HTTPS) -> Sequence[str]:
        """Options of curl for a name that it asks nobody about."""
        address = addressOf(name, family)
        host = f"[{address}]" if ":" in address else address
        return ("--resolve", f"{name}:{port}:{host}")

    @contextlib.contextmanager
    def carried(self, usual: int = 0, office: int = 0) -> Iterator[None]:
        """As many connections as these are opened meanwhile, by each proxy."""
        before = [len(proxy.connects()) for proxy in (self.usual, self.office)]
        yield
        after = [len(proxy.connects()) for proxy in (self.usual, self.office)]
        self.assertEqual(
            (after[0] - before[0], after[1] - before[1]), (usual, office), "usual, office"
        )

    def by(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Meanwhile the proxy that a name belongs to opens one connection."""
        return self.carried(office=1) if name in OFFICE else self.carried(usual=1)

    def asked(self, proxy: Dante) -> int:
        """How many UDP associations a proxy was asked for."""
        text = proxy.journal.read_text(errors="replace")
        return text.count("udpassociate [:")
