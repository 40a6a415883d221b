"""
The schemes without a proxy: C{direct} and C{reject}.
"""

from __future__ import annotations

import errno

from tests.e2e import schemes
from tests.e2e.case import LabCase, TunnelCase, engines
from tests.e2e.lab import udp
from tests.e2e.lab.nameserver import ask
from tests.e2e.lab.topology import FAMILIES, IPV4, Family
from tests.e2e.schemes import BEFORE_THE_DEADLINE, REFUSED_PORT
from tests.e2e.test_daemon import assertOneSentence, runToEnd


class DirectChecks(schemes.SchemeChecks):
    """No proxy: the marked sockets use the kernel's own routes."""

    noDatagrams = ""

    def proxyURL(self) -> str:
        return "direct://"

    def seenAs(self, family: Family) -> str:
        return family.app

    def test_carries(self) -> None:
        """As through a proxy, but by the host's own network."""
        self.lab.openDirectPath()
        super().test_carries()

    def test_datagrams(self) -> None:
        """Datagrams go out and return, and the servers see the host itself."""
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        for family in FAMILIES:
            server = self.udpServer(udp.echo, family)
            self.assertEchoes(self.datagrams(server.port, family.world))
            self.assertEqual({host for host, _ in server.sources()}, {family.app})


class RejectChecks(TunnelCase):
    """An upstream that refuses everything."""

    def test_reject(self) -> None:
        """Connects and datagrams are refused at once, without an error in the log; DNS works."""
        web = self.webServer()
        self.nameServer(IPV4.world)
        self.lab.openDirectPath()
        daemon = self.daemon(proxy="reject://", dns=[IPV4.world])
        for family in FAMILIES:
            self.family = family
            for port in (web.port, REFUSED_PORT):
                number, seconds = self.connectError(port)
                self.assertEqual(number, errno.ECONNREFUSED)
                self.assertLess(seconds, BEFORE_THE_DEADLINE)
            for _ in range(3):
                app = self.datagrams(443)
                app.send(b"hello")
                self.assertRaises(ConnectionRefusedError, app.recv, 100)
            self.assertEqual(ask(self.lab.app, family.gateway, "host.lab", "A").data, ["10.1.2.3"])
        self.assertEqual(web.peers(), [])
        self.assertNotIn(" error [", daemon.log())
        told = [line for line in daemon.log().splitlines() if "UDP" in line]
        self.assertEqual(len(told), 2, daemon.log())  # On standard error and in the file.
        self.assertEndsWell(daemon)


class MistakeTests(LabCase):
    """Impossible URLs are refused at the start, in one sentence."""

    def test_mistakes(self) -> None:
        """The mistake is named, and no password is repeated."""
        host = f"{IPV4.proxy}:1080"
        for number, (url, *words) in enumerate(
            (
                (f"socks6://{host}", "socks6://", *SCHEMES),
                (f"direct://{host}", "direct://"),
                (f"socks4://someone:geheim@{host}", "socks4", "password"),
                (f"socks5://:geheim@{host}", "user name"),
                (f"https://{host}?ca=relative.pem", "ca"),
                (f"https://{host}?ca=/x.pem&insecure=1", "insecure"),
                (f"http://{host}?insecure=1", "pipeline=1"),
                (f"socks4://{host}?pipeline=1", "end after the port"),
                (f"https://someone:geheim@{host}/path", "end after the port"),
                ("socks5:///" + "x" * 200, "107"),
            )
        ):
            status, output = runToEnd(self, f"mistake-{number}", {"proxy": url})
            self.assertEqual(status, 1, url)
            assertOneSentence(self, output, *words)
            self.assertNotIn("geheim", output)


SCHEMES = (
    "socks5://",
    "socks5h://",
    "socks4://",
    "socks4a://",
    "http://",
    "https://",
    "direct://",
    "reject://",
)

engines(globals(), DirectChecks)
engines(globals(), RejectChecks)
# Otherwise trial would run the base classes, too.
del DirectChecks, RejectChecks
