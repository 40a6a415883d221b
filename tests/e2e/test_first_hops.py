"""
Several upstreams under C{autoDefaultRoute}: what this machine's routes know of their proxies.
"""

from __future__ import annotations

import re

from tests.e2e.case import engines
from tests.e2e.lab.daemon import writeConfig
from tests.e2e.lab.host import HOST4, HOST6, SECOND_PROXY4
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import WebServer
from tests.e2e.routes_case import FAMILIES, FOLLOWED, RoutesCase

#: Ports of web servers, and where flows to them go.
OFFICE, SIX, DEEP = 8081, 8082, 8083

#: The kill switch's first layer, taken away.
FLUSH = "ip -4 rule flush protocol 110; ip -6 rule flush protocol 110"


class FirstHopChecks(RoutesCase):
    """Upstreams with proxies of both families, and a chain that ends in the world."""

    stackMode = "gvisor"
    seconds = 180

    def setUp(self) -> None:
        """Start the proxies, and a web server for each upstream."""
        super().setUp()
        self.usual = self.socks()
        self.office = Dante(
            self.lab.proxy,
            self.directory,
            port=1082,
            internal=(SECOND_PROXY4,),
            external=(SECOND_PROXY4, HOST6.proxyOutside),
        )
        self.addCleanup(self.office.stop)
        self.beyond = Microsocks(self.lab.world, self.directory)
        self.addCleanup(self.beyond.stop)
        self.server = self.world()
        self.servers = [
            WebServer(self.lab.world, self.directory, port) for port in (OFFICE, SIX, DEEP)
        ]
        for server in self.servers:
            self.addCleanup(server.stop)

    def several(self) -> dict[str, object]:
        """The settings of upstreams and rules."""
        return {
            "upstreams": {
                "office": f"socks5://{SECOND_PROXY4}:{self.office.port}",
                "six": f"socks5://[{HOST6.proxy}]:{self.usual.port}",
                "deep": {"proxy": f"socks5://{HOST4.world}:{self.beyond.port}", "via": "office"},
            },
            "rules": [
                {"to": "office", "ports": [OFFICE]},
                {"to": "six", "ports": [SIX]},
                {"to": "deep", "ports": [DEEP]},
            ],
        }

    def exceptions(self) -> set[str]:
        """The addresses of proxies that routing rules lead past the tunnel."""
        rules = self.lab.host.run(["sh", "-c", "ip -4 rule; ip -6 rule"]).stdout
        return set(re.findall(r"^7420:\s.* to (\S+) ", rules, re.MULTILINE))

    def assertExceptions(self, *hosts: str) -> None:
        """Soon these are the only ones."""
        waitUntil(lambda: self.exceptions() == set(hosts), FOLLOWED, f"the rules are for {hosts}")

    def assertEachItsWay(self) -> None:
        """Each web server sees the last proxy on the way to it, and the usual one the usual."""
        office, six, deep = self.servers
        self.assertThroughProxy(self.server)
        self.assertThroughProxy(six)
        self.assertEqual(self.asker(office, HOST4), SECOND_PROXY4)
        self.assertEqual(self.asker(office, HOST6), HOST6.proxyOutside)
        for family in FAMILIES:
            self.assertEqual(self.asker(deep, family), family.world)

    def reaches(self, host: str, port: int) -> bool:
        """Whether a program of this machine can connect there."""
        try:
            self.lab.host.connect((host, port), 2).close()
        except OSError:
            return False
        return True

    def assertClosed(self) -> None:
        """What the kill switch lets past are the first hops, and nothing else."""
        for host, port in (
            (HOST4.proxy, self.usual.port),
            (HOST6.proxy, self.usual.port),
            (SECOND_PROXY4, self.office.port),
        ):
            self.assertTrue(self.reaches(host, port), host)
        for family in FAMILIES:
            self.assertFalse(self.reaches(family.world, self.server.port), family.name)
        self.assertFalse(self.reaches(HOST4.world, self.beyond.port))

    def test_routes(self) -> None:
        """
        The first hops of all upstreams, and no second hop, have exceptions from the routes and
        from both layers of the kill switch: if a reload brought them, and from a start on.
        """
        settings = {"killSwitch": True, "stackMode": self.stackMode}
        daemon = self.daemon(self.usual, **settings)
        witness = self.witness()
        self.assertExceptions(HOST4.proxy)
        for several in (self.several(), {}, self.several()):
            writeConfig(daemon.directory, self.settings(self.usual, **settings, **several))
            done = self.console("reload", "--run-dir", str(self.directory / "run"))
            self.assertIn("Changed: upstreams, rules.\n", done.stdout)
            more = (HOST6.proxy, SECOND_PROXY4) if several else ()
            self.assertExceptions(HOST4.proxy, *more)
        self.assertEachItsWay()
        daemon.kill()
        self.assertClosed()
        self.lab.host.run(["sh", "-c", FLUSH])
        self.assertClosed()
        daemon = self.daemon(self.usual, **settings, **self.several())
        self.assertExceptions(HOST4.proxy, HOST6.proxy, SECOND_PROXY4)
        self.assertEachItsWay()
        self.assertNoLeak(witness)
        daemon.stop()
        self.assertNothingLeft()


engines(globals(), FirstHopChecks)
del FirstHopChecks
