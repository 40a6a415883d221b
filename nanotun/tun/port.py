"""
The reactor's reader of the TUN device.  It sees no packets: it tells the engine when there
are some.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.interfaces import IPacketEngine, ITunDevice
from nanotun.timer import Timer

#: Packets per turn of the reactor.  With offload a packet is up to 64 KB, which the stack
#: processes in 10 to 20 microseconds: a turn takes less than 10 ms, and the turn's own
#: cost of 10 microseconds is shared by enough packets.
BUDGET = 512

#: A device that was readable so many times in a row, each time within L{BUSY_GAP} seconds
#: of the last, is lent to the engine, and so is one with more packets than a turn takes:
#: waking the reactor costs more than most packets, and the time is better spent on decisions.
BUSY_READS = 8
BUSY_GAP = 0.002

#: Seconds after which a device that is down is tried again.
DOWN_INTERVAL = 1.0


@implementer(IReadDescriptor, ILoggingContext)
class TunPort:
    """
    Makes the engine read packets while the device is readable.

    @param onLost: called once with an errno when the device is lost for good, after the
        port has stopped reading.
    """

    _log = Logger()

    def __init__(
        self,
        device: ITunDevice,
        engine: IPacketEngine,
        reactor: Any,
        onLost: Callable[[int], None],
    ) -> None:
        self._device = device
        self._engine = engine
        self._reactor = reactor
        self._onLost = onLost
        self._reading = False
        self._lost = False
        self._retry = Timer(reactor, self.startReading)
        self._lent = False
        self._lastRead = 0.0
        self._streak = 0

    def startReading(self) -> None:
        """Begin or resume.  The engine must have been started."""
        if not self._reading and not self._lost:
            self._reading = True
            if not self._lent:
                self._reactor.addReader(self)

    def stopReading(self) -> None:
        """Pause or stop.  The device must still be open."""
        self._retry.cancel()
        if self._reading:
            self._reading = False
            if not self._lent:
                self._reactor.removeReader(self)

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._device.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "tun"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        now = self._reactor.seconds()
        self._streak = self._streak + 1 if now - self._lastRead < BUSY_GAP else 0
        self._lastRead = now
        try:
            taken = self._engine.pump(BUDGET)
        except OSError as error:
            if error.errno == errno.EIO:
                self._pause()
                return None
            # The reactor stops watching and calls connectionLost with this.  It accepts
            # an exception as well as a Failure.
            return error  # type: ignore[return-value]
        busy = self._streak >= BUSY_READS or taken >= BUDGET
        if busy and self._reading and self._engine.lend(self._returned):
            self._streak = 0
            self._lent = True
            self._reactor.removeReader(self)
        return None

    def _returned(self) -> None:
        """The engine has returned the device."""
        self._lent = False
        if self._reading:
            self._reactor.addReader(self)

    def _pause(self) -> None:
        """The link is down.  It may be set up again."""
        self.stopReading()
        self._log.debug("The device is down")
        self._retry.start(DOWN_INTERVAL)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has removed this reader: reading failed, or the kernel reports an error
        on the fd because the device was deleted.
        """
        self.stopReading()
        if self._lost:
            return
        self._lost = True
        error = reason.value
        code = error.errno if isinstance(error, OSError) and error.errno else errno.EBADFD
        self._onLost(code)
