"""
Runs the tunnel and the command of C{nanotun run}, from start to end.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.logger import FilteringLogObserver, LogLevel, LogPublisher, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.cell.channel import Channel, ChannelClosed
from nanotun.cell.command import OWN_FAULT, SIGNAL_BASE
from nanotun.cell.device import CellTunOpener
from nanotun.cell.launch import Cell
from nanotun.cell.passages import CellSide, Passages
from nanotun.console.run.options import RunOptions
from nanotun.console.run.scripts import RunScript
from nanotun.console.run.signals import watchSignals
from nanotun.daemon.cellservice import makeCellService
from nanotun.daemon.service import StartFailed
from nanotun.engine.couples import NativeCouples
from nanotun.errors import NanotunError
from nanotun.log.file import DailyLogFile
from nanotun.log.service import LineObserver, levelFilter
from nanotun.router.router import SAID
from nanotun.scripting.apart import RemoteScript
from nanotun.scripting.script import Script
from nanotun.timer import steadyReactor
from nanotun.upstream.dial.sockets import socketsFor

#: The beginning of the service's sentence about a failed start.
PROLOGUE = "nanotun cannot start: "


@implementer(IReadDescriptor, ILoggingContext)
class CommandRunner:
    """
    Has the helper run the command, and forwards signals to it, while the reactor runs.

    @ivar status: the exit status.
    @ivar started: whether the helper was told to start the command.
    @ivar early: the number of a signal that arrived before that; 0 if none did.
    @param channel: to the helper.
    @param stop: stops the service and then the reactor; called once.
    @param say: shows a sentence to the user.
    @param arrived: takes sockets that the helper has made.
    """

    def __init__(
        self,
        channel: Channel,
        reactor: Any,
        stop: Callable[[], object],
        say: Callable[[str], None],
        arrived: Callable[[dict[str, Any], int | None], None] = lambda message, fd: None,
    ) -> None:
        self.status = OWN_FAULT
        self._channel = channel
        self._reactor = reactor
        self._stop = stop
        self._say = say
        self._arrived = arrived
        self.started = False
        self.early = 0
        self._ended = False

    def start(self) -> None:
        """The tunnel is up, so have the helper start the command."""
        # From now on signals belong to the command, even before it runs.
        self.started = True
        self._reactor.addReader(self)
        if self.early:
            # The signal arrived before the reactor ran.
            self._end(SIGNAL_BASE + self.early)
            return
        try:
            self._channel.send(run=True)
        except ChannelClosed:
            self.doRead()

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._channel.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "run"

    def doRead(self) -> None:
        """See L{IReadDescriptor.doRead}."""
        try:
            message, fd = self._channel.receive()
        except ChannelClosed:
            self._say("the process beside the command was killed; the command is ended with it.")
            self._end(OWN_FAULT)
            return
        if "made" in message:
            self._arrived(message, fd)
        elif "failed" in message:
            self._say(message["failed"])
            self._end(message.get("status", OWN_FAULT))
        elif "ended" in message:
            self._tellLeft(message["left"], message["leftMore"])
            self._end(message["ended"])

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor.connectionLost}; the reactor is stopping, so nothing to do."""

    def deviceLost(self, status: int) -> None:
        """Stop, because the device is gone; the service has already logged why."""
        self._end(OWN_FAULT)

    def signalReceived(self, number: int, fromKernel: bool) -> None:
        """
        Forward a signal to the command, unless it came from the terminal, which sends it
        to the command as well.
        """
        if self._ended:
            return
        if not self.started:
            self._end(SIGNAL_BASE + number)
        elif not fromKernel:
            try:
                self._channel.send(signal=number)
            except ChannelClosed:
                return  # doRead notices it, too.

    def _tellLeft(self, left: list[str], more: int) -> None:
        if left:
            names = ", ".join(left) + (f" and {more} more" if more else "")
            self._say(
                f"the command left {names}, ended now, because the network goes with the command."
            )

    def _end(self, status: int) -> None:
        if not self._ended:
            self._ended = True
            self.status = status
            self._reactor.removeReader(self)
            self._stop()


class Sentences:
    """
    Shows log lines to the user.

    @param whole: whether to show time, level and origin as well as the sentence.
    """

    def __init__(self, say: Callable[[str], None], whole: bool) -> None:
        self._say = say
        self._whole = whole

    def write(self, text: str) -> None:
        """Show one line in the format of L{LineObserver}."""
        line = text.rstrip("\n")
        if not self._whole:
            line = line.partition("] ")[2].removeprefix(PROLOGUE)
        self._say(line)


def beginLogging(options: RunOptions, reactor: Any, say: Callable[[str], None]) -> None:
    """
    Send log events where the options say.  Standard output is left to the command.  The
    terminal always gets text; C{logFormat} applies to files.
    """
    settings = options.settings
    terminal = LineObserver()
    terminal.add(Sentences(say, options.tellsAll).write)
    observers = [terminal]
    if settings.logDir:
        files = LineObserver(settings.logFormat)
        files.add(DailyLogFile(settings.logDir, reactor, say).write)
        observers.append(files)
    wanted = levelFilter(settings.logLevel)
    if not options.tellsAll:
        # Without it the command's user sees only that something did not connect.
        wanted.setLogLevelForNamespace(SAID, LogLevel.info)
    filtered = FilteringLogObserver(LogPublisher(*observers), [wanted])
    globalLogBeginner.beginLoggingTo([filtered], redirectStandardIO=False)


def run(
    options: RunOptions,
    cell: Cell,
    watched: set[signal.Signals],
    say: Callable[[str], None],
) -> int:
    """
    Start the tunnel, run the command, and stop the tunnel.

    @param watched: the blocked signals, from L{nanotun.console.run.signals.blockSignals}.
    @param say: shows a sentence to the user.
    @return: the exit status.
    """
    reactor = steadyReactor()

    beginLogging(options, reactor, say)
    try:
        loading = RunScript(options, reactor, say)
    except NanotunError as error:
        say(str(error))
        return OWN_FAULT
    try:
        try:
            cell.ready()
            script = loading.ready()
        except NanotunError as error:
            say(str(error))
            return OWN_FAULT
        return _runWith(script, options, cell, watched, say, reactor)
    finally:
        loading.end()


def _runWith(
    script: Script | RemoteScript | None,
    options: RunOptions,
    cell: Cell,
    watched: set[signal.Signals],
    say: Callable[[str], None],
    reactor: Any,
) -> int:
    """Go on once everything is there that the tunnel is made of."""

    def stop() -> None:
        def stopped(result: object) -> None:
            if reactor.running:
                reactor.stop()

        maybeDeferred(service.stopService).addBoth(stopped)

    passages = Passages(options.ports, CellSide(cell.channel), NativeCouples(), reactor)
    runner = CommandRunner(cell.channel, reactor, stop, say, passages.arrived)
    try:
        service: IService = makeCellService(
            options,
            CellTunOpener(cell.channel),
            runner.deviceLost,
            options.known,
            script,
            options.allowsDirect,
            socketsFor(),
            (passages,) if options.ports else (),
        )
    except SystemExit as error:
        say(str(error).removeprefix("nanotun: "))
        return OWN_FAULT

    def received(number: int, fromKernel: bool) -> None:
        # Without a command yet, even the terminal's signal is for nanotun alone.
        if not runner.started:
            runner.early = number
        reactor.callFromThread(runner.signalReceived, number, fromKernel and runner.started)

    watchSignals(watched, received)
    try:
        service.startService()
    except StartFailed:
        return OWN_FAULT  # The service has logged why.
    reactor.callWhenRunning(runner.start)
    reactor.run(installSignalHandlers=False)
    return runner.status
