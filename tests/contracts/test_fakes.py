"""
Tests for L{nanotun.testing}: the fakes keep the contracts, and so do the real
implementations.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys

from twisted.internet.defer import CancelledError, Deferred, DeferredQueue, succeed
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.engine.abi import LIBRARY_PATH
from nanotun.errors import DatagramsUnsupported, DeviceError, UpstreamRefused
from nanotun.flow import Datagram, Endpoint, Protocol, Refusal
from nanotun.interfaces import (
    DialEnd,
    DialEndKind,
    IFlowRequest,
    IGateway,
    ILegControl,
    INames,
    IPacketEngine,
    ITunDevice,
    ITunOpener,
    IUpstream,
    LegKind,
)
from nanotun.testing import (
    FAKE_ADDRESS,
    FakeControl,
    FakeGateway,
    FakeNames,
    FakeUpstream,
    MemoryEngine,
    MemoryTun,
    MemoryTunOpener,
)
from tests import ROOT
from tests.contracts.datagrams import DatagramApp, DatagramContract
from tests.contracts.dials import GOOD, DialContract, Far
from tests.contracts.tunnel import App, TunOpenerContract, WaitingHandler

PROJECT = str(ROOT)

#: Seconds for all contracts of the real implementations together.
REAL_LIMIT = 120

SEEN = {
    Refusal.RESET: errno.ECONNREFUSED,
    Refusal.HOST_UNREACHABLE: errno.EHOSTUNREACH,
    Refusal.NET_UNREACHABLE: errno.ENETUNREACH,
    Refusal.PROHIBITED: errno.EHOSTUNREACH,
    Refusal.PORT_UNREACHABLE: errno.ECONNREFUSED,
}
SOURCE = Endpoint("198.18.0.2", 40000)
SOURCE6 = Endpoint("fdfe:dcba:9876::2", 40000)


class MemoryTunTests(TunOpenerContract, TestCase):
    """
    Tests for L{MemoryTunOpener} and L{MemoryTun}.
    """

    def makeOpener(self) -> ITunOpener:
        """Make a fake one."""
        verifyClass(ITunOpener, MemoryTunOpener)
        verifyClass(ITunDevice, MemoryTun)
        return MemoryTunOpener()

    def test_failure(self) -> None:
        """
        A test may have an open fail, once.
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

    def say(self, request: IFlowRequest, name: str) -> None:
        """See L{App.say}."""
        self.engine.say(self.flowID, name)

    def close(self) -> None:
        """See L{App.close}."""
        self.engine.end(self.flowID)


class _Outcome(Deferred[int]):
    """Fires when it is awaited; nothing in memory takes time."""

    def __init__(self, app: MemoryApp) -> None:
        super().__init__()
        self.app = app

    def __await__(self):  # type: ignore[no-untyped-def]
        """Fire now."""
        engine, flowID = self.app.engine, self.app.flowID
        self.callback(0 if flowID in engine.joined else SEEN[engine.refused[flowID]])
        return super().__await__()


class MemoryDatagramApp(DatagramApp):
    """A program of L{MemoryEngine}."""

    def __init__(self, engine: MemoryEngine, destination: Endpoint) -> None:
        self.engine = engine
        self.destination = destination
        self.source = SOURCE6 if ":" in destination.host else SOURCE
        self.flowID = 0

    def send(self, payload: bytes) -> None:
        """See L{DatagramApp.send}."""
        if (Protocol.UDP, self.destination.port) in self.engine.listening:
            self.engine.deliver([Datagram(self.source, self.destination, payload)])
        else:
            request = self.engine.requestDatagrams(self.destination, self.source, payload)
            self.flowID = request.flow.id

    def received(self) -> Deferred[bytes]:
        """See L{DatagramApp.received}."""
        datagram = self.engine.sent.pop(0)
        assert datagram[:2] == (self.destination, self.source)
        return succeed(datagram.payload)

    def refused(self) -> Deferred[int]:
        """See L{DatagramApp.refused}."""
        return succeed(SEEN[self.engine.refused[self.flowID]])


class MemoryFar(Far):
    """The other side of a dial of L{MemoryEngine}."""

    def __init__(self, engine: MemoryEngine, flowID: int) -> None:
        self.engine = engine
        self.flowID = flowID
        self.connection: socket.socket | None = None

    def answer(self, data: bytes) -> None:
        """See L{Far.answer}."""
        if self.connection is not None:
            self.connection.close()
        elif data.startswith(GOOD):
            self.connection = self.engine.openDial(self.flowID, leftover=data[len(GOOD) :])
        else:
            near, self.connection = socket.socketpair()
            end = DialEnd(DialEndKind.HANDED, 0, 0, 0, near.detach(), data)
            self.engine.endDial(self.flowID, end)

    def ended(self) -> Deferred[None]:
        """See L{Far.ended}."""
        if self.connection is not None:
            assert self.connection.recv(1) == b""
        else:
            assert self.flowID not in self.engine.dialled
        return succeed(None)


class MemoryEngineTests(DatagramContract, DialContract, TestCase):
    """
    Tests for L{MemoryEngine}.
    """

    engine: MemoryEngine

    def setUp(self) -> None:
        """Make what the tests use."""
        verifyClass(IPacketEngine, MemoryEngine)
        self.engine = MemoryEngine()
        self.engine.flowLimit = self.FLOW_LIMIT
        self.ends = DeferredQueue()
        self.refusals = DeferredQueue()
        self.handler = WaitingHandler()
        self.device = MemoryTunOpener().open("nano0", 1500, "off")
        self.engine.start(self.device, self.handler)
        self.addCleanup(self.engine.stop)

    def dial(self, destination: Endpoint) -> App:
        """See L{EngineContract.dial}."""
        return MemoryApp(self.engine, self.engine.request(destination).flow.id)

    def farAddress(self) -> bytes:
        """See L{DialContract.farAddress}."""
        return FAKE_ADDRESS

    def far(self, app: App) -> Deferred[Far]:
        """See L{DialContract.far}."""
        assert isinstance(app, MemoryApp)
        plan = self.engine.dialled[app.flowID]
        if plan.course.patience:
            self.engine.goSilent(app.flowID)
        return succeed(MemoryFar(self.engine, app.flowID))

    def refuseDial(self, app: App) -> None:
        """See L{DialContract.refuseDial}."""
        assert isinstance(app, MemoryApp)
        end = DialEnd(DialEndKind.FAILED, errno.ECONNREFUSED)
        self.engine.endDial(app.flowID, end)

    def sender(self, destination: Endpoint) -> DatagramApp:
        """See L{DatagramContract.sender}."""
        return MemoryDatagramApp(self.engine, destination)

    def test_notListening(self) -> None:
        """
        A service does not get datagrams to other ports of the gateway.
        """
        batches = self.serve()
        stray = Datagram(SOURCE, Endpoint("198.18.0.1", 54), b"x")
        query = Datagram(SOURCE, Endpoint("198.18.0.1", 53), b"x")
        self.engine.deliver([stray])
        self.engine.deliver([stray, query])
        self.assertEqual(batches.pending, [[query]])

    def test_busy(self) -> None:
        """
        A test may have an association refuse a flow, end, or not open at all.
        """
        association, _ = self.openLeg(shared=True)
        self.assertEqual(self.engine.shared, {association})
        self.engine.busy.add(association)
        request = self.engine.requestDatagrams()
        self.assertFalse(request.attach(association))
        self.engine.endAssociation(association)
        self.assertEqual(self.ends.pending, [errno.ETIMEDOUT])
        self.engine.associationError = OSError(errno.EMFILE, "why")
        self.assertRaises(OSError, self.openLeg)

    def test_lend(self) -> None:
        """
        A device can be lent once, until it is returned.
        """
        self.assertTrue(self.engine.lend(lambda: None))
        self.assertFalse(self.engine.lend(lambda: None))
        self.engine.giveBack()
        self.assertTrue(self.engine.lend(lambda: None))


class FakeUpstreamTests(SynchronousTestCase):
    """
    Tests for L{FakeUpstream}; C{tests/unit/upstream/} has the same for the real upstreams.
    """

    def test_interface(self) -> None:
        """
        It provides the interface.
        """
        verifyClass(IUpstream, FakeUpstream)
        verifyObject(IUpstream, FakeUpstream())
        self.assertEqual(FakeUpstream().describe(), "fake://")

    def test_datagramLegs(self) -> None:
        """
        Dials for datagrams are answered in order, apart from the others; a control
        connection ends when the test says so.
        """
        upstream = FakeUpstream()
        legs = [upstream.associate(family) for family in (4, 6, 4)]
        self.assertEqual(upstream.families, [4, 6, 4])
        legs[0].cancel()
        self.failureResultOf(legs[0], CancelledError)
        upstream.failDatagrams(DatagramsUnsupported("why"))
        self.failureResultOf(legs[1], DatagramsUnsupported)
        control = upstream.answerDatagrams()
        leg = self.successResultOf(legs[2])
        os.close(leg.fd)
        self.assertEqual((leg.kind, leg.control), (LegKind.SOCKS5, control))
        verifyClass(ILegControl, FakeControl)
        verifyObject(ILegControl, control)
        lost: list[str] = []
        control.watch(lost.append)
        control.lose("gone")
        control.close()
        control.lose()
        self.assertEqual((lost, control.closed), (["gone"], True))

    def test_lostBefore(self) -> None:
        """
        A control connection that was lost before it is watched says so at once.
        """
        control, lost = FakeControl(), []  # type: ignore[var-annotated]
        control.lose("gone")
        control.watch(lost.append)
        self.assertEqual(lost, ["gone"])

    def test_legs(self) -> None:
        """
        Dials are answered in order, without those that were cancelled.
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


class FakeNamesTests(SynchronousTestCase):
    """
    Tests for L{FakeNames}.
    """

    def test_interface(self) -> None:
        """
        It provides what a router knows of names.
        """
        verifyClass(INames, FakeNames, tentative=True)
        verifyObject(INames, FakeNames())


class FakeGatewayTests(SynchronousTestCase):
    """
    Tests for L{FakeGateway}.
    """

    def test_interface(self) -> None:
        """
        It provides what a router knows of the gateway.
        """
        verifyClass(IGateway, FakeGateway)
        verifyObject(IGateway, FakeGateway())


class RealTests(TestCase):
    """
    The real implementations keep the same contracts.

    In another process, because a thread that entered a namespace never quite leaves it.
    """

    def test_contracts(self) -> None:
        """
        L{tests.contracts.real} passes in a network namespace of its own.
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
                "tests.contracts.real",
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
