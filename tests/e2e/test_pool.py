"""
Pooled connections to real proxies; and one that stalls.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks, Proxy
from tests.e2e.lab.udp import echo

SIZE = 3

FILL_SECONDS = 60.0
"""Seconds: a back-off and a dial."""

NO_SYN = "tcp flags & (syn | ack) == syn drop"
"""An nft verdict: open connections continue, but no new ones are made."""

STALL_SECONDS = 3

_SHORT_STALL = """\
#!{python}
import nanotun.upstream.dial.sockets
nanotun.upstream.dial.sockets.STALL_TIME = {seconds}
from twisted.scripts.twistd import run
run()
"""


def repeat(connection: socket.socket) -> None:
    """Send back what arrives."""
    while data := connection.recv(4096):
        connection.sendall(data)


class PoolCase(TunnelCase):
    """A daemon with a pool."""

    def ports(self, port: int) -> set[str]:
        """Our ends of the open connections to the proxy."""
        argv = ["ss", "-Htn", "state", "established", "dport", "=", f":{port}"]
        return {line.split()[2] for line in self.lab.app.run(argv).stdout.splitlines()}

    def waitForPool(self, port: int, count: int = SIZE) -> set[str]:
        """Wait for that many connections to the proxy; return our ends."""
        waitUntil(lambda: len(self.ports(port)) == count, FILL_SECONDS, f"{count} wait")
        return self.ports(port)

    def pooled(self, proxy: Proxy) -> Daemon:
        """Start a daemon and wait until its pool is full."""
        daemon = self.daemon(proxy=proxy.url(), upstreamPool=SIZE)
        self.waitForPool(proxy.port)
        return daemon


class PoolChecks(PoolCase):
    """What must hold for every proxy.  Subclasses make one."""

    def proxy(self) -> Proxy:
        """Make the proxy, which can be started again after its end."""
        raise NotImplementedError

    def test_carries(self) -> None:
        """Flows take the pooled connections; without new ones, only as many flows succeed."""
        peer = self.peer(repeat)
        proxy = self.proxy()
        self.pooled(proxy)
        before = self.waitForPool(proxy.port)
        self.lab.filter(proxy.port, NO_SYN, NO_SYN, self.lab.proxy)
        for _ in range(SIZE):
            self.assertEchoes(self.connect(peer.port))
        self.assertEqual(self.ports(proxy.port), before)

    def test_restart(self) -> None:
        """Flows fail while the proxy is gone, and work as soon as it is back."""
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
        """After many flows and the end, nothing is left that was not there before."""
        peer = self.peer(lambda connection: connection.sendall(connection.recv(100)))
        proxy = self.proxy()
        daemon = self.pooled(proxy)
        self.flows(peer.port, 20)
        self.waitForPool(proxy.port)
        fds = daemon.fds()
        self.flows(peer.port, 100)
        self.waitForPool(proxy.port)
        waitUntil(lambda: daemon.fds() <= fds, PATIENCE, "all descriptors are closed")
        self.assertEndsWell(daemon)
        self.waitForPool(proxy.port, 0)

    def flows(self, port: int, count: int) -> None:
        """Make that many flows, one after the other."""
        for _ in range(count):
            with self.lab.app.connect((self.family.world, port)) as sock:
                self.assertEchoes(sock)


class DanteChecks(PoolChecks):
    """Dante, with a password."""

    def proxy(self) -> Proxy:
        return self.dante(auth=True)

    def test_datagrams(self) -> None:
        """An association has a connection of its own, apart from the pooled ones."""
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
    """The network path to the proxy changes while connections are pooled."""

    def test_waysChange(self) -> None:
        """Pooled connections that no longer get answers do not cost any flow."""
        peer = self.peer(repeat)
        proxy = self.dante()
        self.pooled(proxy)
        dead = ", ".join(each.rpartition(":")[2] for each in self.ports(proxy.port))
        self.lab.filter(proxy.port, f"tcp sport {{ {dead} }} drop", "accept", self.lab.proxy)
        self.assertEchoes(self.connect(peer.port))


class StallChecks(TunnelCase):
    """An upstream that is cut off during a flow."""

    def test_blackhole(self) -> None:
        """A flow whose bytes are no longer accepted ends."""
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
        sock.settimeout(STALL_SECONDS + 60)
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
# Otherwise trial would run the base classes, too.
del PoolChecks, DanteChecks, MicrosocksChecks, RoamingChecks, StallChecks
