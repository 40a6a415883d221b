"""
Tests for L{nanotun.engine.probe}.
"""

from __future__ import annotations

import errno
from socket import AF_INET, inet_pton
from typing import Any

from nanotun.engine.probe import PROBE_TIMEOUT, offloadWorks
from nanotun.testing import FAKE_FD
from tests.unit.engine.engine_cases import EngineCase


class ProbeTests(EngineCase):
    """
    Tests for L{offloadWorks}.
    """

    def probe(self, result: int) -> bool:
        """Ask a library that answers with C{result}."""
        self.library.results["ns_probe"] = result
        library: Any = self.library
        return offloadWorks(self.device, library)

    def test_answers(self) -> None:
        """
        1 means yes, 0 means no, and -errno is raised.
        """
        self.assertTrue(self.probe(1))
        self.assertFalse(self.probe(0))
        self.assertRaises(OSError, self.probe, -errno.EINVAL)

    def test_arguments(self) -> None:
        """
        The library is told of the device.
        """
        self.probe(1)
        ((fd, vnetHeader, mtu, name, gateway, timeout),) = self.library.named("ns_probe")
        self.assertEqual((fd, vnetHeader, mtu, name), (FAKE_FD, 10, 1500, b"nano0"))
        self.assertEqual(bytes(gateway), inet_pton(AF_INET, "198.18.0.1"))
        self.assertEqual(timeout, PROBE_TIMEOUT)
