"""
Associations end: when they are idle, when the proxy ends them, when there are too many.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import badudp, udp
from tests.e2e.lab.daemon import SHORT, Daemon, answers
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import FAMILIES, IPV4

UDP_TIMEOUT = 5.0
"""Seconds; the C{udpTimeout} of these tests."""

FLOWS = int(os.environ.get("LAB_UDP_FLOWS", "5000"))
AT_ONCE = 50

MEMORY_MORE = 48 * 1024 * 1024
"""Bytes of resident memory that thousands of associations may leave: heap not returned yet."""

THREADS_MORE = 4

FEW_FILES = 256

FLOOD = 100_000
"""Datagrams of 1,400 bytes."""


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether C{condition} becomes true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class IdleChecks(TunnelCase):
    """The C{udpTimeout} setting."""

    seconds = 90

    def _controls(self, dante: Dante) -> int:
        """The number of dante's connections."""
        argv = ["ss", "-tnH", "state", "established", "sport", "=", f":{dante.port}"]
        return len(self.lab.proxy.run(argv).stdout.splitlines())

    def test_idle(self) -> None:
        """Idle associations are closed with their control connections; a busy one stays open."""
        server = self.udpServer(udp.mirror, IPV4)
        dante = self.dante()
        daemon = self.daemon(proxy=dante.url(), udpTimeout=f"{UDP_TIMEOUT:g}s")
        before = daemon.fds()
        apps = [self.datagrams(server.port) for _ in range(10)]
        for app in apps:
            app.send(b"hello")
            app.recv(100)
        self.assertEqual(self._controls(dante), 10)
        # A check of the proxy may have been under way at first.
        self.assertGreaterEqual(daemon.fds(), before + 19)
        busy = apps[0]
        busy.send(b"who")
        address = busy.recv(100)

        def othersEnded() -> bool:
            busy.send(b"who")
            self.assertEqual(busy.recv(100), address, "a busy association has changed")
            return self._controls(dante) == 1

        self.assertTrue(eventually(othersEnded), "idle ones stay")
        self.assertTrue(eventually(lambda: self._controls(dante) == 0), "it never ends")
        self.assertTrue(eventually(lambda: daemon.fds() <= before), daemon.fds())
        # And a closed one is made anew.
        apps[3].send(b"hello")
        self.assertTrue(apps[3].recv(100))

    def test_onlyReplies(self) -> None:
        """Datagrams from outside keep an association open as well."""
        server = self.udpServer(udp.sink, IPV4)
        proxy = self.socksRelay()
        self.daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}", udpTimeout=f"{UDP_TIMEOUT:g}s")
        app = self.datagrams(server.port)
        app.send(b"subscribe")
        self.assertTrue(eventually(lambda: bool(server.heard)))
        source = server.heard[0][1]
        end = time.monotonic() + 1.5 * UDP_TIMEOUT
        while time.monotonic() < end:
            server.sock.sendto(b"news", source)
            self.assertEqual(app.recv(100), b"news")
            time.sleep(0.3)
        self.assertEqual((proxy.total, len(proxy.live)), (1, 1))


def _answered(app: socket.socket) -> bool:
    """Whether C{app} receives what it sends, within its timeout."""
    try:
        app.send(b"again")
        return app.recv(100) == b"again"
    except (TimeoutError, ConnectionRefusedError):
        return False


class ControlChecks(TunnelCase):
    """The control connection."""

    def test_proxyEndsIt(self) -> None:
        """If the proxy closes the control connection, the next datagrams get a new association."""
        server = self.udpServer(udp.echo, IPV4)
        proxy = self.socksRelay()
        daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
        app = self.datagrams(server.port)
        self.assertEchoes(app)
        fds = daemon.fds()
        for number in range(2, 6):
            proxy.dropControls()
            self.assertTrue(eventually(lambda: not proxy.live))
            self.assertTrue(eventually(lambda: daemon.fds() < fds), "nothing was closed")
            self.assertEchoes(app)
            self.assertEqual(proxy.total, number)
        self.assertTrue(eventually(lambda: daemon.fds() <= fds), daemon.fds())

    def test_proxyComesBack(self) -> None:
        """If the proxy disappears and returns, the same socket of the app continues to work."""
        server = self.udpServer(udp.echo, IPV4)
        dante = self.dante()
        self.daemon(proxy=dante.url())
        app = self.datagrams(server.port, timeout=0.5)
        self.assertEchoes(app)
        dante.stop()
        self.dante()
        self.assertTrue(eventually(lambda: _answered(app)), "never gets through again")


class ManyChecks(TunnelCase):
    """Thousands of sources, each with an association of its own."""

    seconds = 120 + FLOWS // 100

    def test_many(self) -> None:
        """Thousands of flows are all answered, and leave fds, threads and memory as they were."""
        server = self.udpServer(udp.echo, IPV4)
        argv = [sys.executable, "-m", "tests.e2e.lab.udprelay", "1085"]
        proxy = Server(self.lab.proxy, argv, 1085, self.directory / "relay.log")
        self.addCleanup(proxy.stop)
        daemon = self.daemon(
            proxy=f"socks5://{IPV4.proxy}:{proxy.port}", udpTimeout=f"{UDP_TIMEOUT:g}s"
        )
        fds = daemon.fds()
        self.assertEqual(self._flows(server.port, AT_ONCE), AT_ONCE)
        self._settled(daemon, fds)
        threads, memory = daemon.threads(), daemon.rss()
        self.assertEqual(self._flows(server.port, FLOWS), FLOWS)
        self._settled(daemon, fds)
        self.assertLessEqual(daemon.threads(), threads + THREADS_MORE)
        self.assertLess(daemon.rss(), memory + MEMORY_MORE)

    def _flows(self, port: int, count: int) -> int:
        """Make that many, some at a time; return how many were answered."""
        answered = 0
        for start in range(0, count, AT_ONCE):
            socks = [self.datagrams(port) for _ in range(min(AT_ONCE, count - start))]
            for sock in socks:
                sock.send(b"hello")
            for sock in socks:
                answered += sock.recv(100) == b"hello"
                sock.close()
        return answered

    def _settled(self, daemon: Daemon, fds: int) -> None:
        there = eventually(lambda: daemon.fds() <= fds)
        self.assertTrue(there, f"{daemon.fds()} files are open, not {fds}")


class OverloadChecks(TunnelCase):
    """Overload: what cannot be carried is dropped, and nothing grows."""

    def test_floodOfDatagrams(self) -> None:
        """An app that sends as fast as it can costs no memory, and is served afterwards."""
        server = self.udpServer(udp.echo, IPV4)
        daemon = self.tunnel()
        # The datagrams are never read there; a closed port would be reported to the app.
        sink = self.lab.world.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sink.close)
        sink.bind((IPV4.world, 0))
        polite = self.datagrams(server.port)
        flooder = self.datagrams(sink.getsockname()[1])
        self.assertEchoes(polite)
        memory = daemon.rss()
        for _ in range(FLOOD):
            flooder.send(bytes(1400))
        self.assertLess(daemon.rss(), memory + MEMORY_MORE)
        polite.settimeout(1)
        # The flood may still fill queues, where one datagram is lost.
        self.assertTrue(eventually(lambda: _answered(polite)), "it is not served any more")

    def test_fewFiles(self) -> None:
        """Without file descriptors nothing ends; with them, new sources are served again."""
        server = self.udpServer(udp.echo, IPV4)
        proxy = self.socksRelay()
        daemon = self.daemon(
            proxy=f"socks5://{IPV4.proxy}:{proxy.port}", udpTimeout=f"{UDP_TIMEOUT:g}s"
        )
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (FEW_FILES, limits[1]))
        for _ in range(2 * FEW_FILES):
            self.datagrams(server.port).send(b"hello")
        self.assertTrue(eventually(lambda: len(proxy.live) > FEW_FILES / 4))
        self.assertTrue(daemon.running(), daemon.log())
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        app = self.datagrams(server.port, timeout=0.5)
        self.assertTrue(eventually(lambda: _answered(app)), "no new source is served")
        self.assertTrue(eventually(lambda: not proxy.live))

    def test_silentProxy(self) -> None:
        """Thousands of sources and a proxy that does not answer: limited, and over in time."""
        proxy = self.socksRelay(badudp.Silent())
        daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}", connectTimeout=SHORT)
        fds, memory = daemon.fds(), daemon.rss()
        for start in range(0, 3000, AT_ONCE):
            socks = [self.datagrams(9000 + start) for _ in range(AT_ONCE)]
            for sock in socks:
                sock.send(b"hello")
                sock.close()
        self.assertLess(daemon.fds(), fds + 2000)
        self.assertTrue(eventually(lambda: daemon.fds() <= fds))
        self.assertLess(daemon.rss(), memory + MEMORY_MORE)
        for family in FAMILIES:
            self.assertTrue(answers(self.lab.app, family))


engines(globals(), IdleChecks)
engines(globals(), OverloadChecks)
engines(globals(), ControlChecks)
engines(globals(), ManyChecks)
# Otherwise trial would run the base classes, too.
del IdleChecks, ControlChecks, ManyChecks, OverloadChecks
