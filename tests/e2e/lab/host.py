"""
A machine on the Internet, made of namespaces: a host with an uplink and a neighbour on its
LAN, a gateway, a proxy, and the world.

    host ---+
            +--- gateway --- proxy
    neighbour            \\-- world

The world can be reached without the proxy, so traffic that bypasses the tunnel arrives and is
noticed.  Its addresses are public ones, because nanotun would treat documentation addresses
as local; no packet leaves the namespaces.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import struct
import threading
from ipaddress import ip_address
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace, removeLeftovers
from tests.e2e.lab.topology import Family

UPLINK = "up0"

HOST4 = Family(
    "IPv4", socket.AF_INET, "9.77.2.2", "9.77.2.2", "192.168.77.2", "9.77.1.2", "9.77.1.2",
    "198.18.0.1", "198.18.0.2", "-4",
)  # fmt: skip
HOST6 = Family(
    "IPv6", socket.AF_INET6, "2a77:2::2", "2a77:2::2", "2a77::2", "2a77:1::2", "2a77:1::2",
    "fdfe:dcba:9876::1", "fdfe:dcba:9876::2", "-6",
)  # fmt: skip

NEIGHBOUR4, NEIGHBOUR6 = "192.168.77.3", "2a77::3"
GATEWAY4, GATEWAY6 = "192.168.77.1", "2a77::1"
DNS4, DNS6 = "9.77.2.53", "2a77:2::53"
SECOND_PROXY4 = "9.77.1.3"

_serial = itertools.count(1)


class HostLab:
    """
    The namespaces C{host}, C{neighbour}, C{gateway}, C{proxy} and C{world}.  L{remove}
    removes all of them.
    """

    def __init__(self) -> None:
        """@raise tests.e2e.lab.process.LabError: it cannot be made; nothing is left behind."""
        removeLeftovers()
        prefix = f"nt{os.getpid()}x{next(_serial)}"
        self._made: list[Namespace] = []
        try:
            self.host = self._make(f"{prefix}-host")
            self.neighbour = self._make(f"{prefix}-neighbour")
            self.gateway = self._make(f"{prefix}-gateway")
            self.proxy = self._make(f"{prefix}-upstream")
            self.world = self._make(f"{prefix}-internet")
            self._wire()
        except BaseException:
            self.remove()
            raise

    def _make(self, name: str) -> Namespace:
        made = Namespace(name)
        self._made.append(made)
        return made

    def _wire(self) -> None:
        gateway = self.gateway.name
        self.gateway.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.gateway.ip(
            "link add lan type bridge",
            "link set lan up",
            f"addr add {GATEWAY4}/24 dev lan",
            f"addr add {GATEWAY6}/64 dev lan nodad",
        )
        for space, peer in ((self.host, "lan-host"), (self.neighbour, "lan-near")):
            space.ip(f"link add {UPLINK} type veth peer name {peer} netns {gateway}")
            self.gateway.ip(f"link set {peer} master lan up")
        for space, peer in ((self.proxy, "to-proxy"), (self.world, "to-world")):
            space.ip(f"link add {UPLINK} type veth peer name {peer} netns {gateway}")
        self.gateway.ip(
            "addr add 9.77.1.1/24 dev to-proxy",
            "addr add 2a77:1::1/64 dev to-proxy nodad",
            "addr add 9.77.2.1/24 dev to-world",
            "addr add 2a77:2::1/64 dev to-world nodad",
            "link set to-proxy up",
            "link set to-world up",
        )
        self.plugHost()
        self._address(self.neighbour, NEIGHBOUR4, NEIGHBOUR6, GATEWAY4, GATEWAY6)
        self._address(self.proxy, HOST4.proxy, HOST6.proxy, "9.77.1.1", "2a77:1::1")
        self._address(self.world, HOST4.world, HOST6.world, "9.77.2.1", "2a77:2::1")
        self.proxy.ip(f"addr add {SECOND_PROXY4}/24 dev {UPLINK}")
        self.world.ip(f"addr add {DNS4}/24 dev {UPLINK}", f"addr add {DNS6}/64 dev {UPLINK} nodad")

    def plugHost(self) -> None:
        """Give the host's uplink its addresses and default routes."""
        self._address(self.host, HOST4.app, HOST6.app, GATEWAY4, GATEWAY6)

    def _address(self, space: Namespace, v4: str, v6: str, via4: str, via6: str) -> None:
        space.ip(
            f"link set {UPLINK} up",
            f"addr replace {v4}/24 dev {UPLINK}",
            f"addr replace {v6}/64 dev {UPLINK} nodad",
            f"route replace default via {via4} dev {UPLINK}",
            f"route replace default via {via6} dev {UPLINK}",
        )

    def flap(self) -> None:
        """Take the host's uplink down and up again, as if the cable were pulled out."""
        self.host.ip(f"link set {UPLINK} down")
        self.plugHost()

    def state(self) -> str:
        """All rules, routes, tables and settings of the host, as text to compare."""
        parts = [
            self.host.run(["ip", f"-{family}", *words.split()]).stdout
            for family in (4, 6)
            for words in ("-d rule show", "-d route show table all")
        ]
        parts.append(self.host.run(["nft", "-s", "list", "ruleset"]).stdout)
        sysctls = self.host.run(["sysctl", "-a", "-r", r"\.(rp_filter|src_valid_mark)$"]).stdout
        # Neighbours appear and disappear, and lifetimes run down.
        text = re.sub(r" expires \d+sec| used \d+| error \S+", "", "\n".join([*parts, sysctls]))
        return "\n".join(line for line in text.splitlines() if "nano0" not in line)

    def remove(self) -> None:
        """End everything that runs in the namespaces and remove them; may be called twice."""
        while self._made:
            self._made.pop().remove()


class Seen(NamedTuple):
    """
    A packet that left by the uplink.

    @ivar protocol: 6, 17, 58 and so on.
    @ivar ports: source and destination, or zeros.
    """

    source: str
    destination: str
    protocol: int
    ports: tuple[int, int]


_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_READ_SECONDS = 0.2


class Witness:
    """
    Watches every packet that leaves a namespace by an interface, from its construction until
    L{stop}.
    """

    def __init__(self, namespace: Namespace, device: str = UPLINK) -> None:
        self._seen: dict[Seen, int] = {}
        self._socket = namespace.makeSocket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)
        )
        self._socket.bind((device, _ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self._socket.settimeout(_READ_SECONDS)
        self._stopping = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping:
            try:
                data, address = self._socket.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:
                # The link may be down for a while.
                continue
            if address[2] == _PACKET_OUTGOING:
                seen = _parse(data)
                if seen is not None:
                    self._seen[seen] = self._seen.get(seen, 0) + 1

    def to(self, *destinations: str) -> list[Seen]:
        """The packets to any of these addresses so far."""
        return [each for each in list(self._seen) if each.destination in destinations]

    def all(self) -> list[Seen]:
        """All packets so far."""
        return list(self._seen)

    def stop(self) -> None:
        """Stop watching; may be called twice."""
        if not self._stopping:
            self._stopping = True
            self._thread.join(5)
            self._socket.close()


def _parse(data: bytes) -> Seen | None:
    version = data[0] >> 4 if len(data) >= 20 else 0
    if version == 4:
        header = (data[0] & 15) * 4
        source, destination, protocol = data[12:16], data[16:20], data[9]
    elif version == 6 and len(data) >= 40:
        header, source, destination, protocol = 40, data[8:24], data[24:40], data[6]
    else:
        return None  # ARP, for instance.
    ports = (0, 0)
    if protocol in (6, 17) and len(data) >= header + 4:
        ports = struct.unpack_from("!HH", data, header)
    return Seen(str(ip_address(source)), str(ip_address(destination)), protocol, ports)
