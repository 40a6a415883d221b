"""
Tests for L{nanotun.owners.askers}.
"""

from __future__ import annotations

import errno

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.askers import Asker, Askers
from nanotun.testing import FakeSockets

SERVER = Endpoint("198.18.0.1", 53)


class AskersTests(SynchronousTestCase):
    """Tests for L{Askers}."""

    def setUp(self) -> None:
        """Sockets that nobody asked about yet."""
        self.sockets = FakeSockets()
        self.askers = Askers(self.sockets)

    def find(self, port: int = 40000) -> Asker | None:
        """Who asks from a port."""
        return self.askers.find(Flow(0, Protocol.UDP, Endpoint("198.18.0.2", port), SERVER))

    def test_found(self) -> None:
        """Programs of one user in one control group are one, whatever their sockets."""
        for port, uid, cgroup in ((1, 7, 1), (2, 7, 1), (3, 7, 2), (4, 8, 1)):
            local = Endpoint("198.18.0.2", port)
            self.sockets.add(Protocol.UDP, local, SERVER, uid=uid, cgroup=cgroup)
        found = [self.find(port) for port in (1, 2, 3, 4)]
        self.assertEqual(found[0], found[1])
        self.assertEqual(len(set(found)), 3)
        self.assertEqual(str(found[0]), "The programs of uid 7")

    def test_gone(self) -> None:
        """All whose sockets are closed are one."""
        found = self.find()
        self.assertEqual(found, self.find(40001))
        self.assertEqual(str(found), "Programs that have ended")

    def test_failure(self) -> None:
        """If the kernel cannot be asked nothing is known, and it is asked again."""
        self.sockets.failure = OSError(errno.EPERM, "no")
        self.assertIsNone(self.find())
        self.sockets.failure = None
        self.assertIsNotNone(self.find())
