"""
Containers on a bridge of the host, as Docker makes them, and ways to publish their ports.

                 host
    eth0 ------- docker0 172.17.0.1 fd17::1     up0 192.168.77.2 ---> the gateway
    containers

What a container sends leaves with an address of the host.  The proxy's has one that nobody
else has, so the world can tell what went through the proxy.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.lab.host import UPLINK, HostLab
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.proxies import Microsocks

BRIDGE = "docker0"
BRIDGE4, BRIDGE6 = "172.17.0.1", "fd17::1"
PROXY_PORT = 1080

#: The outside addresses of what the proxy's container sends.
OUTSIDE = {4: "192.168.77.9", 6: "2a77::9"}

_NETWORKS = {4: "172.17.0.0/16", 6: "fd17::/64"}
_TOOLS = {4: "iptables", 6: "ip6tables"}


def address(number: int, version: int) -> str:
    """The address of a container."""
    return f"172.17.0.{number}" if version == 4 else f"fd17::{number}"


class Bridge:
    """The bridge on the host of a laboratory, which forwards and hides what is behind it."""

    def __init__(self, lab: HostLab) -> None:
        self.host = lab.host
        self._lab = lab
        self.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.host.ip(
            f"link add {BRIDGE} type bridge",
            f"link set {BRIDGE} up",
            f"addr add {BRIDGE4}/16 dev {BRIDGE}",
            f"addr add {BRIDGE6}/64 dev {BRIDGE} nodad",
            f"addr add {OUTSIDE[4]}/24 dev {UPLINK}",
            # Not for what the host itself sends.
            f"addr add {OUTSIDE[6]}/64 dev {UPLINK} nodad preferred_lft 0",
        )
        for version, network in _NETWORKS.items():
            self.nat(version, f"-A POSTROUTING -s {network} ! -o {BRIDGE} -j MASQUERADE")

    def nat(self, version: int, rule: str) -> None:
        """Add or remove a rule of iptables' table of that name."""
        self.host.run([_TOOLS[version], "-w", "-t", "nat", *rule.split()])

    def container(self, number: int) -> Namespace:
        """Make a container with the addresses of this number."""
        made = self._lab._make(f"{self.host.name.removesuffix('-host')}-ctr{number}")
        self.host.ip(
            f"link add veth{number} type veth peer name eth0 netns {made.name}",
            f"link set veth{number} master {BRIDGE} up",
        )
        self.give(made, number)
        return made

    def remove(self, container: Namespace, number: int) -> None:
        """End a container, so that another can have its number at once."""
        # The kernel takes its time to remove a namespace and what is in it.
        self.host.ip(f"link del veth{number}")
        container.remove()
        self._lab._made.remove(container)

    def give(self, container: Namespace, number: int) -> None:
        """Replace a container's addresses by those of another number."""
        container.ip("addr flush dev eth0 scope global")
        container.ip(
            # As Docker chooses it.
            "link set eth0 down",
            f"link set eth0 address 02:42:ac:11:00:{number:02x}",
            "link set eth0 up",
            f"addr add {address(number, 4)}/16 dev eth0",
            f"addr add {address(number, 6)}/64 dev eth0 nodad",
            f"route replace default via {BRIDGE4}",
            f"route replace default via {BRIDGE6}",
        )

    def mark(self, number: int) -> None:
        """Give what a container sends by the uplink the proxy's outside addresses."""
        for version, outside in OUTSIDE.items():
            source = address(number, version)
            self.nat(
                version, f"-I POSTROUTING -s {source} -o {UPLINK} -j SNAT --to-source {outside}"
            )


class ProxyContainer:
    """Microsocks in a container."""

    def __init__(self, bridge: Bridge, directory: Path, number: int = 2) -> None:
        self.bridge = bridge
        self.number = number
        self.space = bridge.container(number)
        self._directory = directory
        bridge.mark(number)
        self._start()

    def _start(self) -> None:
        self._server = Microsocks(self.space, self._directory, port=PROXY_PORT)

    def restart(self, number: int) -> None:
        """End it, and start it again with the addresses of another number."""
        self._server.stop()
        self.bridge.give(self.space, number)
        self.bridge.mark(number)
        self.number = number
        self._start()

    def address(self, version: int) -> str:
        """Its own address."""
        return address(self.number, version)

    def stop(self) -> None:
        """End the server."""
        self._server.stop()


class Helper:
    """A stand-in for docker-proxy: listens on the host and passes connections on."""

    def __init__(self, container: ProxyContainer, directory: Path, version: int, port: int) -> None:
        host = container.bridge.host
        listen = f"TCP4-LISTEN:{port},bind=127.0.0.1" if version == 4 else f"TCP6-LISTEN:{port}"
        remote = container.address(version)
        there = f"TCP4:{remote}" if version == 4 else f"TCP6:[{remote}]"
        number = len(list(directory.glob("helper-*.log")))
        self._child = Child(
            host.argv(["socat", f"{listen},fork,reuseaddr", f"{there}:{PROXY_PORT}"]),
            directory / f"helper-{number}.log",
        )
        waitUntil(lambda: host.listening(port), PATIENCE, "the helper listens")

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()
