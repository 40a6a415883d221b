"""
Tests for L{nanotun.routing.host}, L{nanotun.routing.ssh} and
L{nanotun.routing.exceptions}.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import isAddress
from nanotun.config.file import Given
from nanotun.config.selectors import selectors
from nanotun.config.settings import Settings, makeSettings
from nanotun.errors import ConfigError, RoutingError
from nanotun.linux.users import uidOf
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.host import (
    AskedServers,
    HostReader,
    chosenUsers,
    excludedUsers,
    lookUp,
    proxyHosts,
    wishesOf,
)
from nanotun.routing.netlink import CachedRoutes
from nanotun.routing.ssh import sessionPort, sshPorts
from nanotun.routing.values import Earlier, Interface, Mark, Others, Wishes
from tests.unit.routing.routing_cases import TUNNEL, UPLINK, RoutingCase


def settings(**values: object) -> Settings:
    """Settings with these values."""
    given = {"proxy": "socks5://proxy.example:1080", **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, None)


class WishesTests(SynchronousTestCase):
    """Tests for L{wishesOf} and L{proxyHosts}."""

    def test_wishes(self) -> None:
        """Wishes follow the settings, with users by number and by name, and no other selectors."""
        found = wishesOf(
            settings(
                excludedProcesses=["uid:7", "uid:nobody", "uid:unheard", "curl", "pid:3"],
                lan="proxy",
                ipv6="block",
                killSwitch=True,
            ),
            lambda text: uidOf(text, {"nobody": 65534}.__getitem__),
        )
        self.assertEqual(found, Wishes("nano0", "proxy", "block", True, (7, 65534)))

    def test_users(self) -> None:
        """Users are numbers, each once; unknown ones are returned separately."""
        chosen = selectors("uid:7,uid:ann,uid:007,uid:nobody.here,uid:4294967295,curl")
        found = excludedUsers(chosen, lambda text: uidOf(text, {"ann": 12}.__getitem__))
        self.assertEqual(found, ((7, 12), ("nobody.here", "4294967295")))
        self.assertEqual(excludedUsers(selectors("uid:root")), ((0,), ()))

    def test_only(self) -> None:
        """The chosen users are numbers, too, and a unit or a control group is marked."""
        for only, uids, groups in (
            ([], (), False),
            (["uid:7", "uid:root"], (7, 0), False),
            (["unit:x.service"], (), True),
            (["uid:7", "cgroup:/games"], (7,), True),
        ):
            found = wishesOf(settings(onlyProcesses=only))
            self.assertEqual((found.onlyUids, found.onlyGroups), (uids, groups))
            self.assertEqual(found.only, bool(only))

    def test_unknownUser(self) -> None:
        """A user to choose that does not exist is an error: its packets would leave unnoticed."""
        error = self.assertRaises(
            ConfigError, wishesOf, settings(onlyProcesses=["uid:7", "uid:unheard.of"])
        )
        self.assertEqual(
            str(error),
            "onlyProcesses names uid:unheard.of, but this machine has no user unheard.of; write "
            "another name, or a number.",
        )
        self.assertRaises(ConfigError, chosenUsers, selectors("uid:4294967295"))
        near = self.assertRaises(ConfigError, chosenUsers, selectors("uid:roott"))
        self.assertIn("no user roott; did you mean root?", str(near))

    def test_hosts(self) -> None:
        """The hosts of all proxies are returned once each; a unix socket has none."""
        found = proxyHosts(
            settings(
                proxy=[
                    "socks5://Proxy.Example:1080",
                    "http://proxy.example",
                    "socks5://[2001:db8::1]:1",
                    "socks5:///run/proxy.sock",
                ]
            )
        )
        self.assertEqual(found, ("proxy.example", "2001:db8::1"))
        self.assertEqual(proxyHosts(settings(proxy="direct://")), ())

    def test_firstHops(self) -> None:
        """So are those of upstreams by name, but not of proxies that are behind another."""
        upstreams = {
            "office": "socks5://192.0.2.1",
            "deep": {"proxy": ["https://c.example", "http://192.0.2.2"], "via": "office"},
        }
        self.assertEqual(proxyHosts(settings(upstreams=upstreams)), ("proxy.example", "192.0.2.1"))
        found = proxyHosts(settings(upstreams=upstreams, proxyVia="office"))
        self.assertEqual(found, ("192.0.2.1",))

    def test_addresses(self) -> None:
        """Addresses are recognized, and looked up without a server."""
        self.assertTrue(isAddress("::1"))
        self.assertFalse(isAddress("proxy.example"))
        self.assertEqual(lookUp("192.0.2.1"), ["192.0.2.1"])
        self.assertEqual(lookUp("x" * 64 + ".example"), [])


class ReaderTests(RoutingCase):
    """Tests for L{HostReader}."""

    def read(self, before: dict[str, str] | None = None, killSwitch: bool = False) -> Any:
        """Read the machine's state."""
        cached = CachedRoutes(self.kernel)
        wishes = Wishes("nano0", killSwitch=killSwitch)
        reader = HostReader(
            cached,
            wishes,
            lambda: ("192.0.2.53",),
            str(self.root),
            lambda host: host in self.own,
            lambda hosts: self.relatives if hosts else (),
        )
        return reader.read(("9.9.9.9",), (22,), before or {})

    def setUp(self) -> None:
        """A machine that has none of the addresses."""
        super().setUp()
        self.own: set[str] = set()
        self.relatives: tuple[str, ...] = ()

    def test_servers(self) -> None:
        """
        By which interfaces servers answer is asked of all servers, those of C{dnsRules} too, and
        after a change of the settings of the new ones.
        """
        rules = [{"domains": "corp.example", "servers": "10.0.0.53"}]
        servers = AskedServers(settings(dns="192.0.2.53", dnsRules=rules))
        reader = HostReader(self.kernel, Wishes("nano0"), servers.hosts, str(self.root))
        rules[0]["servers"] = "10.0.0.54"
        other = settings(dns="192.0.2.53", dnsRules=rules)
        for changed, host in ((False, "10.0.0.53"), (True, "10.0.0.54")):
            if changed:
                self.assertTrue(servers.follow(other))
                self.assertFalse(servers.follow(other))
            reader.read(("9.9.9.9",), (22,), {})
            asked = self.kernel.destinations
            self.assertEqual(asked[:3], ("9.9.9.9", "192.0.2.53", host))

    def test_systemServers(self) -> None:
        """So do those of this machine's own that are asked at the moment."""
        hosts = ["192.168.1.1"]
        servers = AskedServers(settings(dns="192.0.2.53"), lambda: tuple(hosts))
        self.assertEqual(servers.hosts(), ("192.0.2.53", "192.168.1.1"))
        hosts.append("10.8.0.1")
        self.assertEqual(servers.hosts(), ("192.0.2.53", "192.168.1.1", "10.8.0.1"))

    def test_behind(self) -> None:
        """A proxy may be behind this machine unless its address is this machine's own."""
        self.assertEqual(self.read().behind, ("9.9.9.9",))
        self.relatives = ("2001:db8::9", "9.9.9.9")
        self.assertEqual(self.read().behind, ("9.9.9.9", "2001:db8::9"))
        self.own.add("9.9.9.9")
        self.assertEqual(self.read().behind, ())

    def test_host(self) -> None:
        """The tunnel is no uplink, and IPv6 is used if there is an address or a gateway."""
        self.sysctl("up0").write_text("1\n")
        self.sysctl("nano0").write_text("2\n")
        host = self.read()
        self.assertEqual(host.interfaces, (UPLINK._replace(rpFilter=1),))
        self.assertEqual((host.rpFilterAll, host.rpFilterTunnel), (0, 2))
        self.assertTrue(host.hasIPv6 and host.usesIPv6 and host.tunnelHasIPv6)
        self.assertEqual((host.proxies, host.sshPorts), (("9.9.9.9",), (22,)))

    def test_uplinks(self) -> None:
        """The uplinks are what the kernel says, but for the tunnel."""
        self.kernel.leading = ("nano0", "up0", "up1")
        self.assertEqual(self.read().uplinks, ("up0", "up1"))

    def test_earlier(self) -> None:
        """
        With a kill switch, other programs' rules count; but not if one lets everything past
        by an uplink.
        """
        tailscale = Earlier(4, 5270, device="tailscale0")
        earlier = tailscale, Earlier(4, 5280, device="up0")
        self.kernel.foreign = Others(earlier, (100,), 7200)
        host = self.read(killSwitch=True)
        self.assertEqual((host.earlier, host.unclear), ((tailscale,), (100, 5280)))
        self.assertEqual((self.read().earlier, self.read().unclear), ((), ()))
        self.assertEqual(self.read().first, 7200)

    def test_earlierBelowVpn(self) -> None:
        """What lets everything past by a link below another VPN does not pass a kill switch."""
        self.kernel.leading = ("up1", "up2")
        for name in ("up1", "up3"):
            self.kernel.devices[name] = Interface(name, answers=name == "up3")
        found = tuple(Earlier(4, 5280 + number, device=f"up{number}") for number in (1, 2, 3))
        self.kernel.foreign = Others((*found, Earlier(4, 5284, device="docker0")))
        host = self.read(killSwitch=True)
        self.assertEqual(host.unclear, (5281, 5282, 5283))
        self.assertEqual([each.device for each in host.earlier], ["docker0"])

    def test_marks(self) -> None:
        """Other VPNs' marks are read with and without a kill switch, and asked about."""
        marks = Mark(4, 0xCA6C), Mark(6, 0xCA6C), Mark(4, 5, 0xF)
        self.kernel.foreign = Others(marks=marks, ahead=(5000,))
        for killSwitch in (False, True):
            host = self.read(killSwitch=killSwitch)
            self.assertEqual((host.marks, host.ahead), (marks, (5000,)))
        self.assertEqual(self.kernel.marks, (0xCA6C, 5))

    def test_valuesBefore(self) -> None:
        """The value that we set is not taken for the value before."""
        self.sysctl("up0").write_text("2\n")
        host = self.read({"net/ipv4/conf/up0/rp_filter": "1"})
        self.assertEqual(host.interfaces[0].rpFilter, 1)

    def test_noIPv6(self) -> None:
        """Machine, tunnel and kernel without IPv6."""
        (self.root / "net/ipv6").rmdir()
        self.kernel.devices["up0"] = Interface("up0", ("192.168.1.0/24",), ("192.168.1.1",))
        self.kernel.devices["nano0"] = TUNNEL._replace(networks=("198.18.0.0/30",))
        host = self.read()
        self.assertFalse(host.hasIPv6 or host.usesIPv6 or host.tunnelHasIPv6)
        self.kernel.devices["ppp0"] = Interface("ppp0", (), ("::",))
        self.assertTrue(self.read().usesIPv6)

    def test_refused(self) -> None:
        """If the kernel does not list interfaces, the error is one sentence."""

        def refuse(*arguments: object) -> Any:
            raise OSError(1, "Operation not permitted")

        self.patch(self.kernel, "interfaces", refuse)
        self.assertIn("not permitted", str(self.assertRaises(RoutingError, self.read)))


def row(number: int, host: str, port: int, state: str, inode: int) -> str:
    """A line of /proc/net/tcp."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    text = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return (
        f"{number:4}: {text}:{port:04X} {'0' * len(text)}:0000 {state} 00000000:00000000 "
        f"00:00000000 00000000 0 0 {inode} 1 0000000000000000 100 0 0 10 0\n"
    )


TCP = "  sl  local_address rem_address   st ...\n" + "".join(
    (
        row(0, "0.0.0.0", 22, "0A", 101),
        row(1, "0.0.0.0", 2222, "0A", 102),
        row(2, "127.0.0.1", 8080, "0A", 103),
        row(3, "192.168.0.2", 2222, "01", 104),
        row(4, "192.168.0.2", 3003, "06", 105),
        # What a user forwards.
        row(5, "192.168.0.2", 40000, "01", 106),
        row(6, "127.0.0.1", 6010, "0A", 107),
    )
)
TCP6 = "  sl  local_address remote_address   st ...\n" + "".join(
    (
        row(0, "::1", 6010, "0A", 108),
        row(1, "::ffff:127.0.0.1", 6011, "0A", 109),
        row(2, "2001:db8::1", 2022, "0A", 110),
    )
)


class SSHTests(SynchronousTestCase):
    """Tests for L{nanotun.routing.ssh}."""

    def setUp(self) -> None:
        """Make a proc(5)."""
        self.proc = Path(self.mktemp())
        (self.proc / "net").mkdir(parents=True)
        (self.proc / "net/tcp").write_text(TCP)
        (self.proc / "net/tcp6").write_text(TCP6)

    def process(self, pid: int, comm: str, *inodes: int) -> None:
        """A process that holds sockets."""
        (self.proc / f"{pid}/fd").mkdir(parents=True)
        (self.proc / f"{pid}/comm").write_text(f"{comm}\n")
        for fd, inode in enumerate(inodes):
            os.symlink(f"socket:[{inode}]", self.proc / f"{pid}/fd/{fd}")
        os.symlink("/dev/null", self.proc / f"{pid}/fd/99")

    def test_ports(self) -> None:
        """SSH servers' ports, port 22 whoever listens there, and our own session's are found."""
        self.process(1, "systemd", 101)
        self.process(20, "sshd", 102, 110)
        self.process(21, "sshd-session", 104, 106, 107, 108, 109)
        self.process(22, "nginx", 103)
        self.process(23, "sshd", 105, 999)
        environment = {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 7022"}
        self.assertEqual(sshPorts(environment, str(self.proc)), (22, 2022, 2222, 7022))
        self.assertEqual(sshPorts({}, str(self.proc)), (22, 2022, 2222))

    def test_sessionOnly(self) -> None:
        """A session on port 22 counts without a listener, as during a restart of the server."""
        (self.proc / "net/tcp").write_text(
            TCP.splitlines()[0] + "\n" + row(0, "9.9.9.9", 22, "01", 7)
        )
        self.process(20, "sshd", 7)
        self.assertEqual(sshPorts({}, str(self.proc)), (22,))

    def test_none(self) -> None:
        """Without SSH there is no port."""
        (self.proc / "net/tcp").unlink()
        (self.proc / "net/tcp6").unlink()
        self.process(20, "sshd", 102)
        self.assertEqual(sshPorts({}, str(self.proc)), ())

    def test_gone(self) -> None:
        """A process that ends in the meantime is ignored."""
        (self.proc / "30").mkdir()
        self.assertEqual(sshPorts({}, str(self.proc)), (22,))

    def test_session(self) -> None:
        """A malformed SSH_CONNECTION is ignored."""
        for text in ("", "a b c", "1.2.3.4 1 1.2.3.4 x", "1.2.3.4 1 1.2.3.4 0", "a b c 99999"):
            self.assertIsNone(sessionPort({"SSH_CONNECTION": text}))


class ExceptionsTests(SynchronousTestCase):
    """Tests for L{Exceptions}."""

    def setUp(self) -> None:
        """Make one."""
        self.now = {"a.example": ["9.0.0.2", "9.0.0.1"], "b.example": []}
        self.later: dict[str, Any] = {}
        self.ports: tuple[int, ...] = (22,)
        self.around = Exceptions(
            ("a.example", "b.example", "2001:db8::1"),
            lambda name: self.now[name],
            self.lookUp,
            lambda: self.ports,
            lambda function: succeed(function()),
        )

    def lookUp(self, name: str) -> Deferred[list[str]]:
        """Complete a lookup."""
        found = self.later.get(name, [])
        return fail(found) if isinstance(found, Exception) else succeed(found)

    def test_now(self) -> None:
        """At the start addresses and names are looked up; the result is sorted."""
        self.around.readNow()
        self.assertEqual(self.around.proxies, ("2001:db8::1", "9.0.0.1", "9.0.0.2"))
        self.assertEqual(self.around.sshPorts, (22,))
        self.assertFalse(self.around.complete)

    def test_refresh(self) -> None:
        """Later lookups replace addresses if they succeed, and keep them if not."""
        self.around.readNow()
        self.later = {"b.example": ["9.0.0.3"]}
        self.assertTrue(self.successResultOf(self.around.refresh()))
        self.assertEqual(self.around.proxies, ("2001:db8::1", "9.0.0.1", "9.0.0.2", "9.0.0.3"))
        self.assertTrue(self.around.complete)
        self.assertFalse(self.successResultOf(self.around.refresh()))
        self.later = {"a.example": ["9.0.0.9"], "b.example": ValueError("a mistake")}
        self.assertTrue(self.successResultOf(self.around.refresh()))
        self.assertEqual(self.around.proxies, ("2001:db8::1", "9.0.0.3", "9.0.0.9"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
