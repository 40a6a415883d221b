"""
Another VPN: a tunnel in the clear over UDP, with the routes of OpenVPN or of wg-quick.

C{python -m tests.e2e.lab.vpn DEVICE HOST PORT PEER MARK} is one end of it; without a peer it waits
for the other end to speak.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import struct
import sys
from pathlib import Path

from tests.e2e.lab.host import GATEWAY4, GATEWAY6, HostLab
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, Child, waitUntil
from tests.e2e.lab.topology import Family
from tests.e2e.lab.udp import familyOf

DEVICE = "tunv"
PORT = 1194

#: wg-quick's mark and table.
MARK = 0xCA6C
TABLE = 51820

#: The addresses of the two ends inside the tunnel.
SERVER4, CLIENT4 = "10.8.0.1", "10.8.0.2"
SERVER6, CLIENT6 = "fd08::1", "fd08::2"

#: As of OpenVPN's redirect-gateway: longer than the default routes, which stay.
HALVES = (("-4", "0.0.0.0/1"), ("-4", "128.0.0.0/1"), ("-6", "2000::/4"), ("-6", "3000::/4"))

#: What the server does for its clients.
MASQUERADE = f"""
table inet vpn {{
    chain out {{
        type nat hook postrouting priority 100
        iifname "{DEVICE}" oifname != "{DEVICE}" masquerade
    }}
}}
"""

_TUNSETIFF = 0x400454CA
_IFF_TUN_NO_PI = 0x1001


class Vpn:
    """
    The VPN's server, in the world, and its client, on the host.

    @param outer: the family of its packets.
    """

    def __init__(self, lab: HostLab, directory: Path, outer: Family, speaks: bool = False) -> None:
        """@param speaks: whether the server sends to the client without having heard of it."""
        self._lab = lab
        self._directory = directory
        self._outer = outer
        peer = outer.app if speaks else ""
        self._ends: list[Child] = [self._end(lab.world, (SERVER4, SERVER6), outer.world, peer)]
        lab.world.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        lab.world.nft(MASQUERADE)

    def connect(self, mark: int = 0) -> None:
        """Start the client, which sends nothing before there are routes into its tunnel."""
        self._ends.append(self._client(mark))

    def likeOpenvpn(self) -> None:
        """Start the client, and route everything but its server into the tunnel."""
        self.connect()
        host, via = self._lab.host, GATEWAY6 if ":" in self._outer.world else GATEWAY4
        host.ip(f"route add {self._outer.world} via {via}")
        for version, network in HALVES:
            host.ip(f"route add {network} dev {DEVICE}", version=version)

    def likeWgQuick(self) -> None:
        """
        Start the client, and send everything without its mark into the tunnel, by rules whose
        priorities the kernel chooses.
        """
        self.connect(MARK)
        for version in ("-4", "-6"):
            self._lab.host.ip(
                f"route add default dev {DEVICE} table {TABLE}",
                f"rule add not fwmark {MARK:#x} table {TABLE}",
                "rule add table main suppress_prefixlength 0",
                version=version,
            )

    def disconnect(self) -> None:
        """End the client; its routes go with it, and its rules are removed."""
        self._ends.pop().stop()
        for version in ("-4", "-6"):
            for rule in (f"table {TABLE}", "table main suppress_prefixlength 0"):
                argv = ["ip", version, "rule", "del", *rule.split()]
                self._lab.host.run(argv, check=False)
        self._lab.host.run(["ip", "route", "del", f"{self._outer.world}"], check=False)

    def stop(self) -> None:
        """End both; may be called twice."""
        for end in self._ends:
            end.stop()

    def _client(self, mark: int) -> Child:
        anywhere = "::" if ":" in self._outer.world else "0.0.0.0"
        own = (CLIENT4, CLIENT6)
        return self._end(self._lab.host, own, anywhere, self._outer.world, mark)

    def _end(
        self, space: Namespace, own: tuple[str, str], host: str, peer: str, mark: int = 0
    ) -> Child:
        module = [sys.executable, "-m", "tests.e2e.lab.vpn", DEVICE, host, str(PORT), peer]
        log = self._directory / f"vpn-{space.name}.log"
        child = Child(space.argv(["env", f"PYTHONPATH={PROJECT_ROOT}", *module, str(mark)]), log)
        waitUntil(
            lambda: space.run(["ip", "link", "show", DEVICE], check=False).returncode == 0,
            PATIENCE,
            "the VPN has its device",
        )
        space.ip(
            f"addr add {own[0]}/24 dev {DEVICE}",
            f"addr add {own[1]}/64 dev {DEVICE} nodad",
            f"link set {DEVICE} up",
        )
        return child


def carry(device: str, host: str, port: int, peer: str, mark: int) -> None:
    """One end: the device on this side, a socket on the other."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN_NO_PI))
    sock = socket.socket(familyOf(host), socket.SOCK_DGRAM)
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    sock.bind((host, port))
    other = (peer, port) if peer else None
    ends = [tun, sock.fileno()]
    while True:
        for ready in select.select(ends, [], [])[0]:
            # Nobody may be there, or no route.
            with contextlib.suppress(OSError):
                if ready == sock.fileno():
                    packet, other = sock.recvfrom(65535)
                    os.write(tun, packet)
                else:
                    packet = os.read(tun, 65535)
                    if other is not None:
                        sock.sendto(packet, other)


if __name__ == "__main__":
    carry(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
