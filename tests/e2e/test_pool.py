"""
Connections that wait for a destination, by real proxies; and one that stalls.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.proxies import Microsocks, Proxy
from tests.e2e.lab.udp import echo

SIZE = 3

FILL_SECONDS = 4.0
"""A back-off, and a dial."""

NO_SYN = "tcp flags & (syn | ack) == syn drop"
"""An nft verdict: connections that are open go on, and there are no new ones."""

STALL_SECONDS = 3

_SHORT_STALL = """\
#!{python}
import nanotun.upstream.dial.sockets
nanotun.upstream.dial.sockets.STALL_TIME = {seconds}
from twisted.scripts.twistd import run
run()
"""


def repeat(connection: socket.socket) -> None:
    """Send back what comes."""
    while data := connection.recv(4096):
        connection.sendall(data)


class PoolCase(TunnelCase):
    """A daemon with a pool."""

    def ports(self, port: int) -> set[str]:
        """Our ends of the connections to the proxy that are open."""
        argv = ["ss", "-Htn", "state", "established", "dport", "=", f":{port}"]
        return {line.split()[2] for line in self.lab.app.run(argv).stdout.splitlines()}

    def waitForPool(self, port: int, count: int = SIZE) -> set[str]:
        """So many connections to the proxy are open; returns our ends."""
        waitUntil(lambda: len(self.ports(port)) == count, FILL_SECONDS, f"{count} wait")
        return self.ports(port)

    def pooled(self, proxy: Proxy) -> Daemon:
        """A daemon whose pool is full."""
        daemon = self.daemon(proxy=proxy.url(), upstreamPool=SIZE)
        self.waitForPool(proxy.port)
        return daemon


class PoolChecks(PoolCase):
    """What holds for every proxy.  Subclasses make one."""

    def proxy(self) -> Proxy:
        """The proxy, which can be started again after its end."""
        raise NotImplementedError

    def test_carries(self) -> None:
        """Flows take the connections that wait; without new ones there are as many flows."""
        peer = self.peer(repeat)
        proxy = self.proxy()
        self.pooled(proxy)
        before = self.waitForPool(proxy.port)
        self.lab.filter(proxy.port, NO_SYN, NO_SYN, self.lab.proxy)
        for _ in range(SIZE):
            self.assertEchoes(self.connect(peer.port))
        self.assertEqual(self.ports(proxy.port), before)

    def test_restart(self) -> None:
        """Flows fail as long as the proxy is gone, and work as soon as it is back."""
        peer = self.peer(repeat)
        proxy = self.proxy()
        daemon = self.pooled(proxy)
        proxy.stop()
        self.waitForPool(proxy.port, 0)
        self.connectError(peer.port)
        proxy = self.proxy()
        self.assertEchoes(self.connect(peer.port))
        self.waitForPool(proxy.port, SIZE + 1)
        self.assertEchoes(self.connect(peer.port))
        self.assertNotIn("upstreamPool is off", daemon.log())

    def test_leavesNothing(self) -> None:
        """After many flows and the end, there is nothing that was not there before."""
        peer = self.peer(lambda connection: connection.sendall(connection.recv(100)))
        proxy = self.proxy()
        daemon = self.pooled(proxy)
        self.flows(peer.port, 20)
        self.waitForPool(proxy.port)
        fds = daemon.fds()
        self.flows(peer.port, 100)
        self.waitForPool(proxy.port)
        waitUntil(lambda: daemon.fds() <= fds, 5, "all descriptors are closed")
        self.assertEndsWell(daemon)
        self.waitForPool(proxy.port, 0)

    def flows(self, port: int, count: int) -> None:
        """Make that many, one after the other."""
        for _ in range(count):
            with self.lab.app.connect((self.family.world, port)) as sock:
                self.assertEchoes(sock)


class DanteChecks(PoolChecks):
    """Dante, with a password."""

    def proxy(self) -> Proxy:
        return self.dante(auth=True)

    def test_datagrams(self) -> None:
        """A relay for datagrams has a connection of its own, beside those that wait."""
        server = self.udpServer(echo, self.family)
        proxy = self.proxy()
        self.pooled(proxy)
        before = self.waitForPool(proxy.port)
        self.assertEchoes(self.datagrams(server.port))
        after = self.ports(proxy.port)
        self.assertEqual((before - after, len(after)), (set(), SIZE + 1))


class MicrosocksChecks(PoolChecks):
    """Microsocks, with a password."""

    def proxy(self) -> Proxy:
        server = Microsocks(self.lab.proxy, self.directory, auth=True)
        self.addCleanup(server.stop)
        return server


class RoamingChecks(PoolCase):
    """The way to the proxy changes while connections wait."""

    def test_waysChange(self) -> None:
        """Connections that nobody answers on any more do not cost a flow its life."""
        peer = self.peer(repeat)
        proxy = self.dante()
        self.pooled(proxy)
        dead = ", ".join(each.rpartition(":")[2] for each in self.ports(proxy.port))
        self.lab.filter(proxy.port, f"tcp sport {{ {dead} }} drop", "accept", self.lab.proxy)
        self.assertEchoes(self.connect(peer.port))


class StallChecks(TunnelCase):
    """An upstream that is cut off while a flow lives."""

    def test_blackhole(self) -> None:
        """A flow whose bytes nobody takes any more ends."""
        script = self.directory / "twistd"
        script.write_text(_SHORT_STALL.format(python=sys.executable, seconds=STALL_SECONDS))
        script.chmod(0o755)
        before = os.environ.get("LAB_TWISTD")
        os.environ["LAB_TWISTD"] = str(script)
        try:
            proxy = self.dante()
            self.daemon(proxy=proxy.url())
        finally:
            del os.environ["LAB_TWISTD"]
            if before is not None:
                os.environ["LAB_TWISTD"] = before
        sock = self.connect(self.peer(repeat).port)
        self.assertEchoes(sock)
        self.lab.filter(proxy.port, "drop", "drop", self.lab.proxy)
        sock.settimeout(STALL_SECONDS + 5)
        started = time.monotonic()
        sock.send(b"is anybody there")
        try:
            self.assertEqual(sock.recv(100), b"")
        except ConnectionResetError:
            pass
        self.assertGreater(time.monotonic() - started, STALL_SECONDS - 1)


engines(globals(), DanteChecks)
engines(globals(), MicrosocksChecks)
engines(globals(), RoamingChecks)
engines(globals(), StallChecks)
del PoolChecks, DanteChecks, MicrosocksChecks, RoamingChecks, StallChecks  # trial would run them
