"""
C{nanotun run} by an ordinary user beside a daemon that has the machine's default route.
"""

from __future__ import annotations

from tests.e2e.case import TunnelCase
from tests.e2e.lab.cell import Running, nanotun
from tests.e2e.lab.ordinary import asOrdinary
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6


class BesideTests(TunnelCase):
    """Both work."""

    def test_both(self) -> None:
        """The command reaches the world, which sees its proxy, through the daemon's tunnel."""
        proxy, web = self.dante(), self.webServer()
        self.daemon(proxy=proxy.url(), autoDefaultRoute=True, killSwitch=True)
        program = asOrdinary(self.directory)
        for family in FAMILIES:
            argv = [program, nanotun(), "run", "--proxy", proxy.url(), "--"]
            argv += ["curl", "-qsS", family.url(web.port, "/bytes/1000")]
            running = Running(self.lab.app, argv, self.directory)
            self.addCleanup(running.kill)
            done = running.done()
            self.assertEqual((done.status, len(done.out), done.err), (0, 1000, ""))
        self.assertEqual(web.peers(), [IPV4.proxyOutside, IPV6.proxyOutside])
