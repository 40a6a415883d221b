"""
Tests for L{nanotun.engine.native}.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from socket import AF_INET, AF_INET6, inet_pton

from twisted.plugin import IPlugin
from zope.interface.verify import verifyClass, verifyObject

from nanotun.engine import abi, native
from nanotun.engine.plugin import EngineFactory
from nanotun.errors import EngineError
from nanotun.flow import Protocol
from nanotun.interfaces import DatagramLeg, IPacketEngine, IPacketEngineFactory, LegKind
from nanotun.testing import FAKE_FD, FAKE_INDEX
from tests.unit.engine.engine_cases import EVENT_FD, HANDLE, EngineCase, request


class StartTests(EngineCase):
    """
    Tests for L{native.NativeEngine.start}.
    """

    def test_interfaces(self) -> None:
        """
        A factory for each stack makes engines that are what they say.
        """
        verifyClass(IPacketEngine, native.NativeEngine)
        self.assertEqual(set(native.STACKS), {"gvisor", "simple"})
        for mode in native.STACKS:
            plugin = EngineFactory(mode)
            verifyObject(IPacketEngineFactory, plugin)
            self.assertTrue(IPlugin.providedBy(plugin))
            made = plugin.createEngine(self.reactor, 60.0)
            self.assertIsInstance(made, native.NativeEngine)
            verifyObject(IPacketEngine, made)
            self.assertEqual((plugin.stackMode, made.stackMode), (mode, mode))

    def test_config(self) -> None:
        """
        The library is told of the device, the stack, the limits, the gateway and the kernel.
        """
        self.start()
        config = self.library.config
        self.assertEqual(config["size"], abi.CONFIG_SIZE)
        self.assertEqual(config["tun_fd"], FAKE_FD)
        self.assertEqual((config["mtu"], config["vnet_header"]), (1500, 10))
        self.assertEqual(config["device"], FAKE_INDEX)
        self.assertEqual(config["stack"], abi.NS_STACK_GVISOR)
        self.assertEqual(bytes(config["gateway4"]), inet_pton(AF_INET, "198.18.0.1"))
        self.assertEqual(bytes(config["gateway6"]), inet_pton(AF_INET6, "fdfe:dcba:9876::1"))
        self.assertEqual(config["pending_limit"], native.PENDING_LIMIT)
        self.assertEqual(bytes(config["kernel4"]), inet_pton(AF_INET, "198.18.0.2"))
        self.assertEqual(bytes(config["kernel6"]), inet_pton(AF_INET6, "fdfe:dcba:9876::2"))
        self.assertEqual(config["flow_limit"], native.FLOW_LIMIT)
        self.assertEqual(config["half_open_limit"], native.HALF_OPEN_LIMIT)
        self.assertEqual(config["half_open_s"], 10)
        self.assertEqual(config["association_limit"], native.ASSOCIATION_LIMIT)
        self.assertEqual(config["datagram_flow_limit"], native.DATAGRAM_FLOW_LIMIT)
        self.assertEqual(config["udp_timeout_ms"], 60_000)
        (reader,) = self.reactor.getReaders()
        self.assertEqual(reader.fileno(), EVENT_FD)

    def test_simple(self) -> None:
        """
        The simple engine has the library make the simple stack.
        """
        self.makeEngine("simple")
        self.start()
        self.assertEqual(self.library.config["stack"], abi.NS_STACK_SIMPLE)

    def test_openFails(self) -> None:
        """
        A stack that cannot be made is an L{EngineError}; nothing is watched.
        """
        self.library.results["ns_open"] = -errno.ENOMEM
        error = self.assertRaises(EngineError, self.start)
        self.assertIn("gvisor", str(error))
        self.assertIn("Cannot allocate memory", str(error))
        self.assertEqual(self.reactor.getReaders(), [])

    def test_noEventDescriptor(self) -> None:
        """
        A stack without an eventfd is closed again.
        """
        self.library.results["ns_event_fd"] = -errno.EMFILE
        self.assertRaises(EngineError, self.start)
        self.assertEqual(self.library.named("ns_close"), [(HANDLE,)])

    def test_twice(self) -> None:
        """
        A running engine cannot be started again.
        """
        self.start()
        self.assertRaises(EngineError, self.start)


class PumpTests(EngineCase):
    """
    Tests for L{native.NativeEngine.pump}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()

    def test_events(self) -> None:
        """
        Events that a pump raised are handled before it goes on, and it goes on
        with what is left of the budget.
        """
        self.library.results["ns_pump"] = [3, 2]
        self.library.events = [request(1)]
        self.assertEqual(self.engine.pump(64), 5)
        self.assertEqual(len(self.handler.requests), 1)
        self.assertEqual(self.library.named("ns_pump"), [(HANDLE, 64), (HANDLE, 61)])

    def test_turn(self) -> None:
        """
        A pump ends with the requests of one turn, and where nothing was read: flows that
        still wait do not keep the reactor.
        """
        self.library.results["ns_pump"] = [9, 0, 0]
        self.library.events = [request(flow) for flow in range(native.TURN)]
        self.assertEqual(self.engine.pump(64), 9)
        self.library.events = [request(100)]
        self.assertEqual(self.engine.pump(64), 0)
        self.assertEqual(len(self.library.named("ns_pump")), 2)
        self.assertEqual(len(self.handler.requests), native.TURN + 1)

    def test_budget(self) -> None:
        """
        A pump ends when its budget is used up.
        """
        self.library.results["ns_pump"] = [64]
        self.library.events = [request(1)]
        self.assertEqual(self.engine.pump(64), 64)

    def test_error(self) -> None:
        """
        An error of the library is raised.
        """
        self.library.results["ns_pump"] = -errno.EIO
        error = self.assertRaises(OSError, self.engine.pump, 64)
        self.assertEqual(error.errno, errno.EIO)

    def test_stoppedByHandler(self) -> None:
        """
        A handler may stop the engine.
        """
        self.library.results["ns_pump"] = [1]
        self.library.events = [request(1)]
        self.handler.flowRequested = lambda request: self.engine.stop()  # type: ignore
        self.assertEqual(self.engine.pump(64), 1)
        self.assertEqual(self.library.named("ns_close"), [(HANDLE,)])


class LendTests(EngineCase):
    """
    Tests for L{native.NativeEngine.lend}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.returns: list[None] = []

    def lend(self) -> bool:
        """Lend the device."""
        return self.engine.lend(lambda: self.returns.append(None))

    def test_returned(self) -> None:
        """
        The lender is told once that the device is back, and may lend it again.
        """
        self.start()
        self.assertTrue(self.lend())
        self.assertFalse(self.lend())
        self.readEvents(*[{"kind": abi.NS_EVENT_DEVICE_RETURNED}] * 2)
        self.assertEqual(len(self.returns), 1)
        self.assertTrue(self.lend())
        self.assertEqual(self.library.named("ns_lend"), [(HANDLE,)] * 2)

    def test_refused(self) -> None:
        """
        A device that the library does not take is not lent.
        """
        self.start()
        self.library.results["ns_lend"] = -errno.EBUSY
        self.assertFalse(self.lend())

    def test_notRunning(self) -> None:
        """
        An engine that does not run, or is about to stop, takes no device.
        """
        self.assertFalse(self.lend())
        self.start()
        self.library.results["ns_quiesce"] = 1
        self.engine.stop()
        self.assertFalse(self.lend())
        self.assertEqual(self.library.named("ns_lend"), [])


class AssociationTests(EngineCase):
    """
    Tests for associations, and for the ports that services listen on.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()
        self.library.results["ns_associate"] = 7
        self.ends: list[int] = []
        self.refusals: list[int] = []

    def open(self, kind: LegKind = LegKind.SOCKS5, shared: bool = False, name: str = "") -> int:
        """Open an association."""
        leg = DatagramLeg(5, kind, None)
        refused = partial(self.refusals.append, 7)
        return self.engine.openAssociation(leg, self.ends.append, refused, shared, name)

    def end(self, error: int) -> None:
        """The library ends it."""
        self.readEvents({"kind": abi.NS_EVENT_ASSOCIATION_CLOSED, "flow": 7, "error": error})

    def test_open(self) -> None:
        """
        The library is told of the fd, the kind, whether it is shared, and the name.
        """
        self.assertEqual(self.open(), 7)
        self.open(LegKind.DIRECT, True)
        self.open(name="a.example")
        self.assertEqual(
            self.library.named("ns_associate"),
            [
                (HANDLE, 5, abi.NS_LEG_SOCKS5, 0, b"", 0),
                (HANDLE, 5, abi.NS_LEG_DIRECT, abi.NS_LEG_SHARED, b"", 0),
                (HANDLE, 5, abi.NS_LEG_SOCKS5, 0, b"a.example", 9),
            ],
        )

    def test_openFails(self) -> None:
        """
        An error is raised; the library owns the fd all the same.
        """
        self.library.results["ns_associate"] = -errno.EINVAL
        self.assertRaises(OSError, self.open)

    def test_ended(self) -> None:
        """
        The opener is told once why the association ended, and a close after that does
        nothing.
        """
        self.open()
        self.end(errno.ETIMEDOUT)
        self.end(errno.EBADF)
        self.assertEqual(self.ends, [errno.ETIMEDOUT])
        self.engine.closeAssociation(7)
        self.assertEqual(self.library.named("ns_dissociate"), [])

    def test_close(self) -> None:
        """
        After a close the opener is told nothing, also if the association ended at the same
        moment.
        """
        self.open()
        self.engine.closeAssociation(7)
        self.end(errno.ETIMEDOUT)
        self.assertEqual(self.library.named("ns_dissociate"), [(HANDLE, 7)])
        self.assertEqual(self.ends, [])

    def test_refused(self) -> None:
        """
        The opener is told of each refusal while the association is there, and of none later.
        """
        refused = {"kind": abi.NS_EVENT_ASSOCIATION_REFUSED, "flow": 7}
        self.open()
        self.readEvents(refused, refused)
        self.assertEqual((self.refusals, self.ends), ([7, 7], []))
        self.end(errno.ETIMEDOUT)
        self.readEvents(refused)
        self.open()
        self.engine.closeAssociation(7)
        self.readEvents(refused)
        self.assertEqual(self.refusals, [7, 7])

    def test_closeFails(self) -> None:
        """
        No error of a close is expected, so each is raised.
        """
        for error in (errno.EBADF, errno.ENOENT):
            self.open()
            self.library.results["ns_dissociate"] = -error
            self.assertRaises(OSError, self.engine.closeAssociation, 7)

    def test_endFlows(self) -> None:
        """
        The library is given the flows to end, and tells how many it knew.
        """
        self.library.results["ns_end"] = 2
        self.assertEqual(self.engine.endFlows([7, 2**63, 9]), 2)
        ((handle, ids, count),) = self.library.named("ns_end")
        self.assertEqual((handle, list(ids), count), (HANDLE, [7, 2**63, 9], 3))
        self.assertEqual(self.engine.endFlows([]), 0)
        self.assertEqual(len(self.library.named("ns_end")), 1)

    def test_listen(self) -> None:
        """
        The library is told of protocol and port, and may refuse.
        """
        self.engine.listen(Protocol.UDP, 53)
        self.assertEqual(self.library.named("ns_listen"), [(HANDLE, 17, 53)])
        self.library.results["ns_listen"] = -errno.EINVAL
        self.assertRaises(OSError, self.engine.listen, Protocol.TCP, 53)

    def test_afterStop(self) -> None:
        """
        After the stop an association cannot be opened and its fd is closed; nothing is
        told of those that were open.
        """
        self.open()
        self.successResultOf(self.engine.stop())
        before = len(self.library.calls)
        near, far = os.pipe()
        self.addCleanup(os.close, far)
        leg = DatagramLeg(near, LegKind.DIRECT, None)
        self.assertRaises(OSError, self.engine.openAssociation, leg, self.ends.append, list)
        self.assertRaises(OSError, os.fstat, near)
        self.engine.closeAssociation(7)
        self.engine.listen(Protocol.UDP, 53)
        self.assertEqual((len(self.library.calls), self.ends), (before, []))


class StopTests(EngineCase):
    """
    Tests for L{native.NativeEngine.stop}.
    """

    def test_notStarted(self) -> None:
        """
        An engine that was not started stops at once, and its counters are 0.
        """
        self.successResultOf(self.engine.stop())
        self.assertEqual(self.engine.stats().flows, 0)

    def test_atOnce(self) -> None:
        """
        Without flows the stop is immediate and complete.
        """
        self.start()
        self.successResultOf(self.engine.stop())
        self.assertEqual(self.library.named("ns_close"), [(HANDLE,)])
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.engine.pump(1), 0)
        self.successResultOf(self.engine.stop())

    def test_flowsFinish(self) -> None:
        """
        Flows with bytes under way get time to finish, and their packets are still read.
        """
        self.start()
        self.library.results["ns_quiesce"] = [2, 1, 0]
        done, again = self.engine.stop(), self.engine.stop()
        self.reactor.advance(native.QUIESCE_INTERVAL)
        self.assertNoResult(done)
        self.reactor.advance(native.QUIESCE_INTERVAL)
        self.successResultOf(done)
        self.successResultOf(again)
        self.assertEqual(len(self.library.named("ns_pump")), 2)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_limit(self) -> None:
        """
        The time has a limit, after which the rest is reset.
        """
        self.start()
        self.library.results["ns_quiesce"] = 1
        self.library.results["ns_close"] = -errno.ETIMEDOUT
        done = self.engine.stop()
        self.reactor.pump([native.QUIESCE_INTERVAL] * 49)
        self.assertNoResult(done)
        self.reactor.pump([native.QUIESCE_INTERVAL] * 2)
        self.successResultOf(done)
        self.assertEqual(len(self.library.named("ns_close")), 1)
