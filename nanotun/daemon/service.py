"""
The daemon's start and stop, in order.

Rules:
 - Everything happens in C{startService}, after twistd has forked.
 - When a step fails, the steps before it are undone, last first, and C{startService}
   raises: twistd would take a Deferred that fails for a daemon that runs.
 - The stop undoes all steps in the same way.  Each is undone even if an earlier one
   could not be.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.logger import Logger

from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import upstreamsOf
from nanotun.daemon.device import TunnelDevice
from nanotun.daemon.ending import Ending
from nanotun.daemon.loss import DeviceLoss
from nanotun.errors import DeviceError, NanotunError
from nanotun.interfaces import IGateway, IPacketEngine, IPart
from nanotun.router.router import FlowRouter
from nanotun.tun.port import TunPort

#: Seconds to undo one step.  The engine gives its flows one second to finish; with this
#: limit the daemon ends within two even if the engine hangs.
UNDO_LIMIT = 1.8

#: The error for users who are not root.
NEEDS_ROOT = "only root may make a TUN device; start it as root, for instance with sudo."


class StartFailed(SystemExit, Exception):
    """
    The daemon cannot start.  Why is logged already.

    It needs both base classes: for an L{Exception} twistd removes its pidfile and tells
    the waiting parent, and for a L{SystemExit} Python ends without a traceback.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.code = 1


class Parts(NamedTuple):
    """
    What the service starts and stops; nothing of it is started yet.

    @ivar gateway: for that engine.
    @ivar router: for that engine and that gateway.
    @ivar before: started in this order before the device is opened.
    @ivar after: started in this order once the device is read.
    """

    device: TunnelDevice
    engine: IPacketEngine
    gateway: IGateway
    router: FlowRouter
    before: tuple[IPart, ...] = ()
    after: tuple[IPart, ...] = ()


class _Step(NamedTuple):
    """One part of the start and how to undo it."""

    name: str
    do: Callable[[], object]
    undo: Callable[[], object]


def _nothing() -> None:
    """Placeholder for a step with nothing to do or undo."""


def settle() -> None:
    """
    Collect garbage from now on, but never walk what is there now.

    Classes, code and interfaces live as long as the process.  Under load the collector spent 3 %
    of the daemon's time walking them again and again.
    """
    gc.freeze()
    # Off since the start of the program: see L{nanotun.console.start}.
    gc.enable()


class NanotunService(Service):
    """
    The tunnel.

    @ivar parts: what it starts and stops.
    @ivar notices: sentences to log as warnings at the start.
    """

    _log = Logger()

    _port: TunPort

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        reactor: Any,
        loss: DeviceLoss,
        ending: Ending,
        notices: tuple[str, ...] = (),
        geteuid: Callable[[], int] = os.geteuid,
        settle: Callable[[], None] = settle,
        needsRoot: bool = True,
    ) -> None:
        """
        @param loss: is told when the device is lost.
        @param ending: is told when the start fails.
        @param geteuid: the user that the process runs as.
        @param settle: called once all is started; by default the function L{settle}.
        @param needsRoot: whether the tunnel is this machine's; that of a cell needs no root.
        """
        self._settings = settings
        self.parts = parts
        self._device, self._engine, self._router = parts.device, parts.engine, parts.router
        self._reactor = reactor
        self._loss = loss
        self._ending = ending
        self.notices = notices
        self._geteuid = geteuid
        self._settle = settle
        self._done: list[_Step] = []
        # The stop runs from the last step to the first.  The router decides no more,
        # then the gateway stops, which sends through the engine; the engine lets its
        # flows finish while the port still pumps; then the port and the device close.
        self._steps = (
            _Step("the check for root", self._checkRoot if needsRoot else _nothing, _nothing),
            *(_Step(part.name, part.start, part.stop) for part in parts.before),
            _Step("the device", self._device.open, self._device.close),
            _Step("the port", self._makePort, lambda: self._port.stopReading()),
            _Step("the engine", self._startEngine, self._engine.stop),
            _Step("the gateway", parts.gateway.start, parts.gateway.stop),
            _Step("the router", _nothing, self._router.stop),
            _Step("reading", lambda: self._port.startReading(), _nothing),
            *(_Step(part.name, part.start, part.stop) for part in parts.after),
        )

    def startService(self) -> None:
        """
        Start the tunnel.

        @raise StartFailed: it did not start and left nothing behind.
        """
        for notice in self.notices:
            self._log.warn("{notice}", notice=notice)
        for step in self._steps:
            try:
                step.do()
            except Exception as error:
                sentence = self._explain(step, error)
                self._ending.notStarted()
                self._undo()
                raise StartFailed(sentence) from None
            self._done.append(step)
        super().startService()
        self._loss.watch()
        self._settle()
        tun = self._device.tun
        others = [name for name in upstreamsOf(self._settings) if name != PROXY]
        self._log.info(
            "{name} is up: engine {mode}, MTU {mtu}, offload {offload}, proxy {proxy}"
            + (", upstreams {upstreams}" if others else ""),
            name=tun.name,
            mode=self._settings.stackMode,
            mtu=tun.mtu,
            offload="on" if tun.vnetHeader else "off",
            proxy=", ".join(str(each) for each in self._settings.proxy),
            upstreams=", ".join(others),
        )

    def stopService(self) -> Deferred[None]:
        """
        Stop the tunnel.

        @return: fires, never with a failure, when everything is undone.
        """
        # After the loss of the device more has been logged already.
        orderly = bool(self.running) and not self._loss.happened
        self._loss.ignore()
        super().stopService()
        return self._stop(orderly)

    def _explain(self, step: _Step, error: Exception) -> str:
        """Log why C{step} failed, once, and return the sentence."""
        if isinstance(error, NanotunError):
            self._log.error("nanotun cannot start: {error}", error=str(error))
            return str(error)
        self._log.failure("nanotun cannot start: internal error at {step}", step=step.name)
        return f"internal error at {step.name}: {error!r}"

    @inlineCallbacks
    def _stop(self, orderly: bool) -> Any:
        flows = self._openFlows() if orderly else 0
        yield self._undo()
        if orderly:
            self._log.info(
                "{name} is down; flows that ended with it: {flows}",
                name=self._settings.tunName,
                flows=flows,
            )

    def _openFlows(self) -> int:
        try:
            return int(self._engine.stats().flows)
        except Exception:
            self._log.failure("While stopping, the engine could not count its flows")
            return 0

    @inlineCallbacks
    def _undo(self) -> Any:
        """
        Undo the steps that are done, last first.

        @return: fires, never with a failure, when all are undone.
        """
        while self._done:
            step = self._done.pop()
            try:
                yield maybeDeferred(step.undo).addTimeout(UNDO_LIMIT, self._reactor)
            except Exception:
                self._log.failure("While stopping, {step} failed", step=step.name)

    def _checkRoot(self) -> None:
        if self._geteuid() != 0:
            raise DeviceError(NEEDS_ROOT)

    def _makePort(self) -> None:
        self._port = TunPort(self._device.tun, self._engine, self._reactor, self._loss.report)

    def _startEngine(self) -> None:
        self._engine.start(self._device.tun, self._router)
