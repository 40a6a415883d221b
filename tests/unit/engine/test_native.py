"""
Tests for L{nanotun.engine.native}: start, stop, packets and events.
"""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, inet_pton

from twisted.internet.interfaces import IReadDescriptor
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface.verify import verifyClass, verifyObject

from nanotun.engine import abi, native
from nanotun.engine.decisions import ASSOCIATION_LIMIT, FLOW_LIMIT
from nanotun.engine.factories import SimpleEngine, SimpleEngineFactory
from nanotun.engine.gvisor import GVisorEngine, GVisorEngineFactory
from nanotun.errors import EngineError
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.interfaces import IPacketEngine, IPacketEngineFactory
from nanotun.testing import FAKE_FD
from tests.unit.engine.engine_cases import EVENT_FD, HANDLE, EngineCase, request


class StartTests(EngineCase):
    """
    Tests for L{native.NativeEngine.start}.
    """

    def test_interfaces(self) -> None:
        """
        The engines and their factories are what they say.
        """
        for engine, factory, mode in (
            (GVisorEngine, GVisorEngineFactory, "gvisor"),
            (SimpleEngine, SimpleEngineFactory, "simple"),
        ):
            verifyClass(IPacketEngine, engine)
            verifyClass(IReadDescriptor, engine)
            plugin = factory()
            verifyObject(IPacketEngineFactory, plugin)
            self.assertTrue(IPlugin.providedBy(plugin))
            made = plugin.createEngine(self.reactor, 60.0)
            self.assertIsInstance(made, engine)
            verifyObject(IPacketEngine, made)
            self.assertEqual((plugin.stackMode, made.stackMode), (mode, mode))

    def test_config(self) -> None:
        """
        The library is told of the device, the stack, the limits and the gateway.
        """
        self.start()
        config = self.library.config
        self.assertEqual(config["size"], abi.CONFIG_SIZE)
        self.assertEqual(config["tun_fd"], FAKE_FD)
        self.assertEqual((config["mtu"], config["vnet_header"]), (1500, 10))
        self.assertEqual(config["stack"], abi.NS_STACK_GVISOR)
        self.assertEqual(SimpleEngine.stack, abi.NS_STACK_SIMPLE)
        self.assertEqual(bytes(config["gateway4"]), inet_pton(AF_INET, "198.18.0.1"))
        self.assertEqual(bytes(config["gateway6"]), inet_pton(AF_INET6, "fdfe:dcba:9876::1"))
        self.assertEqual(config["pending_limit"], native.PENDING_LIMIT)
        self.assertLess(config["pending_per_source"], config["pending_limit"])
        self.assertEqual(config["flow_limit"], FLOW_LIMIT)
        self.assertEqual(config["association_limit"], ASSOCIATION_LIMIT)
        self.assertEqual(config["datagram_flow_limit"], native.DATAGRAM_FLOW_LIMIT)
        self.assertEqual(config["udp_timeout_ms"], 60_000)
        self.assertEqual(self.reactor.getReaders(), [self.engine])
        self.assertEqual(self.engine.fileno(), EVENT_FD)

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
        An engine that runs cannot be started.
        """
        self.start()
        self.assertRaises(EngineError, self.start)


class EventTests(EngineCase):
    """
    Tests for what comes up from the library.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.start()

    def test_request(self) -> None:
        """
        A request arrives with its addresses, IPv4 and IPv6.
        """
        self.library.events = [request(1), request(2, "2001:db8::1")]
        self.assertIsNone(self.engine.doRead())
        self.assertEqual(
            [each.flow for each in self.handler.requests],
            [
                Flow(1, Protocol.TCP, Endpoint("198.18.0.2", 4000), Endpoint("192.0.2.1", 80)),
                Flow(2, Protocol.TCP, Endpoint("2001:db8::2", 4000), Endpoint("2001:db8::1", 80)),
            ],
        )

    def test_others(self) -> None:
        """
        So do the other events.
        """
        closed = {**request(3), "kind": abi.NS_EVENT_CLOSED, "error": errno.EPIPE}
        self.library.events = [
            {"kind": abi.NS_EVENT_ABANDONED, "flow": 1},
            {**closed, "bytes_up": 5, "bytes_down": 6},
        ]
        self.engine.doRead()
        self.assertEqual(self.handler.abandoned, [1])
        (end,) = self.handler.ends
        self.assertEqual((end.flow.id, end.error, end.bytesUp, end.bytesDown), (3, 32, 5, 6))

    def test_datagramRequest(self) -> None:
        """
        A request for datagrams is of another kind, and UDP.
        """
        self.library.events = [request(1, "2001:db8::1", abi.NS_EVENT_UDP_REQUEST)]
        self.engine.doRead()
        (found,) = self.handler.datagramRequests
        self.assertEqual(
            found.flow,
            Flow(1, Protocol.UDP, Endpoint("2001:db8::2", 4000), Endpoint("2001:db8::1", 80)),
        )
        self.assertEqual(self.handler.requests, [])

    def test_endUnread(self) -> None:
        """
        An end that nobody follows is not even decoded; what comes with it is.
        """
        self.handler.followsFlows = False
        self.patch(native, "inet_ntop", lambda *_: self.fail("decoded"))
        closed = {**request(3), "kind": abi.NS_EVENT_CLOSED}
        self.library.events = [closed, {"kind": abi.NS_EVENT_ABANDONED, "flow": 1}]
        self.engine.doRead()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual((self.handler.ends, self.handler.abandoned), ([], [1]))

    def test_manyBatches(self) -> None:
        """
        More events than fit the array come in one go all the same.
        """
        self.library.events = [request(n + 1) for n in range(native.DRAIN_BATCH * 2 + 1)]
        self.engine.doRead()
        self.assertEqual(len(self.handler.requests), native.DRAIN_BATCH * 2 + 1)

    def test_exception(self) -> None:
        """
        A handler that raises costs that flow, not the ones after it.
        """
        for kind in (abi.NS_EVENT_TCP_REQUEST, abi.NS_EVENT_UDP_REQUEST):
            self.handler.failure = ZeroDivisionError()
            self.library.events = [request(1, kind=kind), request(2, kind=kind)]
            self.engine.doRead()
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.library.named("ns_drop"), [(HANDLE, 1)] * 2)
        self.assertEqual([each.flow.id for each in self.handler.requests], [2])
        self.assertEqual([each.flow.id for each in self.handler.datagramRequests], [2])

    def test_unknownKind(self) -> None:
        """
        An event that this version does not know is reported.
        """
        self.library.events = [{**request(1), "kind": 99}]
        self.engine.doRead()
        self.assertEqual(len(self.flushLoggedErrors(EngineError)), 1)

    def test_drainFails(self) -> None:
        """
        A drain that fails ends the turn.
        """
        self.library.results["ns_drain"] = -errno.ENOTRECOVERABLE
        self.assertIsNone(self.engine.doRead())

    def test_connectionLost(self) -> None:
        """
        The reactor's farewell is no trouble.
        """
        self.engine.connectionLost(Failure(ZeroDivisionError()))
        self.assertEqual(self.engine.logPrefix(), "engine")


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

    def test_budget(self) -> None:
        """
        The budget ends it.
        """
        self.library.results["ns_pump"] = [64]
        self.library.events = [request(1)]
        self.assertEqual(self.engine.pump(64), 64)

    def test_error(self) -> None:
        """
        -errno is raised.
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
        The lender hears once when the device is back, and may lend it again.
        """
        self.start()
        self.assertTrue(self.lend())
        self.assertFalse(self.lend())
        self.library.events = [{"kind": abi.NS_EVENT_DEVICE_RETURNED}] * 2
        self.engine.doRead()
        self.assertEqual(len(self.returns), 1)
        self.assertTrue(self.lend())
        self.assertEqual(self.library.named("ns_lend"), [(HANDLE,)] * 2)

    def test_refused(self) -> None:
        """
        A library that does not take it says so.
        """
        self.start()
        self.library.results["ns_lend"] = -errno.EBUSY
        self.assertFalse(self.lend())

    def test_notRunning(self) -> None:
        """
        An engine that does not run, or will not for long, takes nothing.
        """
        self.assertFalse(self.lend())
        self.start()
        self.library.results["ns_quiesce"] = 1
        self.engine.stop()
        self.assertFalse(self.lend())
        self.assertEqual(self.library.named("ns_lend"), [])


class StopTests(EngineCase):
    """
    Tests for L{native.NativeEngine.stop}.
    """

    def test_notStarted(self) -> None:
        """
        There is nothing to stop.
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
        Flows with bytes under way get time, and their packets are still read.
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
        The time has a limit.
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
