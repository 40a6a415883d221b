"""
Flows to fake addresses, with a witness on the uplink that nothing is looked up for them.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.e2e.case import TunnelCase, engines
from tests.e2e.firewall_case import UPLINK
from tests.e2e.lab import nameserver
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.test_names import FAKES, NAME, hearSocks

KINDS = {IPV4: "A", IPV6: "AAAA"}


def hearHttp(connection: socket.socket) -> bytes:
    """Act as an HTTP proxy that refuses; the request's first line is returned."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    return request.partition(b"\r\n")[0]


class FakeNamesChecks(TunnelCase):
    """What leaves the machine for a fake address."""

    def fakes(self, **settings: object) -> Daemon:
        """Start a daemon with fake addresses, whose servers are in the world."""
        state: Path = self.directory / "fakeip.json"
        settings.setdefault("dnsStateFile", str(state))
        return self.daemon(dns=[IPV4.world], dnsMode="fake-ip", **settings)

    def setUp(self) -> None:
        """There is a way out that does not lead to the proxy."""
        super().setUp()
        self.lab.openDirectPath()

    def witness(self) -> Tcpdump:
        """Record whatever leaves the app for another place than the proxy."""
        other = f"not host {IPV4.proxy} and not host {IPV6.proxy} and not arp and not icmp6"
        other += " and not ip6 multicast"
        witness = Tcpdump(self.lab.app, self.directory, UPLINK, other)
        self.addCleanup(witness.stop)
        return witness

    def lookUp(self, kind: str, name: str = NAME) -> list[str]:
        """Ask the gateway."""
        return nameserver.ask(self.lab.app, IPV4.gateway, name, kind).data

    def test_streams(self) -> None:
        """A C{socks5://} and an C{http://} proxy are asked for the name, and nothing else leaves
        the machine."""
        witness = self.witness()
        socks = b"\5\1\0\3" + bytes((len(NAME),)) + NAME.encode() + b"\x1f\x90"
        http = f"CONNECT {NAME}:8080 HTTP/1.1".encode()
        for scheme, hear, expected in (("socks5", hearSocks, socks), ("http", hearHttp, http)):
            proxy = self.peer(hear, self.lab.proxy)
            daemon = self.fakes(proxy=f"{scheme}://{IPV4.proxy}:{proxy.port}")
            for family in FAMILIES:
                self.assertEqual(self.lookUp(KINDS[family]), [FAKES[family]])
                with self.assertRaises(OSError):
                    self.lab.app.connect((FAKES[family], 8080), 10.0)
                self.assertEqual(proxy.result(), expected)
            self.assertEndsWell(daemon)
        self.assertEqual(witness.destinations(), {})


engines(globals(), FakeNamesChecks)
# Otherwise trial would run the base class, too.
del FakeNamesChecks
