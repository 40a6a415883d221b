"""Tests of L{nanotun.daemon.vpnwatch}."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.daemon.vpnwatch import Surroundings, VpnWatch, mainRoutes
from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.linux.network import TABLE_MAIN, KernelRoute, Link
from nanotun.owners.values import Process
from nanotun.policy.judge import Carrier
from nanotun.testing.owners import FakeProcesses

TUNV = Link(2, "tunv", "tun", 1500, True)
FLOW = Flow(1, Protocol.UDP, Endpoint("198.18.0.2", 5), Endpoint("45.45.45.2", 1194))


class FakeTunnel:
    """
    What L{nanotun.linux.fulltunnel.FullTunnel} says.

    @ivar link: the VPN.
    @ivar forgotten: how often it was told to forget.
    """

    def __init__(self) -> None:
        self.link: Link | None = None
        self.forgotten = 0

    def forget(self) -> None:
        """Count it."""
        self.forgotten += 1

    def current(self) -> Link | None:
        """The VPN."""
        return self.link

    def past(self, host: str) -> Link | None:
        """The VPN, for its server."""
        return self.link if host == "45.45.45.2" else None


class FakeTunnelOwners:
    """
    Those with the VPN's device.

    @ivar found: what L{holders} returns.
    @ivar owner: what L{ownerOf} returns.
    """

    def __init__(self) -> None:
        self.found: Deferred[list[Process]] = succeed([])
        self.owner: Any = None

    def holders(self, device: str) -> Deferred[list[Process]]:
        """See the real ones."""
        return self.found

    def ownerOf(self, flow: Flow, device: str) -> Any:
        """See the real ones."""
        return self.owner


class VpnWatchTests(SynchronousTestCase):
    """L{VpnWatch}."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.tunnel = FakeTunnel()
        self.owners = FakeTunnelOwners()
        self.marks: list[int] = []
        self.routed = self.below = True
        self.silent = False
        self.forgotten: list[int] = []
        self.watch = VpnWatch(
            self.tunnel,  # type: ignore[arg-type]
            self.owners,  # type: ignore[arg-type]
            lambda: self.forgotten.append(1),
            Surroundings(lambda: self.marks, self.routes),
            "nano0",
        )
        self.events: list[Any] = []
        self.watch._log = Logger(observer=self.events.append)  # type: ignore[misc, arg-type]
        processes = FakeProcesses()
        processes.spawn(123, "/usr/sbin/openvpn")
        self.openvpn = processes.table[123]

    def routes(self) -> list[KernelRoute]:
        """The routes that are left of the VPN's."""
        if self.silent:
            raise OSError(12, "no memory")
        found = ["0.0.0.0/0"] * self.below + ["45.45.45.2/32"] * self.routed
        return [KernelRoute(TABLE_MAIN, ip_network(each), "up0") for each in found]

    def said(self) -> list[str]:
        """What was logged since the last call."""
        events, self.events[:] = list(self.events), []
        return [f"{event['log_level'].name} {formatEvent(event)}" for event in events]

    def appears(self, link: Link = TUNV) -> list[str]:
        """A VPN takes the default route; returns what was logged."""
        self.tunnel.link = link
        self.watch.look()
        return self.said()

    def test_process(self) -> None:
        """A VPN whose process has a route to its server is named, once, and so is its end."""
        self.owners.found = succeed([self.openvpn])
        self.assertEqual(
            self.appears(),
            [
                "info The VPN tunv has the default route, so nanotun reaches its proxy through it; "
                "packets of openvpn (pid 123) itself go past nanotun."
            ],
        )
        self.watch.look()
        self.assertEqual(self.said(), [])
        self.tunnel.link = None
        self.watch.look()
        self.assertEqual(self.said(), ["info The VPN tunv no longer has the default route."])

    def test_mark(self) -> None:
        """A VPN with a mark is recognised by that."""
        self.marks = [0xCA6C]
        self.assertEqual(
            self.appears(TUNV._replace(kind="wireguard")),
            [
                "info The VPN tunv has the default route, so nanotun reaches its proxy through it; "
                "packets with its mark 0xca6c go past nanotun."
            ],
        )

    def test_unknown(self) -> None:
        """For any other VPN the line that is to be written is in the log."""
        self.routed = False
        self.owners.found = succeed([self.openvpn])
        self.assertEqual(
            self.appears(),
            [
                "warn The VPN tunv has the default route, and nanotun cannot tell its own packets "
                "from others: if nothing gets through, write 'excludedProcesses: [openvpn]' into "
                "the configuration."
            ],
        )
        for link in (TUNV._replace(name="tunw"), Link(3, "wg0", "wireguard", 1500, True)):
            self.owners.found = succeed([])
            (line,) = self.appears(link)
            self.assertTrue(line.startswith(f"warn The VPN {link.name} has"), line)
            self.assertIn("its server into excludedIPs, or its program into", line)

    def test_uplink(self) -> None:
        """A tunnel that is the uplink itself, such as PPPoE, is no VPN, and nothing is said."""
        self.routed = self.below = False
        ppp = Link(3, "ppp0", "ppp", 1500, True)
        self.assertEqual(self.appears(ppp), [])
        self.below = True
        self.assertEqual(len(self.appears()), 1)
        self.below = False
        self.assertEqual(self.appears(ppp), ["info The VPN tunv no longer has the default route."])

    def test_silent(self) -> None:
        """A VPN that the kernel has told nothing of is described at the next look."""
        self.silent = True
        self.tunnel.link = TUNV
        self.assertRaises(OSError, self.watch.look)
        self.silent = False
        self.watch.look()
        self.assertEqual(len(self.said()), 1)

    def test_gone(self) -> None:
        """Nothing is said of a VPN that has gone while its process was looked for."""
        late: Deferred[list[Process]] = Deferred()
        self.owners.found = late
        self.assertEqual(self.appears(), [])
        self.tunnel.link = None
        self.watch.look()
        self.said()
        late.callback([self.openvpn])
        self.assertEqual(self.said(), [])

    def test_forgets(self) -> None:
        """After a change what was known of routes is forgotten."""
        self.watch.forget()
        self.assertEqual((self.forgotten, self.tunnel.forgotten), ([1], 1))

    def test_carrier(self) -> None:
        """A flow to the VPN's server is asked about, and only if the VPN has a process."""
        owner = Owner(123, 0, "openvpn")
        self.tunnel.link = TUNV
        self.assertIsNone(self.watch.carrier(FLOW))
        self.owners.owner = owner
        self.assertEqual(self.watch.carrier(FLOW), Carrier(owner, "tunv"))
        for answer, expected in ((owner, Carrier(owner, "tunv")), (None, None)):
            self.owners.owner = succeed(answer)
            found = self.watch.carrier(FLOW)
            assert isinstance(found, Deferred)
            self.assertEqual(self.successResultOf(found), expected)
        other = FLOW._replace(destination=Endpoint("45.45.45.3", 1194))
        self.assertIsNone(self.watch.carrier(other))
        self.tunnel.link = TUNV._replace(kind="wireguard")
        self.assertIsNone(self.watch.carrier(FLOW))

    def test_past(self) -> None:
        """A VPN that has a process may send what goes to its server, and nothing else."""
        self.assertFalse(self.watch.isPast("45.45.45.2"))
        self.tunnel.link = TUNV
        self.assertTrue(self.watch.isPast("45.45.45.2"))
        self.assertFalse(self.watch.isPast("45.45.45.3"))
        self.tunnel.link = TUNV._replace(kind="wireguard")
        self.assertFalse(self.watch.isPast("45.45.45.2"))

    def test_kernel(self) -> None:
        """This machine's routes can be read."""
        self.assertIsInstance(mainRoutes(), tuple)
