"""
Tests for L{nanotun.engine.native}: what goes down to the library.
"""

from __future__ import annotations

import errno
import os

from nanotun.engine.native import FLOW_LIMIT
from nanotun.errors import FlowLimitError
from nanotun.flow import Refusal
from tests.engine_cases import HANDLE, EngineCase, request


class DecisionTests(EngineCase):
    """
    Tests for what goes down to the library.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.library.events = [request(1)]
        self.engine.doRead()
        (self.request,) = self.handler.requests

    def test_join(self) -> None:
        """
        A join passes the fd and the leftover.
        """
        self.assertTrue(self.request.join(5, b"hello"))
        self.assertEqual(self.library.named("ns_join"), [(HANDLE, 1, 5, b"hello", 5)])

    def test_joinTooLate(self) -> None:
        """
        ENOENT says that the app is gone.
        """
        self.library.results["ns_join"] = -errno.ENOENT
        self.assertFalse(self.request.join(5))

    def test_joinOverLimit(self) -> None:
        """
        EMFILE says that too many flows are joined; the error tells how many.
        """
        self.library.results["ns_join"] = -errno.EMFILE
        error = self.assertRaises(FlowLimitError, self.request.join, 5)
        self.assertEqual(error.limit, FLOW_LIMIT)
        self.assertIn(f"{FLOW_LIMIT} connections", str(error))

    def test_joinFails(self) -> None:
        """
        Any other error is raised.
        """
        self.library.results["ns_join"] = -errno.EINVAL
        self.assertRaises(OSError, self.request.join, 5)

    def test_refuse(self) -> None:
        """
        A refusal passes the reason; that the app is gone does not matter.
        """
        self.library.results["ns_refuse"] = -errno.ENOENT
        self.request.refuse(Refusal.HOST_UNREACHABLE)
        self.assertEqual(self.library.named("ns_refuse"), [(HANDLE, 1, 2)])

    def test_drop(self) -> None:
        """
        A drop passes the flow; an error is raised.
        """
        self.library.results["ns_drop"] = -errno.EINVAL
        self.assertRaises(OSError, self.request.drop)

    def test_afterStop(self) -> None:
        """
        Decisions after the stop reach nobody, and a joined fd is closed.
        """
        self.successResultOf(self.engine.stop())
        near, far = os.pipe()
        self.addCleanup(os.close, far)
        self.assertFalse(self.request.join(near))
        self.assertRaises(OSError, os.fstat, near)
        self.engine.refuseFlow(1, Refusal.RESET)
        self.engine.dropFlow(1)
        self.assertEqual(self.library.named("ns_refuse") + self.library.named("ns_drop"), [])
