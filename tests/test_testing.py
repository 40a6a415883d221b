"""
Tests for L{nanotun.testing}: the fakes keep the contracts, and so do the real
things.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.engine.abi import LIBRARY_PATH
from nanotun.errors import DeviceError, UpstreamRefused
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import IPacketEngine, ITunDevice, ITunOpener, IUpstream
from nanotun.testing import FakeUpstream, MemoryEngine, MemoryTun, MemoryTunOpener
from tests.contracts import App, EngineContract, TunOpenerContract, WaitingHandler

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

#: Seconds for all contracts of the real things together.
REAL_LIMIT = 60

SEEN = {
    Refusal.RESET: errno.ECONNREFUSED,
    Refusal.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Refusal.NET_UNREACHABLE: errno.ENETUNREACH,
    Refusal.PROHIBITED: errno.EHOSTUNREACH,
}


class MemoryTunTests(TunOpenerContract, TestCase):
    """
    Tests for L{MemoryTunOpener} and L{MemoryTun}.
    """

    def makeOpener(self) -> ITunOpener:
        """A fake."""
        verifyClass(ITunOpener, MemoryTunOpener)
        verifyClass(ITunDevice, MemoryTun)
        return MemoryTunOpener()

    def test_failure(self) -> None:
        """
        A test may have it fail, once.
        """
        opener = MemoryTunOpener()
        opener.failure = DeviceError("why")
        self.assertRaises(DeviceError, opener.open, "nano0", 1500, "auto")
        opener.offloadWorks = False
        self.assertEqual(opener.open("nano0", 1500, "auto").vnetHeader, 0)
        self.assertRaises(DeviceError, opener.open, "nano1", 1500, "on")


class MemoryApp(App):
    """An app of L{MemoryEngine}."""

    def __init__(self, engine: MemoryEngine, flowID: int) -> None:
        self.engine = engine
        self.flowID = flowID

    def outcome(self) -> Deferred[int]:
        """See L{App.outcome}."""
        return _Outcome(self)

    def read(self, count: int) -> Deferred[bytes]:
        """See L{App.read}."""
        return succeed(self.engine.joined[self.flowID][1][:count])

    def close(self) -> None:
        """See L{App.close}."""
        self.engine.end(self.flowID)


class _Outcome(Deferred[int]):
    """Looks when it is awaited; nothing in memory takes time."""

    def __init__(self, app: MemoryApp) -> None:
        super().__init__()
        self.app = app

    def __await__(self):  # type: ignore[no-untyped-def]
        """Look now."""
        engine, flowID = self.app.engine, self.app.flowID
        self.callback(0 if flowID in engine.joined else SEEN[engine.refused[flowID]])
        return super().__await__()


class MemoryEngineTests(EngineContract, TestCase):
    """
    Tests for L{MemoryEngine}.
    """

    engine: MemoryEngine

    def setUp(self) -> None:
        """Make what the tests use."""
        verifyClass(IPacketEngine, MemoryEngine)
        self.engine = MemoryEngine()
        self.engine.flowLimit = self.FLOW_LIMIT
        self.handler = WaitingHandler()
        self.device = MemoryTunOpener().open("nano0", 1500, "off")
        self.engine.start(self.device, self.handler)
        self.addCleanup(self.engine.stop)

    def dial(self, destination: Endpoint) -> App:
        """See L{EngineContract.dial}."""
        return MemoryApp(self.engine, self.engine.request(destination).flow.id)

    def test_lend(self) -> None:
        """
        It takes the device once.
        """
        self.assertTrue(self.engine.lend(lambda: None))
        self.assertFalse(self.engine.lend(lambda: None))
        self.engine.giveBack()
        self.assertTrue(self.engine.lend(lambda: None))


class FakeUpstreamTests(SynchronousTestCase):
    """
    Tests for L{FakeUpstream}; tests/test_upstream_connector.py has the same of
    the real ones.
    """

    def test_interface(self) -> None:
        """
        It is an upstream.
        """
        verifyClass(IUpstream, FakeUpstream)
        verifyObject(IUpstream, FakeUpstream())
        self.assertEqual(FakeUpstream().describe(), "fake://")

    def test_legs(self) -> None:
        """
        Legs are answered in order; one that is given up is out of it.
        """
        upstream = FakeUpstream()
        legs = [upstream.connect(Endpoint("192.0.2.1", port)) for port in (1, 2, 3)]
        legs[0].cancel()
        self.failureResultOf(legs[0], CancelledError)
        self.assertEqual(upstream.cancelled, 1)
        upstream.fail(UpstreamRefused("why"))
        self.failureResultOf(legs[1], UpstreamRefused)
        far = upstream.answer(b"x")
        self.addCleanup(far.close)
        connection = self.successResultOf(legs[2])
        self.assertEqual(connection.leftover, b"x")
        self.assertFalse(os.get_blocking(connection.fd))
        os.close(connection.fd)
        self.assertEqual(far.recv(1), b"")


class RealTests(TestCase):
    """
    The real things keep the same contracts.

    In another process: a thread that entered a namespace never quite leaves it.
    """

    def test_contracts(self) -> None:
        """
        tests/contracts_real.py passes in a network namespace of its own.
        """
        unshare = shutil.which("unshare")
        if os.geteuid() != 0 or unshare is None:
            self.skipTest("a network namespace takes root and unshare(1)")
        if not os.path.exists("/dev/net/tun"):
            self.skipTest("there is no /dev/net/tun")
        if not os.path.exists(LIBRARY_PATH):
            self.skipTest("the native library is not built")
        trial = [sys.executable, "-m", "twisted.trial", "--temp-directory"]
        done = subprocess.run(
            [
                unshare,
                "--net",
                "--",
                *trial,
                os.path.abspath(self.mktemp()),
                "tests.contracts_real",
            ],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=REAL_LIMIT,
            check=False,
        )
        output = done.stdout.decode(errors="replace")
        self.assertEqual(done.returncode, 0, output)
        self.assertIn("PASSED", output)
        self.assertNotIn("skips=", output)
