"""
A proxy in a container of this machine: what it sends goes past the tunnel and nothing else
does, however its port is reached.
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.case import engines
from tests.e2e.lab import curl
from tests.e2e.lab.container import (
    BRIDGE,
    OUTSIDE,
    PROXY_PORT,
    Bridge,
    Helper,
    ProxyContainer,
    address,
)
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.host import DNS4, HOST4, HOST6
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError, waitUntil
from tests.e2e.lab.topology import Family
from tests.e2e.routes_case import FAMILIES, RoutesCase

PUBLISHED = 1090

#: Seconds in which a container that was started again is found.
FOUND = 60.0

_OUTSIDE = {HOST4: OUTSIDE[4], HOST6: OUTSIDE[6]}


class ContainerChecks(RoutesCase):
    """A bridge with the proxy's container and another one; both have IPv4 and IPv6."""

    stackMode = "gvisor"

    def setUp(self) -> None:
        """Make the containers."""
        super().setUp()
        self.bridge = Bridge(self.lab)
        self.proxy = ProxyContainer(self.bridge, self.directory)
        self.addCleanup(self.proxy.stop)
        self.near = self.bridge.container(3)
        self.before = self.lab.state()
        self.server = self.world()

    def settings(self, server: Any, **settings: object) -> dict[str, object]:
        """The settings of a daemon."""
        return {
            "autoDefaultRoute": True,
            "stackMode": self.stackMode,
            "dns": DNS4,
            "runDir": str(self.directory / "run"),
            **settings,
        }

    def start(self, proxy: str, **settings: object) -> Daemon:
        """Start a daemon with this proxy."""
        nobody: Any = None
        return self.daemon(nobody, proxy=proxy, **settings)

    def publish(self, version: int = 4) -> Helper:
        """Publish the proxy's port on the loopback, as docker-proxy does."""
        helper = Helper(self.proxy, self.directory, version, PUBLISHED)
        self.addCleanup(helper.stop)
        return helper

    def ask(self, space: Namespace, family: Family, timeout: float = PATIENCE) -> str:
        """Who the world thinks that a namespace is; empty if there is no answer."""
        try:
            return curl.get(space, family.url(self.server.port, "/peer"), timeout=timeout)
        except LabError:
            return ""

    def flows(self) -> dict[str, int]:
        """What C{status} says of the flows."""
        asked = self.console("status", "--json", "--run-dir", str(self.directory / "run"))
        found: dict[str, int] = json.loads(asked.stdout)["engine"]["flows"]
        return found

    def passed(self) -> set[str]:
        """The sources that routing rules let past."""
        text = "".join(
            self.lab.host.run(["ip", f"-{version}", "rule", "show", "pref", "7421"]).stdout
            for version in (4, 6)
        )
        return {line.split()[2] for line in text.splitlines()}

    def assertProxied(self, space: Namespace, *families: Family) -> None:
        """A namespace reaches the world through the proxy, and not past it."""
        for family in families or FAMILIES:
            self.assertEqual(self.ask(space, family), _OUTSIDE[family], family.name)

    def assertEachOnce(self, times: int = 5) -> None:
        """
        Each connection of the host is one flow, and nothing moves afterwards.  Of a container's
        two addresses one is known at once, and the other one after its first flow, which is no
        more than one more.
        """
        number = self.proxy.number
        both = {address(number, version) for version in (4, 6)}
        if self.passed() != both:
            before = self.flows()["total"]
            for family in FAMILIES:
                self.assertNotEqual(self.ask(self.lab.host, family), "")
            self.assertLessEqual(self.flows()["total"] - before, 3)
            waitUntil(lambda: self.passed() == both, FOUND, "both addresses are known")
        before = self.flows()["total"]
        for _ in range(times):
            self.assertProxied(self.lab.host)
        waitUntil(lambda: not self.flows()["open"], PATIENCE, "all flows end")
        flows = self.flows()
        self.assertEqual((flows["total"] - before, flows["refused"]), (times * 2, 0))
        self.assertEqual(flows["deciding"], 0)

    def assertEndsClean(self, daemon: Daemon) -> None:
        """After the stop everything is as before."""
        daemon.stop()
        self.assertNothingLeft()
        self.assertProxied(self.proxy.space)

    def test_ownAddress(self) -> None:
        """
        A proxy at a container's own address is asked once for each flow, whichever of its
        addresses is named, and whichever IP version it then uses.
        """
        for version, host in ((4, address(2, 4)), (6, f"[{address(2, 6)}]")):
            daemon = self.start(f"socks5://{host}:{PROXY_PORT}")
            self.assertIn(address(2, version), self.passed())
            self.assertEachOnce()
            self.assertProxied(self.near)
            self.assertEqual(self.passed(), {address(2, 4), address(2, 6)})
            self.assertEndsClean(daemon)

    def test_published(self) -> None:
        """The container behind a published port is found before the first flow."""
        for version, host in ((4, "127.0.0.1"), (6, "[::1]")):
            helper = self.publish(version)
            daemon = self.start(f"socks5://{host}:{PUBLISHED}")
            self.assertIn(f"passes connections on to {address(2, version)},", daemon.log())
            self.assertIn(address(2, version), self.passed())
            self.assertEachOnce()
            self.assertProxied(self.near)
            self.assertEndsClean(daemon)
            helper.stop()

    def test_nat(self) -> None:
        """A port that the firewall alone publishes, at the machine's own addresses."""
        for version, family in ((4, HOST4), (6, HOST6)):
            host = f"[{family.app}]" if version == 6 else family.app
            there = f"[{address(2, 6)}]" if version == 6 else address(2, 4)
            self.bridge.nat(
                version,
                f"-A OUTPUT -p tcp --dport {PUBLISHED} -m addrtype --dst-type LOCAL -j DNAT "
                f"--to-destination {there}:{PROXY_PORT}",
            )
            self.before = self.lab.state()
            daemon = self.start(f"socks5://{host}:{PUBLISHED}")
            self.assertIn(f"passes connections on to {address(2, version)},", daemon.log())
            self.assertEachOnce()
            self.assertProxied(self.near)
            self.assertEndsClean(daemon)

    def test_killSwitch(self) -> None:
        """
        With a kill switch the proxy gets out, be the LAN proxied or reverse path filters strict,
        and nothing else leaves, also while the routing rules are gone.
        """
        self.publish()
        for lan, strict in (("proxy", 0), ("direct", 1)):
            filters = ("all", "default", BRIDGE, "up0")
            settings = (f"net.ipv4.conf.{each}.rp_filter={strict}" for each in filters)
            self.lab.host.run(["sysctl", "-q", "-w", *settings])
            self.before = self.lab.state()
            self.switched(lan)

    def switched(self, lan: str) -> None:
        """One part of L{test_killSwitch}."""
        daemon = self.start(f"socks5://127.0.0.1:{PUBLISHED}", killSwitch=True, lan=lan)
        self.assertEachOnce()
        witness = self.witness()
        self.assertEachOnce()
        self.assertProxied(self.near)
        seen = witness.to(HOST4.world, HOST6.world)
        self.assertEqual({each.source for each in seen}, set(OUTSIDE.values()))
        # The rules' lines in the firewall hold without the rules.
        for version in (4, 6):
            self.lab.host.run(["ip", f"-{version}", "rule", "flush", "protocol", "110"])
            self.ask(self.near, HOST4 if version == 4 else HOST6, 5)
        seen = witness.to(HOST4.world, HOST6.world)
        self.assertEqual({each.source for each in seen}, set(OUTSIDE.values()))
        self.assertEndsClean(daemon)

    def test_dns(self) -> None:
        """
        With dnsVia: proxy the relay's queries reach their server, and do not come back by the
        proxy that carries them.
        """
        self.nameServer(DNS4)
        self.publish()
        daemon = self.start(f"socks5://127.0.0.1:{PUBLISHED}", dnsVia="proxy")
        asked = ["kdig", "+short", "+timeout=30", "+retry=0", "host.lab", "@8.8.8.8"]
        for space in (self.lab.host, self.near):
            self.assertEqual(space.run(asked, check=False).stdout.strip(), "10.1.2.3")
        self.assertEndsClean(daemon)

    def test_restarted(self) -> None:
        """
        A container that comes back with another address is found, and who has its old address
        now is proxied.
        """
        helper = self.publish()
        daemon = self.start(f"socks5://127.0.0.1:{PUBLISHED}")
        self.assertEachOnce()
        helper.stop()
        self.proxy.restart(4)
        for version in (4, 6):
            source = f"-s {address(2, version)} -o up0 -j SNAT --to-source {OUTSIDE[version]}"
            self.bridge.nat(version, f"-D POSTROUTING {source}")
        self.bridge.give(self.near, 2)
        self.publish()
        waitUntil(
            lambda: address(4, 4) in self.passed() and address(2, 4) not in self.passed(),
            FOUND,
            "the rules follow the container",
        )
        waitUntil(lambda: self.ask(self.lab.host, HOST4, 5), FOUND, "the proxy is used again")
        self.assertEachOnce()
        self.assertProxied(self.near)
        daemon.stop()

    def test_later(self) -> None:
        """A port that is published after nanotun's start is found as well."""
        daemon = self.start(f"socks5://127.0.0.1:{PUBLISHED}")
        self.assertEqual(self.passed(), set())
        self.publish()
        waitUntil(lambda: address(2, 4) in self.passed(), FOUND, "the container is found")
        self.assertEachOnce()
        self.assertEndsClean(daemon)


engines(globals(), ContainerChecks)
del ContainerChecks
