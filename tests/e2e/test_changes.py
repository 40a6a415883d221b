"""
What becomes of nano0 itself while the daemon runs: renamed, moved to another network namespace,
without its addresses.  Whether anything leaks meanwhile is what tcpdump sees on the uplink.
"""

from __future__ import annotations

import signal
import time

from tests.e2e.case import engines
from tests.e2e.endings_case import SSH_PORT, WORLD, EndingCase, Senders
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import UPLINK
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.routes_case import FAMILIES, FOLLOWED

#: What must not leave by the uplink: all but the SSH sessions' packets to the world.
FORBIDDEN = f"(dst host {WORLD[0]} or dst host {WORLD[1]}) and not src port {SSH_PORT}"


class DeviceChecks(EndingCase):
    """A daemon, and programs that send all the time."""

    stackMode: str

    def running(self, **settings: object) -> Daemon:
        """A daemon; from now on the host sends, and tcpdump watches the uplink."""
        daemon = self.daemon(self.proxy, stackMode=self.stackMode, **settings)
        self.tcpdump = Tcpdump(self.lab.host, self.directory, UPLINK, FORBIDDEN)
        self.addCleanup(self.tcpdump.stop)
        self.senders = Senders(self.lab.host)
        self.addCleanup(self.senders.stop)
        self.senders.wait(20)
        self.assertThroughProxy(self.server)
        return daemon

    def carries(self) -> bool:
        """Whether both IP versions go through the proxy."""
        return all(
            self.asker(self.server, family, timeout=5) == family.proxyOutside for family in FAMILIES
        )

    def nothingLeft(self, killSwitch: bool = True) -> None:
        """
        Nothing has gone past the tunnel so far, and nothing does; without killSwitch only what
        is bound to the uplink.
        """
        self.senders.wait(50)
        allowed = set() if killSwitch else self.senders.boundPorts()
        left = {
            (source, destination)
            for destination, sources in self.tcpdump.destinations().items()
            for source in sources
            if source.rpartition(".")[2] not in allowed
        }
        self.assertEqual(left, set())

    def test_renamed(self) -> None:
        """
        A device that is renamed has its name back at once, and its flows go on; nothing
        leaks, with killSwitch and without.
        """
        for killSwitch in (True, False):
            daemon = self.running(killSwitch=killSwitch)
            there = self.lab.state()
            for _ in range(3):
                self.lab.host.ip("link set nano0 name foo")
                waitUntil(self.carries, FOLLOWED, "traffic flows")
                self.assertEqual(self.lab.state(), there)
                time.sleep(0.3)
            self.nothingLeft(killSwitch)
            self.assertIn("Somebody has renamed nano0 to foo; it has its name back.", daemon.log())
            self.assertTrue(daemon.running())
            self.senders.stop()
            self.tcpdump.stop()
            daemon.stop()
            self.assertNothingLeft()

    def test_nameTaken(self) -> None:
        """While another interface has its name nothing leaks; then traffic flows again."""
        daemon = self.running(killSwitch=True)
        # While the daemon is stopped, as it would be faster.
        daemon.send(signal.SIGSTOP)
        self.lab.host.ip("link set nano0 name foo", "link add nano0 type veth peer name other")
        daemon.send(signal.SIGCONT)
        waitUntil(lambda: "cannot have its name back" in daemon.log(), FOLLOWED, "it is said")
        self.nothingLeft()
        self.lab.host.ip("link del nano0")
        waitUntil(self.carries, FOLLOWED, "traffic flows")
        self.nothingLeft()

    def test_moved(self) -> None:
        """
        Where the device is moved to another namespace, the daemon ends with an error; with
        killSwitch nothing leaks.
        """
        daemon = self.running(killSwitch=True)
        self.lab.host.ip(f"link set nano0 netns {self.lab.neighbour.name}")
        self.assertEqual(daemon.wait(FOLLOWED), 1)
        self.assertIn("The device nano0 is in another network namespace now;", daemon.log())
        self.assertIn("The kill switch stays closed", daemon.log())
        self.nothingLeft()
        status, said = self.recover()
        self.assertEqual(status, 0, said)
        self.assertDirect(self.server)
        self.assertNothingLeft()

    def test_movedWithoutSwitch(self) -> None:
        """Without killSwitch everything is undone then, as after the device's deletion."""
        daemon = self.daemon(self.proxy, stackMode=self.stackMode)
        self.lab.host.ip(f"link set nano0 netns {self.lab.neighbour.name}")
        self.assertEqual(daemon.wait(FOLLOWED), 1)
        self.assertDirect(self.server)
        self.assertNothingLeft()

    def test_addresses(self) -> None:
        """Addresses that somebody takes away are back, in both families."""
        daemon = self.running(killSwitch=True)
        there = self.lab.host.run(["ip", "-br", "addr", "show", "nano0"]).stdout
        self.lab.host.ip("addr flush dev nano0")
        waitUntil(self.carries, FOLLOWED, "traffic flows")
        self.assertEqual(self.lab.host.run(["ip", "-br", "addr", "show", "nano0"]).stdout, there)
        self.assertIn("Somebody took addresses away from nano0; they are back.", daemon.log())
        self.nothingLeft()

    def test_lossOfIPv6(self) -> None:
        """IPv6 that is disabled on the device never leaks, and works again once it is enabled."""
        self.running(killSwitch=True)
        self.lab.host.run(["sysctl", "-qw", "net.ipv6.conf.nano0.disable_ipv6=1"])
        waitUntil(lambda: self.asker(self.server, FAMILIES[0], timeout=5), FOLLOWED, "IPv4 flows")
        self.lab.host.run(["sysctl", "-qw", "net.ipv6.conf.nano0.disable_ipv6=0"])
        waitUntil(self.carries, FOLLOWED, "traffic flows")
        self.nothingLeft()

    def test_withoutRoutes(self) -> None:
        """
        Without autoDefaultRoute the device is looked after, too, and served where somebody moves
        it.
        """
        daemon = self.daemon(self.proxy, stackMode=self.stackMode, autoDefaultRoute=False)
        self.lab.host.ip("link set nano0 name foo")
        waitUntil(lambda: "nano0" in self.lab.host.interfaces(), FOLLOWED, "it has its name back")
        self.lab.host.ip("addr flush dev nano0")
        shown = ["ip", "-br", "addr", "show", "nano0"]
        waitUntil(
            lambda: (
                "198.18.0.2" in (found := self.lab.host.run(shown).stdout)
                and "fdfe:dcba:9876::2" in found
            ),
            FOLLOWED,
            "it has its addresses back",
        )
        self.lab.host.ip(f"link set nano0 netns {self.lab.neighbour.name}")
        line = "is in another network namespace now, where nanotun serves it as before"
        waitUntil(lambda: line in daemon.log(), FOLLOWED, "the log says so")
        self.lab.neighbour.ip("link set nano0 up", "addr add 198.18.0.2/30 dev nano0")
        ping = ["ping", "-n", "-c", "1", "-W", "2", "198.18.0.1"]
        self.assertIn("1 received", self.lab.neighbour.run(ping).stdout)
        self.assertTrue(daemon.running())
        daemon.stop()


engines(globals(), DeviceChecks)
# Otherwise trial would run the base class, too.
del DeviceChecks
