"""Tests of L{nanotun.daemon.service}."""

from __future__ import annotations

import errno
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from twisted.application.service import IService
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon import service as module
from nanotun.daemon.device import TunnelDevice
from nanotun.daemon.ending import Ending
from nanotun.daemon.loss import DeviceLoss
from nanotun.daemon.service import UNDO_LIMIT, NanotunService, Parts, StartFailed, settle
from nanotun.errors import DeviceError, EngineError
from nanotun.flow import Stats
from nanotun.interfaces import End, IFlowHandler, IPacketEngine, ITunDevice, UpstreamSettings
from nanotun.log.format import formatText
from nanotun.testing import FakeGateway, MemoryEngine, MemoryTunOpener, NoDials

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "ann:hunter2@proxy")}, None)

START = ("device.open", "engine.start", "gateway.start", "port.startReading", "settle")


@implementer(IFlowHandler)
class FakeRouter(NoDials):
    """Notes its end."""

    followsFlows = False

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def flowRequested(self, request: Any) -> None:
        raise NotImplementedError

    def datagramFlowRequested(self, request: Any) -> None:
        raise NotImplementedError

    def flowAbandoned(self, flowID: int) -> None:
        raise NotImplementedError

    def flowClosed(self, end: Any) -> None:
        raise NotImplementedError

    def flowNotHttp(self, flow: Any, reason: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.events.append("router.stop")


class NotingGateway(FakeGateway):
    """Notes its start and end, and can refuse."""

    failure: Exception | None = None

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.events.append("gateway.start")

    def stop(self) -> None:
        self.events.append("gateway.stop")


class FakePort:
    """Notes when it is told to read, and can refuse."""

    failure: Exception | None = None
    lost: Callable[[int], None]

    def __init__(self, events: list[str]) -> None:
        self.events = events

    def startReading(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.events.append("port.startReading")

    def stopReading(self) -> None:
        self.events.append("port.stopReading")


class NotingEngine(MemoryEngine):
    """Notes its start and stop, and can refuse or take its time."""

    startFailure: Exception | None = None
    stopResult: Deferred[None] | None = None
    open = 0

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def start(self, device: ITunDevice, handler: IFlowHandler) -> None:
        if self.startFailure is not None:
            raise self.startFailure
        super().start(device, handler)
        self.events.append("engine.start")

    def stats(self) -> Stats:
        return super().stats()._replace(flows=self.open)

    def stop(self) -> Deferred[None]:
        self.open = 0
        self.events.append("engine.stop")
        done = super().stop()
        return done if self.stopResult is None else self.stopResult


class NotingOpener(MemoryTunOpener):
    """Notes when devices open; those note when they close."""

    closeFailure: Exception | None = None

    def __init__(self, events: list[str]) -> None:
        super().__init__()
        self.events = events

    def open(self, name: str, mtu: int, offload: str) -> ITunDevice:
        device = super().open(name, mtu, offload)
        self.events.append("device.open")
        close = device.close

        def noteClose() -> None:
            self.events.append("device.close")
            if self.closeFailure is not None:
                raise self.closeFailure
            close()

        device.close = noteClose  # type: ignore[method-assign]
        return device


class ServiceCase(SynchronousTestCase):
    """A service whose parts are fakes that note what happens to them."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.clock = Clock()
        self.opener = NotingOpener(self.events)
        self.engine = NotingEngine(self.events)
        self.gateway = NotingGateway(self.events)
        self.port = FakePort(self.events)
        self.patch(module, "TunPort", self.makePort)
        self.statuses: list[int] = []
        self.ending = Ending()
        self.loss = DeviceLoss(SETTINGS.tunName, self.ending, self.statuses.append, True)
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def service(
        self,
        geteuid: Callable[[], int] = lambda: 0,
        notices: tuple[str, ...] = (),
        needsRoot: bool = True,
    ) -> NanotunService:
        """Make the service."""
        router: Any = FakeRouter(self.events)
        device = TunnelDevice(SETTINGS, self.opener)
        parts = Parts(device, self.engine, self.gateway, router)
        return NanotunService(
            SETTINGS,
            parts,
            self.clock,
            self.loss,
            self.ending,
            notices,
            geteuid,
            self.settle,
            needsRoot,
        )

    def settle(self) -> None:
        """The garbage collector is told."""
        self.events.append("settle")

    def makePort(
        self, device: ITunDevice, engine: IPacketEngine, reactor: Any, lost: Callable[[int], None]
    ) -> FakePort:
        """The port, which says when the device is lost."""
        self.port.lost = lost
        return self.port

    def lines(self, level: Any) -> list[str]:
        """What was logged at C{level}."""
        return [formatText(event) for event in self.logged if event.get("log_level") is level]


class StartTests(ServiceCase):
    """L{NanotunService.startService}."""

    def test_interface(self) -> None:
        """It is a service."""
        verifyObject(IService, self.service())
        verifyObject(IFlowHandler, FakeRouter([]))
        verifyObject(IPacketEngine, self.engine)

    def test_order(self) -> None:
        """
        The device opens first, then the engine starts, then packets are read; what
        there is by then is no garbage.
        """
        service = self.service()
        service.startService()
        self.assertEqual(self.events, list(START))
        self.assertTrue(service.running)
        self.assertIs(self.engine.device, self.opener.devices["nano0"])

    def test_noPasswordLogged(self) -> None:
        """The line that says that it is up names the proxy without its password."""
        self.service().startService()
        (line,) = self.lines(LogLevel.info)
        self.assertIn("socks5://ann:***@proxy:1080", line)
        self.assertNotIn("hunter2", repr(self.logged))

    def test_upstreams(self) -> None:
        """That line also has the names of other upstreams."""
        service = self.service()
        service._settings = replace(
            SETTINGS, upstreams=tuple(UpstreamSettings(name, ()) for name in ("office", "tor"))
        )
        service.startService()
        (line,) = self.lines(LogLevel.info)
        self.assertTrue(line.rstrip().endswith("proxy:1080, upstreams office, tor"), line)

    def test_notices(self) -> None:
        """The notices of the options are logged as warnings."""
        self.service(notices=("Mind {this}.",)).startService()
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("Mind {this}.", line)

    def failsWith(self, sentence: str, service: NanotunService | None = None) -> None:
        """The start fails with C{sentence}, logged once, and leaves nothing behind."""
        service = self.service() if service is None else service
        failure = self.assertRaises(StartFailed, service.startService)
        self.assertEqual(str(failure), sentence)
        (line,) = self.lines(LogLevel.error)
        self.assertIn(sentence, line)
        self.assertFalse(service.running)
        self.assertIs(self.ending.how(), End.NOT_STARTED)
        self.assertEqual(self.opener.devices, {})

    def test_notRoot(self) -> None:
        """Without root, nothing is opened or started."""
        self.failsWith(
            "only root may make a TUN device; start it as root, for instance with sudo.",
            self.service(geteuid=lambda: 1000),
        )
        self.assertEqual(self.events, [])

    def test_noRootNeeded(self) -> None:
        """Where another process makes the device, an ordinary user may start the tunnel."""
        service = self.service(geteuid=lambda: 1000, needsRoot=False)
        service.startService()
        self.assertTrue(service.running)

    def test_deviceFails(self) -> None:
        """If the device cannot be opened, no engine starts."""
        self.opener.failure = DeviceError("there is no /dev/net/tun.")
        self.failsWith("there is no /dev/net/tun.")
        self.assertEqual(self.events, [])

    def test_gatewayFails(self) -> None:
        """If the services do not start, the engine stops again."""
        self.gateway.failure = EngineError("it refused port 53.")
        self.failsWith("it refused port 53.")
        self.assertEqual(
            self.events,
            ["device.open", "engine.start", "engine.stop", "port.stopReading", "device.close"],
        )

    def test_engineFails(self) -> None:
        """If the engine does not start, the device closes again."""
        self.engine.startFailure = EngineError("the library is missing.")
        self.failsWith("the library is missing.")
        self.assertEqual(self.events, ["device.open", "port.stopReading", "device.close"])

    def test_readingFails(self) -> None:
        """If reading cannot begin, all steps before it are undone, last first."""
        self.port.failure = DeviceError("no more readers.")
        self.failsWith("no more readers.")
        self.assertEqual(
            self.events[3:],
            ["router.stop", "gateway.stop", "engine.stop", "port.stopReading", "device.close"],
        )

    def test_bug(self) -> None:
        """An internal error is logged with its traceback, and ends the start as well."""
        self.engine.startFailure = ZeroDivisionError()
        failure = self.assertRaises(StartFailed, self.service().startService)
        self.assertIn("internal error at the engine", str(failure))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.events[-1], "device.close")

    def test_exceptionKinds(self) -> None:
        """twistd sees an exception and cleans up; Python sees an exit with status 1."""
        failure = StartFailed("why")
        self.assertIsInstance(failure, Exception)
        self.assertIsInstance(failure, SystemExit)
        self.assertEqual((failure.code, str(failure)), (1, "why"))


class StopTests(ServiceCase):
    """L{NanotunService.stopService}."""

    STOP = ("router.stop", "gateway.stop", "engine.stop", "port.stopReading", "device.close")

    def setUp(self) -> None:
        super().setUp()
        self.tunnel = self.service()
        self.tunnel.startService()
        self.events.clear()

    def test_order(self) -> None:
        """The router stops first; the port pumps until the engine stops; the device closes last."""
        self.engine.stopResult = Deferred()
        stopped = self.tunnel.stopService()
        self.assertEqual(self.events, ["router.stop", "gateway.stop", "engine.stop"])
        self.engine.stopResult.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(self.events, list(self.STOP))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_everyStep(self) -> None:
        """A step that cannot be undone is logged, and all others are undone."""
        self.engine.stopResult = fail(ZeroDivisionError())
        self.opener.closeFailure = OSError(errno.EIO, "close")
        self.successResultOf(self.tunnel.stopService())
        self.assertEqual(self.events, list(self.STOP))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError, OSError)), 2)

    def test_hangs(self) -> None:
        """An engine that does not stop is given up, so that the daemon ends in two seconds."""
        self.engine.stopResult = Deferred()
        stopped = self.tunnel.stopService()
        self.assertLess(UNDO_LIMIT, 2.0)
        self.clock.advance(UNDO_LIMIT)
        self.successResultOf(stopped)
        self.assertEqual(self.events, list(self.STOP))
        self.flushLoggedErrors()

    def test_twice(self) -> None:
        """A second stop does nothing and logs nothing."""
        self.successResultOf(self.tunnel.stopService())
        self.events.clear()
        self.logged.clear()
        self.successResultOf(self.tunnel.stopService())
        self.assertEqual((self.events, self.logged), ([], []))

    def test_logged(self) -> None:
        """At the end of an orderly stop, one line says how many flows were open before it."""
        self.engine.open = 3
        self.engine.stopResult = Deferred()
        self.logged.clear()
        self.tunnel.stopService()
        self.assertEqual(self.lines(LogLevel.info), [])
        self.engine.stopResult.callback(None)
        (line,) = self.lines(LogLevel.info)
        self.assertIn("nano0 is down; flows that ended with it: 3", line)

    def test_notCounted(self) -> None:
        """An engine that cannot count its flows stops all the same."""
        self.patch(self.engine, "stats", lambda: 1 // 0)
        self.successResultOf(self.tunnel.stopService())
        self.assertEqual(self.events, list(self.STOP))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_again(self) -> None:
        """A service that was stopped starts again."""
        self.successResultOf(self.tunnel.stopService())
        self.events.clear()
        self.tunnel.startService()
        self.assertEqual(self.events, list(START))

    def test_deviceLost(self) -> None:
        """
        A device that the port has lost is one sentence and an exit with status 1,
        however often it is told.
        """
        self.port.lost(errno.EBADFD)
        self.port.lost(errno.EIO)
        self.assertEqual(self.statuses, [1])
        (line,) = self.lines(LogLevel.error)
        self.assertIn("nano0 is gone (EBADFD)", line)
        self.assertIs(self.ending.how(), End.FAILED)
        self.logged.clear()
        self.successResultOf(self.tunnel.stopService())
        self.assertEqual(self.events, list(self.STOP))
        self.assertEqual(self.lines(LogLevel.info), [])

    def test_engineFailed(self) -> None:
        """The log line about a fault of the engine does not say that the device was removed."""
        self.port.lost(errno.ENOTRECOVERABLE)
        self.assertEqual(self.statuses, [1])
        (line,) = self.lines(LogLevel.error)
        self.assertIn("engine failed on nano0 (ENOTRECOVERABLE)", line)
        self.assertIs(self.ending.how(), End.FAILED)

    def test_deviceMoved(self) -> None:
        """A device that is in another namespace ends the daemon, with a line of its own."""
        self.loss.report(errno.ENODEV)
        (line,) = self.lines(LogLevel.error)
        self.assertIn("nano0 is in another network namespace now; nanotun stops.", line)

    def test_deviceMovedByHand(self) -> None:
        """Where no route of nanotun's leads into it, it is served in the other namespace."""
        loss = DeviceLoss("nano0", self.ending, self.statuses.append, routed=False)
        loss.watch()
        loss.report(errno.ENODEV)
        (line,) = self.lines(LogLevel.warn)
        self.assertIn("nano0 is in another network namespace now, where nanotun serves it", line)
        self.assertEqual((self.statuses, loss.happened), ([], False))
        loss.report(errno.EBADFD)
        self.assertEqual(self.statuses, [1])

    def test_deviceLostWhileStopping(self) -> None:
        """The loss of the device during the stop is not reported."""
        self.successResultOf(self.tunnel.stopService())
        self.port.lost(errno.EBADFD)
        self.assertEqual(self.statuses, [])


class Circular:
    """Part of a circle with itself."""

    def __init__(self) -> None:
        self.circle = self


class SettleTests(SynchronousTestCase):
    """Tests for L{settle}."""

    def test_settle(self) -> None:
        """What was made until now is no more looked at, and what is made later is collected."""
        self.addCleanup(gc.unfreeze)
        self.addCleanup(gc.enable)
        gc.disable()
        settle()
        self.assertTrue(gc.isenabled())
        self.assertGreater(gc.get_freeze_count(), 0)
        ended = weakref.ref(Circular())
        self.assertIsNotNone(ended())
        gc.collect()
        self.assertIsNone(ended())
