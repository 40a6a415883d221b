"""Tests of L{nanotun.daemon.circles}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.daemon.circles import Circles
from nanotun.flow import Endpoint, Protocol
from nanotun.testing.owners import FakeProcesses, FakeSockets


def settings(**values: str) -> Settings:
    """The settings of a daemon."""
    given = {"proxy": "socks5://192.0.2.1:1080", "autoDefaultRoute": "true", **values}
    flags = {name: flagValue(KEYS[name], each) for name, each in given.items()}
    return makeSettings({}, flags, "")


class CirclesTests(SynchronousTestCase):
    """L{Circles}."""

    HERE = Endpoint("127.0.0.1", 53)

    def setUp(self) -> None:
        """A name server on this machine."""
        self.sockets = FakeSockets()
        self.processes = FakeProcesses()
        inode = self.sockets.add(Protocol.TCP, self.HERE, uid=53, cgroup=7, listens=True)
        self.processes.spawn(70, "/usr/sbin/dnsmasq")
        self.processes.spawn(71, "/usr/sbin/unbound", uid=53)
        self.processes.files[71][5] = inode

    def circular(self, inCell: bool = False, **values: str) -> bool:
        """Whether its queries would come back."""
        circles = Circles(
            "nano0",
            inCell,
            self.sockets,
            self.processes,
            lambda number: "/system.slice/unbound.service" if number == 7 else "",
        )
        found = circles.among([self.HERE], settings(**values))
        self.assertIn(found, (set(), {self.HERE}))
        self.assertTrue(self.sockets.closed)
        return bool(found)

    def test_everybody(self) -> None:
        """Under autoDefaultRoute they would, and neither without it nor in a cell."""
        self.assertTrue(self.circular())
        self.assertFalse(self.circular(autoDefaultRoute="false"))
        self.assertFalse(self.circular(inCell=True))

    def test_excluded(self) -> None:
        """Not if it is excluded: by its user, its unit, its program or its process."""
        for excluded in (
            "uid:53",
            "unit:unbound.service",
            "cgroup:/system.slice",
            "unbound",
            "/usr/sbin/unbound",
            "pid:71",
        ):
            self.assertFalse(self.circular(excludedProcesses=excluded), excluded)
        for excluded in ("uid:54", "unit:dnsmasq.service", "dnsmasq", "pid:70", "pid:999"):
            self.assertTrue(self.circular(excludedProcesses=excluded), excluded)

    def test_only(self) -> None:
        """Nor if only others are in the tunnel."""
        self.assertFalse(self.circular(onlyProcesses="uid:54"))
        self.assertTrue(self.circular(onlyProcesses="uid:53"))

    def test_nobody(self) -> None:
        """If nobody is found to listen, or the kernel does not tell, they would, to be safe."""
        self.sockets.open.clear()
        self.assertTrue(self.circular(excludedProcesses="uid:53"))
        self.sockets.failure = OSError(1, "no")
        self.assertTrue(self.circular(excludedProcesses="uid:53"))
