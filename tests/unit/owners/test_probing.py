"""Tests for L{nanotun.owners.probing}."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Protocol
from nanotun.owners.probing import FAMILY_LIMIT, PROBES, ROUNDS, Prober, mayBeBehind
from nanotun.testing import FakeProcesses, FakeSockets

HERE = Endpoint("127.0.0.1", 1090)
PROXY = Endpoint("172.17.0.2", 1080)
SERVER = Endpoint("198.51.100.7", 443)
OWN = ("127.0.0.1", "192.0.2.1", "198.18.0.2")


class FakeProbe:
    """A connection on which nothing is said."""

    def __init__(self, local: Endpoint) -> None:
        self.local = local
        self.closed = False

    def __enter__(self) -> FakeProbe:
        return self

    def __exit__(self, *ignored: Any) -> None:
        self.closed = True

    def getsockname(self) -> tuple[str, int]:
        """Where it comes from."""
        return self.local.host, self.local.port


class ProberTests(SynchronousTestCase):
    """Tests for L{Prober}."""

    def setUp(self) -> None:
        """A proxy, which listens and does nothing."""
        self.processes = FakeProcesses()
        self.processes.spawn(7, "/usr/bin/proxy")
        self.sockets = FakeSockets()
        self.probes: list[FakeProbe] = []
        self.accepted: Callable[[], object] = lambda: None
        self.refused: OSError | None = None
        self.answerer = HERE.host

    def connect(self, endpoint: Endpoint) -> FakeProbe:
        """Connect to the proxy."""
        if self.refused is not None:
            raise self.refused
        self.probes.append(FakeProbe(Endpoint("127.0.0.1", 40000 + len(self.probes))))
        self.accepted()
        return self.probes[-1]

    def onward(self, remote: Endpoint = PROXY, pid: int = 7, port: int = 50000) -> None:
        """Let a process connect somewhere."""
        inode = self.sockets.add(Protocol.TCP, Endpoint("172.17.0.1", port), remote)
        self.processes.open(pid, inode)

    def probe(self, *pids: int) -> str | None:
        """Probe, and see that nothing stays open."""
        prober = Prober(
            lambda: self.sockets,
            self.processes,
            lambda host: host != SERVER.host,
            self.connect,
            lambda flow: self.answerer,
            lambda host: host in OWN,
            lambda seconds: None,
        )
        found = prober.probe(HERE, pids or (7,))
        self.assertTrue(self.sockets.closed)
        self.assertTrue(all(each.closed for each in self.probes))
        return found

    def test_proxy(self) -> None:
        """A proxy, which connects nowhere before it is asked, passes nothing on."""
        self.assertEqual(self.probe(), "")
        self.assertEqual(len(self.probes), PROBES)

    def test_relay(self) -> None:
        """A listener that connects onwards unasked is a relay."""
        self.accepted = self.onward
        self.assertEqual(self.probe(), PROXY.host)
        self.assertEqual(len(self.probes), PROBES * ROUNDS)

    def test_forking(self) -> None:
        """A relay may have a process for each connection, which has others in turn."""
        pids = iter(range(100, 200, 2))

        def accept() -> None:
            pid = next(pids)
            self.processes.fork(7, pid)
            self.processes.fork(pid, pid + 1)
            self.onward(pid=pid + 1)

        self.accepted = accept
        self.assertEqual(self.probe(), PROXY.host)

    def test_busyRelay(self) -> None:
        """A relay that carries connections at the same time is one."""
        for _ in range(50):
            self.onward()
        self.accepted = self.onward
        self.assertEqual(self.probe(), PROXY.host)

    def test_accepted(self) -> None:
        """Connections that a proxy has accepted lead nowhere."""
        self.accepted = lambda: self.onward(Endpoint("192.0.2.9", 6000), port=HERE.port)
        self.assertEqual(self.probe(), "")

    def test_busyProxy(self) -> None:
        """A proxy that connects to several hosts on behalf of others is no relay."""
        self.onward(SERVER)
        self.accepted = self.onward
        self.assertIsNone(self.probe())

    def test_oneDestination(self) -> None:
        """A proxy that is asked for one host only is no relay, unless each silence leads there."""
        self.onward()
        self.assertIsNone(self.probe())
        counts = iter(range(100))

        def accept() -> None:
            if next(counts) % PROBES < PROBES - 1:
                self.onward()

        self.accepted = accept
        self.assertIsNone(self.probe())

    def test_once(self) -> None:
        """What happens in one round only is a coincidence."""

        def accept() -> None:
            if len(self.probes) <= PROBES:
                self.onward()

        self.accepted = accept
        self.assertIsNone(self.probe())

    def test_farAway(self) -> None:
        """
        A host that is not behind this machine is no next hop, however often somebody has the
        proxy connect to it, and to nothing else.
        """
        self.accepted = lambda: self.onward(SERVER)
        self.assertEqual(self.probe(), "")

    def test_mayBeBehind(self) -> None:
        """Private addresses may be behind this machine, and public ones if they are connected."""
        for host, expected in (
            ("172.17.0.2", True),
            ("fd00::2", True),
            ("203.0.114.9", True),
            ("203.0.115.9", False),
            ("2606:4700::1", False),
        ):
            found = mayBeBehind(lambda host: host == "203.0.114.9", host)
            self.assertEqual(found, expected, host)

    def test_strangers(self) -> None:
        """Connections of other processes do not count."""
        self.processes.spawn(8, "/usr/bin/app")
        self.accepted = lambda: self.onward(pid=8)
        self.assertEqual(self.probe(), "")

    def test_machineItself(self) -> None:
        """What is passed on within this machine stays here."""
        for host in OWN:
            self.setUp()
            self.accepted = lambda host=host: self.onward(Endpoint(host, 1080))  # type: ignore[misc]
            self.assertEqual(self.probe(), "", host)

    def test_nat(self) -> None:
        """The firewall's new destination is known at once, whoever listens."""
        self.answerer = PROXY.host
        self.assertEqual(self.probe(), PROXY.host)
        self.answerer = "192.0.2.1"
        self.assertEqual(self.probe(), "")

    def test_refused(self) -> None:
        """Where nothing listens nothing is passed on."""
        self.refused = OSError(errno.ECONNREFUSED, "refused")
        self.assertEqual(self.probe(), "")

    def test_crowd(self) -> None:
        """
        The descendants of an ancestor of everything, such as init, are not searched; a busy
        helper may have as many, so that nothing is said.
        """
        for pid in range(100, 101 + FAMILY_LIMIT):
            self.processes.fork(7, pid)
        self.accepted = self.onward
        self.assertIsNone(self.probe())
