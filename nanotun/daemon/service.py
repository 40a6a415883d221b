"""
The daemon's start and stop, in order.

Rules:
 - Everything happens in C{startService}, after twistd has forked.
 - A step that fails undoes those before it, last first, and the failure comes
   out of C{startService} at once: twistd would take a failed Deferred for a
   daemon that runs.
 - The stop is the same undoing.  Each part of it is tried, whatever became of
   the part before it.
"""

from __future__ import annotations

import errno
import gc
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.logger import Logger

from nanotun.config.settings import Settings
from nanotun.daemon.device import TunnelDevice
from nanotun.errors import DeviceError, NanotunError
from nanotun.interfaces import IGateway, IPacketEngine, IPart
from nanotun.router.router import FlowRouter
from nanotun.tun.port import TunPort

#: Seconds for one part of the stop.  The engine grants its flows one; with this
#: even an engine that hangs lets the daemon end within two.
UNDO_LIMIT = 1.8

#: For everybody else.
NEEDS_ROOT = "only root may make a TUN device; start it as root, for instance with sudo."


class StartFailed(SystemExit, Exception):
    """
    The daemon cannot start; the sentence that says why is logged already.

    Of both kinds for a reason: twistd removes its pidfile and tells the waiting
    parent about an L{Exception}, and Python ends without a traceback for a
    L{SystemExit}.
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
    @ivar after: started in this order once the tunnel carries traffic.
    """

    device: TunnelDevice
    engine: IPacketEngine
    gateway: IGateway
    router: FlowRouter
    before: tuple[IPart, ...] = ()
    after: tuple[IPart, ...] = ()


class _Step(NamedTuple):
    """One part of the start and what takes it back."""

    name: str
    do: Callable[[], object]
    undo: Callable[[], object]


def _nothing() -> None:
    """Placeholder for a step with nothing to do or undo."""


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
        exitWith: Callable[[int], None],
        notices: tuple[str, ...] = (),
        geteuid: Callable[[], int] = os.geteuid,
        freeze: Callable[[], None] = gc.freeze,
    ) -> None:
        """
        @param exitWith: stops the reactor, after which the process ends with
            this status.
        @param freeze: tells the garbage collector that all there is will stay.
        """
        self._settings = settings
        self.parts = parts
        self._device, self._engine, self._router = parts.device, parts.engine, parts.router
        self._reactor = reactor
        self._exitWith = exitWith
        self.notices = notices
        self._geteuid = geteuid
        self._freeze = freeze
        self._done: list[_Step] = []
        # The stop runs from the last to the first: decisions end, then the
        # services, which speak through the engine; the engine lets its flows
        # finish while the port still pumps, then the port and the device go.
        self._steps = (
            _Step("the check for root", self._checkRoot, _nothing),
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
                self._undo()
                raise StartFailed(sentence) from None
            self._done.append(step)
        super().startService()
        # Classes, code and interfaces of all modules: they live as long as the
        # process, and under load the collector walked them over and over, for
        # 3 % of the daemon's time.
        self._freeze()
        tun = self._device.tun
        self._log.info(
            "{name} is up: engine {mode}, MTU {mtu}, offload {offload}, proxy {proxy}",
            name=tun.name,
            mode=self._settings.stackMode,
            mtu=tun.mtu,
            offload="on" if tun.vnetHeader else "off",
            proxy=", ".join(str(each) for each in self._settings.proxy),
        )

    def stopService(self) -> Deferred[None]:
        """
        Stop the tunnel.

        @return: fires, never with a failure, when everything is undone.
        """
        # Not after a loss, which has said more already.
        orderly = bool(self.running)
        super().stopService()
        return self._stop(orderly)

    def deviceLost(self, error: int) -> None:
        """
        The TUN is gone for good: nothing is left to do but to end, and to end
        with an error, so that whatever started the daemon may start it again.

        @param error: errno.
        """
        if not self.running:
            return
        self.running = False
        if error in (errno.EBADFD, errno.EBADF, errno.ENODEV):
            line = (
                "The device {name} is gone ({error}): somebody removed it; nanotun stops. "
                "Start it again to get the device back."
            )
        else:
            line = (
                "The packet engine failed on {name} ({error}); nanotun stops. "
                "Start it again, and please report this."
            )
        self._log.error(line, name=self._settings.tunName, error=errno.errorcode.get(error, error))
        self._exitWith(1)

    def _explain(self, step: _Step, error: Exception) -> str:
        """Log why C{step} failed, once, and return the sentence."""
        if isinstance(error, NanotunError):
            self._log.error("nanotun cannot start: {error}", error=str(error))
            return str(error)
        self._log.failure(
            "nanotun cannot start: a mistake in its own code, at {step}", step=step.name
        )
        return f"a mistake in nanotun's own code, at {step.name}: {error!r}"

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
        """Undo what is done, last first.  The Deferred does not fail."""
        while self._done:
            step = self._done.pop()
            try:
                yield maybeDeferred(step.undo).addTimeout(UNDO_LIMIT, self._reactor)
            except Exception:
                self._log.failure("While stopping, {step} made trouble", step=step.name)

    def _checkRoot(self) -> None:
        if self._geteuid() != 0:
            raise DeviceError(NEEDS_ROOT)

    def _makePort(self) -> None:
        self._port = TunPort(self._device.tun, self._engine, self._reactor, self.deviceLost)

    def _startEngine(self) -> None:
        self._engine.start(self._device.tun, self._router)
