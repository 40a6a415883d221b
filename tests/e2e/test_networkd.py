"""
The real systemd-networkd beside nanotun: when it sets its links up again, it removes the rules,
routes and addresses that it does not know.
"""

from __future__ import annotations

import os

from tests.e2e.endings_case import WORLD
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import GATEWAY4, GATEWAY6, HOST4, HOST6, UPLINK
from tests.e2e.lab.networkd import PROGRAMS, Networkd
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.routes_case import FAMILIES, FOLLOWED
from tests.e2e.test_long_lived import NEXT, LongLived, MovingCase


class NetworkdTests(MovingCase):
    """It manages the uplink, and by a pattern that is too wide nano0 as well."""

    def setUp(self) -> None:
        """Start it in place of the laboratory's own addresses."""
        missing = [each for each in PROGRAMS if not os.path.exists(each)]
        if missing:
            self.skipTest(f"not installed: {', '.join(missing)}")
        super().setUp()
        self.networkd = Networkd(self.lab.host, self.directory)
        self.addCleanup(self.networkd.stop)
        self.use(f"{HOST4.app}/24", f"{HOST6.app}/64")
        # It cannot take over addresses that lack a broadcast address.
        self.lab.host.run(["ip", "addr", "flush", "dev", UPLINK, "scope", "global"])
        self.networkd.start()

    def use(self, *addresses: str) -> None:
        """The uplink's addresses from now on."""
        self.networkd.configure(UPLINK, addresses, (GATEWAY4, GATEWAY6))

    def started(self) -> tuple[Daemon, list[LongLived], Tcpdump]:
        """A daemon with a kill switch, apps that send, and what has left for the world."""
        daemon = self.daemon(self.proxy, killSwitch=True)
        apps = self.apps()
        what = f"dst host {WORLD[0]} or dst host {WORLD[1]}"
        tcpdump = Tcpdump(self.lab.host, self.directory, UPLINK, what)
        self.addCleanup(tcpdump.stop)
        return daemon, apps, tcpdump

    def test_flushes(self) -> None:
        """
        Each time the daemon's rules, routes and addresses are back within the promised time,
        and nothing leaks meanwhile.
        """
        server = self.world()
        daemon, apps, tcpdump = self.started()
        for _ in range(3):
            self.networkd.reconfigure(UPLINK, "nano0")
            self.assertGoOn(apps)
            for family in FAMILIES:
                self.assertEqual(self.asker(server, family), family.proxyOutside)
        self.assertEqual(tcpdump.destinations(), {})
        self.assertIn("had been taken away; they are back.", daemon.log())
        self.assertIn("Somebody took addresses away from nano0; they are back.", daemon.log())

    def test_otherAddress(self) -> None:
        """With other addresses for the uplink, long-lived sockets go on, and nothing leaks."""
        _, apps, tcpdump = self.started()
        self.use(NEXT["IPv4"], NEXT["IPv6"])
        self.networkd.reconfigure(UPLINK)

        def replaced() -> bool:
            shown = self.lab.host.run(["ip", "addr", "show", UPLINK]).stdout
            return NEXT["IPv4"] in shown and f"{HOST4.app}/" not in shown

        waitUntil(replaced, FOLLOWED, "the address is another one")
        self.assertGoOn(apps)
        self.assertEqual(tcpdump.destinations(), {})
