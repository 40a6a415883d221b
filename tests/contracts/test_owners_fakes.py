"""
The fakes of L{nanotun.testing.owners} keep what L{nanotun.owners.interfaces} promises.
"""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.interfaces import ICgroups
from nanotun.testing import FakeCgroups, FakeProcesses, FakeSockets
from tests.contracts.owners import ProcessesContract, SocketsContract


class FakeProcessesTests(ProcessesContract, SynchronousTestCase):
    """
    Tests for L{FakeProcesses}.
    """

    program = "/usr/bin/dash"

    def setUp(self) -> None:
        """One world for a test."""
        self.processes = FakeProcesses()

    def makeProcesses(self) -> FakeProcesses:
        """The fake."""
        return self.processes

    def spawn(self) -> tuple[int, int]:
        """A process of the fake."""
        self.processes.open(self.processes.spawn(40, self.program), 4711)
        return 40, 4711

    def execute(self, pid: int) -> None:
        """By the fake."""
        self.processes.execute(pid, "/usr/bin/cat")

    def end(self, pid: int) -> None:
        """By the fake."""
        self.processes.end(pid)


class FakeSocketsTests(SocketsContract, SynchronousTestCase):
    """
    Tests for L{FakeSockets}.
    """

    def setUp(self) -> None:
        """One world for a test."""
        self.sockets = FakeSockets()
        self.sockets.start()
        self.ports = itertools.count(40000)

    def makeSockets(self) -> FakeSockets:
        """The fake."""
        return self.sockets

    def connect(self, protocol: Protocol, host: str, mapped: bool = False) -> tuple[Flow, int]:
        """By the fake, for which mapped addresses are nothing else."""
        here, there = Endpoint(host, next(self.ports)), Endpoint(host, 80)
        return Flow(1, protocol, here, there), self.sockets.add(protocol, here, there)

    def bind(self, host: str, port: int = 0, share: bool = False) -> tuple[Endpoint, int]:
        """By the fake."""
        here = Endpoint(host, port or next(self.ports))
        return here, self.sockets.add(Protocol.UDP, here)

    def listen(self, host: str) -> tuple[Endpoint, int]:
        """By the fake."""
        here = Endpoint(host, next(self.ports))
        return here, self.sockets.add(Protocol.TCP, here, listens=True)


class FakeCgroupsTests(SynchronousTestCase):
    """
    Tests for L{FakeCgroups}.
    """

    def test_interface(self) -> None:
        """It provides the interface, and returns what the test set."""
        cgroups = FakeCgroups()
        verifyObject(ICgroups, cgroups)
        self.assertEqual((cgroups.pathOf(1), cgroups.pathOf(2)), ("/", ""))
        self.assertIsNone(cgroups.members("/"))
