"""
The three namespaces and the links between them.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace, removeLeftovers

MARK = 0x6E74
"""SO_MARK of every socket of the daemon (docs/architecture.md)."""

TUN_NAME = "nano0"

_DIRECT_TABLE = 77


class Family(NamedTuple):
    """
    The addresses of one IP version.

    @ivar world: the servers, behind the proxy.
    @ivar direct: the same servers, reached by the kernel's routes once L{Lab.openDirectPath}
        was called, and never through the TUN.
    @ivar proxy: the proxy, as seen from the app.
    @ivar proxyOutside: the proxy, as seen from the world.
    @ivar gateway: the virtual gateway in the daemon's stack.
    @ivar kernel: the kernel's own address on the TUN.
    @ivar option: the flag of C{ip}, C{ping} and C{curl} for this version.
    """

    name: str
    af: int
    world: str
    direct: str
    app: str
    proxy: str
    proxyOutside: str
    gateway: str
    kernel: str
    option: str

    def url(self, port: int, path: str, host: str | None = None) -> str:
        """An http URL with the world's address, or with C{host}."""
        name = host or self.world
        return f"http://[{name}]:{port}{path}" if ":" in name else f"http://{name}:{port}{path}"


IPV4 = Family(
    "IPv4", socket.AF_INET, "10.77.2.2", "10.77.3.2", "10.77.1.2", "10.77.1.1", "10.77.2.1",
    "198.18.0.1", "198.18.0.2", "-4",
)  # fmt: skip
IPV6 = Family(
    "IPv6", socket.AF_INET6, "fd77:2::2", "fd77:3::2", "fd77:1::2", "fd77:1::1", "fd77:2::1",
    "fdfe:dcba:9876::1", "fdfe:dcba:9876::2", "-6",
)  # fmt: skip
FAMILIES = (IPV4, IPV6)

_serial = itertools.count(1)


class Lab:
    """
    The namespaces C{app}, C{proxy} and C{world}, whose names contain our pid.  L{remove}
    removes all of them.
    """

    def __init__(self) -> None:
        """@raise tests.e2e.lab.process.LabError: it cannot be made; nothing is left behind."""
        removeLeftovers()
        prefix = f"nt{os.getpid()}x{next(_serial)}"
        self._made: list[Namespace] = []
        try:
            self.app = self._make(f"{prefix}-app")
            self.proxy = self._make(f"{prefix}-proxy")
            self.world = self._make(f"{prefix}-world")
            self._wire()
        except BaseException:
            self.remove()
            raise

    def _make(self, name: str) -> Namespace:
        made = Namespace(name)
        self._made.append(made)
        return made

    def _wire(self) -> None:
        self.app.ip(f"link add up0 type veth peer name down0 netns {self.proxy.name}")
        self.proxy.ip(f"link add up0 type veth peer name down0 netns {self.world.name}")
        self.app.ip(
            "link set up0 up",
            "addr add 10.77.1.2/30 dev up0",
            "addr add fd77:1::2/64 dev up0 nodad",
        )
        self.proxy.ip(
            "link set down0 up",
            "link set up0 up",
            "addr add 10.77.1.1/30 dev down0",
            "addr add fd77:1::1/64 dev down0 nodad",
            "addr add 10.77.2.1/24 dev up0",
            "addr add fd77:2::1/64 dev up0 nodad",
        )
        self.world.ip(
            "link set down0 up",
            "addr add 10.77.2.2/24 dev down0",
            "addr add 10.77.3.2/32 dev down0",
            "addr add fd77:2::2/64 dev down0 nodad",
            "addr add fd77:3::2/128 dev down0 nodad",
            "route add 10.77.1.0/30 via 10.77.2.1",
            "route add fd77:1::/64 via fd77:2::1",
        )

    def openDirectPath(self) -> None:
        """
        Let the proxy's kernel forward, route the app's marked packets there, and give
        everything the world's second address.  Then C{direct://} works, and there is a path
        without the tunnel to compare with.
        """
        self.proxy.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.proxy.ip(
            "route add 10.77.3.2/32 dev up0",
            "route add fd77:3::2/128 dev up0",
        )
        self.app.ip(
            f"rule add fwmark {MARK:#x} table {_DIRECT_TABLE}",
            f"route add default via 10.77.1.1 dev up0 table {_DIRECT_TABLE}",
            "route add 10.77.3.2/32 via 10.77.1.1",
        )
        self.app.ip(
            f"rule add fwmark {MARK:#x} table {_DIRECT_TABLE}",
            f"route add default via fd77:1::1 dev up0 table {_DIRECT_TABLE}",
            "route add fd77:3::2/128 via fd77:1::1",
            version="-6",
        )

    def routeThroughTunnel(self, device: str = TUN_NAME) -> None:
        """Add the routes that a user adds by hand once the daemon runs."""
        self.app.run(["ip", "route", "add", "default", "via", IPV4.gateway, "dev", device])
        self.app.run(["ip", "-6", "route", "add", "default", "via", IPV6.gateway, "dev", device])

    def plugMachines(self) -> Namespace:
        """
        Put a network of other machines behind the app, which forwards for them: the namespace
        returned, with C{lan0}, may send from any address in 10.78.0.0/16 and fd78::/48.
        """
        machines = self._make(f"{self.app.name.removesuffix('-app')}-lan")
        machines.ip(
            f"link add lan0 type veth peer name lan0 netns {self.app.name}",
            "link set lan0 up",
            "addr add 10.79.0.2/30 dev lan0",
            "addr add fd79::2/64 dev lan0 nodad",
            "route add default via 10.79.0.1",
            "route add default via fd79::1",
        )
        self.app.ip(
            "link set lan0 up",
            "addr add 10.79.0.1/30 dev lan0",
            "addr add fd79::1/64 dev lan0 nodad",
            "route add 10.78.0.0/16 via 10.79.0.2",
            "route add fd78::/48 via fd79::2",
        )
        self.app.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        return machines

    def loseOnUplink(self, percent: int) -> None:
        """Drop packets at random in both directions between app and proxy."""
        for namespace, device in ((self.app, "up0"), (self.proxy, "down0")):
            namespace.nft(
                "table inet loss {\nchain input {\ntype filter hook input priority -300;\n"
                f'iifname "{device}" numgen random mod 100 < {percent} counter drop\n}}\n}}\n'
            )

    def lost(self) -> int:
        """How many packets L{loseOnUplink} has dropped so far."""
        shown = (space.run(["nft", "list", "ruleset"]).stdout for space in (self.app, self.proxy))
        return sum(int(count) for text in shown for count in re.findall(r"packets (\d+)", text))

    def filter(
        self, port: int, verdict4: str, verdict6: str, namespace: Namespace | None = None
    ) -> None:
        """
        Set what the world, or C{namespace}, does with connections to a TCP port.

        @param verdict4: an nft verdict for IPv4: C{drop}, or C{reject with ...}.
        @param verdict6: the same for IPv6.
        """
        (namespace or self.world).nft(
            f"table inet filter{port} {{\nchain input {{\ntype filter hook input priority -300;\n"
            f"meta nfproto ipv4 tcp dport {port} {verdict4}\n"
            f"meta nfproto ipv6 tcp dport {port} {verdict6}\n}}\n}}\n"
        )

    def remove(self) -> None:
        """End everything that runs in the namespaces and remove them; may be called twice."""
        while self._made:
            self._made.pop().remove()
