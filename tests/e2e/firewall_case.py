"""
The base classes of the tests of the firewall.  They make its changes with the real tools in
the app's namespace, where all unmarked traffic is routed into the tunnel.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.linux.cgroups import cgroupMount
from nanotun.routing.firewall.firewall import Firewall
from nanotun.routing.firewall.tools import SystemTools
from nanotun.routing.interfaces import IChange
from nanotun.routing.netlink import NetlinkRoutes
from nanotun.routing.values import Host
from tests.e2e.case import TunnelCase
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import MARK, TUN_NAME

UPLINK = "up0"
_TABLE = 28276


class ChosenTools(SystemTools):
    """
    A machine that has only one of the firewall's tools.

    @param firewall: C{"nft"}, C{"iptables-legacy"} or C{"iptables-nft"}.
    """

    def __init__(self, firewall: str) -> None:
        super().__init__()
        self._firewall = firewall

    def path(self, name: str) -> str:
        """Find a program as on that machine."""
        if name == "busctl" or (name == "nft" and self._firewall != "nft"):
            return ""
        plain, variant = name.removeprefix("ip6").removeprefix("ip"), self._firewall[9:]
        if variant and plain.startswith("tables") and variant not in name:
            return super().path(name.replace("tables", f"tables-{variant}", 1))
        return super().path(name)


class ByNft:
    """Mixin: a machine with nft."""

    firewall = "nft"


class ByLegacy:
    """Mixin: a machine with the iptables that uses the kernel's old tables."""

    firewall = "iptables-legacy"


class ByIptablesNft:
    """Mixin: a machine with the iptables that makes nft rules."""

    firewall = "iptables-nft"


class FirewallLabCase(TunnelCase):
    """
    @cvar firewall: see L{ChosenTools}.
    """

    seconds = 90
    firewall = "nft"

    def setUp(self) -> None:
        """Let the proxy's kernel forward, so that everything leaks without tunnel and firewall."""
        super().setUp()
        self.lab.proxy.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        # The world's second addresses, which it may choose as its source.
        self.lab.proxy.ip("route add 10.77.3.2/32 dev up0", "route add fd77:3::2/128 dev up0")
        self.lab.app.ip("route add default via 10.77.1.1 dev up0")
        self.lab.app.ip("route add default via fd77:1::1 dev up0", version="-6")

    def daemon(self, **settings: object) -> Daemon:
        """Start a daemon and wait until it is up, with the routing rules of the README."""
        settings.setdefault("stackMode", self.stackMode)
        daemon = Daemon(self.lab.app, self._daemonDirectory(), **settings)
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        for version in ("-4", "-6"):
            self.lab.app.ip(
                f"route add default dev {TUN_NAME} table {_TABLE}",
                f"rule add pref 5000 fwmark {MARK:#x} lookup main",
                "rule add pref 5002 lookup main suppress_prefixlength 0",
                f"rule add pref 5003 lookup {_TABLE}",
                version=version,
            )
        return daemon

    def changes(self, **settings: str) -> list[IChange]:
        """The firewall's changes for these settings, on the machine as it is now."""
        kernel = NetlinkRoutes()
        with self.lab.app.entered():
            found = [each for each in kernel.interfaces(()) if each.name != TUN_NAME]
            host = Host(tuple(found), uplinks=kernel.uplinks())
        firewall = Firewall(self.settingsWith(**settings), ChosenTools(self.firewall))
        return firewall.changes(None, host)

    def settingsWith(self, **settings: str) -> Settings:
        """These settings, and the defaults of all others."""
        given = {"proxy": "direct://", **settings}
        flags = {name: flagValue(KEYS[name], value) for name, value in given.items()}
        return makeSettings({}, flags, None)

    def protect(self, **settings: str) -> IChange:
        """Make the change, and return it."""
        (change,) = self.changes(**settings)
        with self.lab.app.entered():
            change.apply()
        self.addCleanup(self.unprotect, change)
        return change

    def unprotect(self, change: IChange) -> None:
        """Undo the change."""
        with self.lab.app.entered():
            change.undo()

    def holds(self, change: IChange) -> bool:
        """Whether the change is in force."""
        with self.lab.app.entered():
            return change.holds()

    def witness(self, *what: str) -> Tcpdump:
        """Record what leaves the app by the uplink."""
        witness = Tcpdump(self.lab.app, self.directory, UPLINK, *what)
        self.addCleanup(witness.stop)
        return witness

    def guest(self, name: str = "guest", number: int = 9) -> Namespace:
        """
        Make a machine behind the app, which forwards for it.

        @param number: of its network: 10.77.9.0/24 and fd77:9::/64, with the host 2.
        """
        app = self.lab.app
        guest = Namespace(f"{app.name.rpartition('-')[0]}-{name}")
        self.addCleanup(guest.remove)
        app.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        app.ip(
            f"link add {name}0 type veth peer name up0 netns {guest.name}",
            f"link set {name}0 up",
            f"addr add 10.77.{number}.1/24 dev {name}0",
            f"addr add fd77:{number}::1/64 dev {name}0 nodad",
        )
        guest.ip(
            "link set up0 up",
            f"addr add 10.77.{number}.2/24 dev up0",
            f"addr add fd77:{number}::2/64 dev up0 nodad",
            f"route add default via 10.77.{number}.1",
            f"route add default via fd77:{number}::1",
        )
        return guest


@contextlib.contextmanager
def controlGroup(name: str) -> Iterator[str]:
    """
    A temporary control group of version 2.

    @return: its directory; empty if none can be made here.
    """
    root = cgroupMount()
    folder = f"{root}/{name}"
    try:
        if not root:
            raise OSError
        os.mkdir(folder)
    except OSError:
        yield ""
        return
    try:
        yield folder
    finally:
        waitUntil(lambda: _removed(folder), PATIENCE, f"{folder} is empty")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def inGroup(folder: str, argv: Sequence[str]) -> list[str]:
    """The command that runs C{argv} in a control group."""
    return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', f"{folder}/cgroup.procs", *argv]
