"""
Another VPN that takes the whole traffic, beside C{autoDefaultRoute}.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from twisted.trial.unittest import SkipTest

from tests.e2e.case import engines
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import HOST4, HOST6, UPLINK
from tests.e2e.lab.process import PATIENCE, Child, LabError, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import Family
from tests.e2e.lab.vpn import CLIENT4, DEVICE, MARK, MASQUERADE, PORT, SERVER4, Vpn
from tests.e2e.routes_case import FAMILIES, FOLLOWED, RoutesCase

HIDE_NFT = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
    'mount --bind /dev/null $(command -v nft); exec "$@"',
    "sh",
)


class VpnCase(RoutesCase):
    """
    A VPN, and what must hold with it.

    @ivar server: a web server on the machine that is the VPN's server, too.
    """

    seconds = 150
    stackMode = "gvisor"

    def setUp(self) -> None:
        """Start a web server."""
        super().setUp()
        self.server = self.world()
        self.proxy = self.socks()

    def vpn(self, outer: Family = HOST4, speaks: bool = False) -> Vpn:
        """The VPN's server, and its client, which is still to be started."""
        vpn = Vpn(self.lab, self.directory, outer, speaks)
        self.addCleanup(vpn.stop)
        return vpn

    def start(self, **settings: object) -> Daemon:
        """Start the daemon."""
        return self.daemon(self.proxy, stackMode=self.stackMode, **settings)

    def inside(self, timeout: float = 20) -> str:
        """Our address in the VPN's network; empty if there is no answer."""
        url = f"http://{SERVER4}:{self.server.port}/peer"
        try:
            return curl.get(self.lab.host, url, timeout=timeout)
        except LabError:
            return ""

    def assertCarries(self) -> None:
        """
        The Internet is reached through the proxy, the proxy through the VPN, and the VPN's network
        directly: nothing but the VPN's packets leaves by the uplink.
        """
        for family in FAMILIES:
            waitUntil(
                lambda family=family: (  # type: ignore[misc]
                    self.asker(self.server, family, timeout=5) == family.proxyOutside
                ),
                FOLLOWED,
                f"{family.name} goes through the proxy",
            )
        self.assertEqual(self.inside(), CLIENT4)
        witness = Tcpdump(self.lab.host, self.directory, UPLINK, "tcp", "or", "udp")
        self.addCleanup(witness.stop)
        self.assertThroughProxy(self.server)
        self.assertEqual(self.inside(), CLIENT4)
        worlds = {f"{family.world}.{PORT}" for family in FAMILIES}
        left = witness.destinations()
        self.assertTrue(left)
        self.assertLessEqual(set(left), worlds)
        witness.stop()

    def assertKept(self, change: Callable[[], None]) -> None:
        """
        While C{change} is made, and after it, no packet gets to the world but by the proxy or as
        one of the VPN's own, and the world never sees the VPN's address.
        """
        witness = Tcpdump(
            self.lab.host, self.directory, UPLINK, "tcp", "port", str(self.server.port)
        )
        inner = Tcpdump(self.lab.world, self.directory, DEVICE)
        self.addCleanup(witness.stop)
        self.addCleanup(inner.stop)
        loop = "while :; do curl -s -m 0.3 $1; curl -s -m 0.3 $2; done"
        urls = [family.url(self.server.port, "/peer") for family in FAMILIES]
        argv = self.lab.host.argv(["sh", "-c", loop, "sh", *urls])
        child = Child(argv, self.directory / f"peers-{self.id()}.log")
        self.addCleanup(child.stop)
        waitUntil(lambda: child.output(), PATIENCE, "an app asks")
        change()
        self.assertCarries()
        child.stop(9)
        self.assertEqual(witness.destinations(), {})
        for family in FAMILIES:
            self.assertNotIn(family.app, child.output())
        self.assertNotIn(CLIENT4, child.output())
        sent = [source for sources in inner.destinations().values() for source in sources]
        self.assertFalse([each for each in sent if each.startswith("198.18.")])


class VpnChecks(VpnCase):
    """Both orders, and both families outside."""

    def test_openvpnFirst(self) -> None:
        """A VPN without a mark that is there before nanotun is told by its process."""
        vpn = self.vpn()
        vpn.likeOpenvpn()
        daemon = self.start(killSwitch=True)
        self.assertCarries()
        self.assertIn(f"The VPN {DEVICE} has the default route, so", daemon.log())
        self.assertIn("itself go past nanotun", daemon.log())
        vpn.disconnect()
        waitUntil(
            lambda: all(
                self.asker(self.server, family, timeout=5) == family.proxyOutside
                for family in FAMILIES
            ),
            FOLLOWED,
            "traffic flows without the VPN",
        )
        gone = f"The VPN {DEVICE} no longer has the default route."
        waitUntil(lambda: gone in daemon.log(), FOLLOWED, "its end is in the log")

    def test_openvpnLater(self) -> None:
        """A VPN without a mark that comes later is told by its process; nothing leaks meanwhile."""
        vpn = self.vpn()
        self.start(killSwitch=True)
        self.assertKept(vpn.likeOpenvpn)

    def test_wgQuickFirst(self) -> None:
        """A VPN with a mark that is there before nanotun is told by that."""
        vpn = self.vpn(HOST6)
        vpn.likeWgQuick()
        daemon = self.start(killSwitch=True)
        self.assertCarries()
        self.assertIn(f"packets with its mark {MARK:#x} go past nanotun", daemon.log())
        daemon.stop()
        # Everything leaves by the VPN again.
        self.assertEqual(self.asker(self.server, HOST4), CLIENT4)

    def test_wgQuickLater(self) -> None:
        """
        Rules that the kernel puts before nanotun's do not take the traffic away from it, and
        nanotun's go back to their places when the others are gone.
        """
        vpn = self.vpn()
        daemon = self.start(killSwitch=True)
        self.assertKept(vpn.likeWgQuick)
        self.assertIn("before them again, from 7200 on", daemon.log())
        vpn.disconnect()
        rules = ["ip", "rule", "show", "pref", "7400"]
        waitUntil(lambda: self.lab.host.run(rules).stdout, FOLLOWED, "the rules are back")
        waitUntil(lambda: self.asker(self.server, HOST4), FOLLOWED, "traffic flows without the VPN")
        daemon.stop()
        self.assertNotIn("proto 110", self.lab.host.run(["ip", "rule"]).stdout)


class VpnTests(VpnCase):
    """Once is enough for these."""

    def test_openvpn6(self) -> None:
        """A server that is reached over IPv6 makes no difference, in either order."""
        vpn = self.vpn(HOST6)
        daemon = self.start()
        vpn.likeOpenvpn()
        self.assertCarries()
        daemon.stop()
        self.start()
        self.assertCarries()

    def test_serverSpeaksFirst(self) -> None:
        """The mark survives where conntrack takes the VPN's server for the one who began."""
        vpn = self.vpn(speaks=True)
        self.start(killSwitch=True)
        self.lab.world.run(["ping", "-c", "1", "-W", "1", CLIENT4], check=False)
        vpn.likeWgQuick()
        self.assertCarries()

    def test_strictReversePath(self) -> None:
        """Strict reverse path filters drop no answer of the VPN's server."""
        names = ("all", "default", UPLINK)
        self.lab.host.run(
            ["sysctl", "-q", "-w", *(f"net.ipv4.conf.{name}.rp_filter=1" for name in names)]
        )
        for start in (Vpn.likeOpenvpn, Vpn.likeWgQuick):
            vpn = self.vpn()
            daemon = self.start()
            start(vpn)
            self.assertCarries()
            daemon.stop()
            vpn.disconnect()
            vpn.stop()
            self.lab.world.nft("delete table inet vpn")

    def test_iptables(self) -> None:
        """Without nft, iptables lets the same past."""
        vpn = self.vpn()
        self.daemonIn([*HIDE_NFT], self.proxy, killSwitch=True)
        self.assertKept(vpn.likeWgQuick)
        self.assertIn(f"{MARK:#x}", self.lab.host.run(["iptables-save"]).stdout)

    def test_crash(self) -> None:
        """A kill switch that a crash has left lets the VPN's own packets out, and no others."""
        vpn = self.vpn()
        vpn.likeWgQuick()
        self.start(killSwitch=True).kill()
        self.assertEqual(self.inside(), CLIENT4)
        for family in FAMILIES:
            self.assertEqual(self.asker(self.server, family, timeout=1), "")

    def test_crashElsewhere(self) -> None:
        """
        A kill switch holds if the daemon is killed while its rules are elsewhere; the next start
        takes over what is left, and recover takes it back.
        """
        vpn = self.vpn()

        def crash() -> None:
            daemon = self.start(killSwitch=True)
            vpn.likeWgQuick()
            moved = "before them again, from 7200 on"
            waitUntil(lambda: moved in daemon.log(), FOLLOWED, "the rules move")
            daemon.kill()
            closed()
            vpn.disconnect()
            closed()

        def closed() -> None:
            for family in FAMILIES:
                self.assertEqual(self.asker(self.server, family, timeout=1), "")

        crash()
        daemon = self.start(killSwitch=True)
        self.assertThroughProxy(self.server)
        self.assertNotIn("7200:", self.lab.host.run(["ip", "rule"]).stdout)
        daemon.stop()
        crash()
        status, said = self.recover()
        self.assertEqual(status, 0, said)
        self.assertNothingLeft()
        self.assertDirect(self.server)

    def test_openvpn(self) -> None:
        """The real OpenVPN, in either order."""
        if shutil.which("openvpn", path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise SkipTest("openvpn is not installed")
        key = str(self.directory / "key")
        self.lab.world.run(["openvpn", "--genkey", "secret", key])
        common = (
            *("openvpn", "--dev", DEVICE, "--dev-type", "tun", "--secret", key, "--proto", "udp"),
            *("--cipher", "AES-256-CBC"),
        )
        ends = ("--ifconfig", SERVER4, CLIENT4, "--port", str(PORT))
        server = Child(self.lab.world.argv([*common, *ends]), self.directory / "openvpn-server.log")
        self.addCleanup(server.stop)
        self.lab.world.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
        self.lab.world.nft(MASQUERADE)
        for first in (True, False):
            if not first:
                daemon = self.start()
            client = Child(
                self.lab.host.argv(
                    [
                        *common,
                        *("--ifconfig", CLIENT4, SERVER4, "--remote", HOST4.world, str(PORT)),
                        *("--redirect-gateway", "def1"),
                    ]
                ),
                self.directory / f"openvpn-{first}.log",
            )
            self.addCleanup(client.stop)
            if first:
                waitUntil(lambda: self.inside() == CLIENT4, PATIENCE, "the VPN is up")
                daemon = self.start()
            waitUntil(lambda: self.inside() == CLIENT4, PATIENCE, "the VPN's network is reached")
            self.assertEqual(self.asker(self.server, HOST4), HOST4.proxyOutside)
            client.stop()
            daemon.stop()


engines(globals(), VpnChecks)
# Otherwise trial would run the base class, too.
del VpnChecks
