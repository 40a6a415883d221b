"""
Where log lines go and which.

twistd would log to stdout or to C{twistd.log}.  nanotun logs to stderr and to
L{files by date<nanotun.logfile>}, and leaves out what C{logLevel} does not
want before a line is made of it.  C{--logfile} and C{--syslog} of twistd take
the place of stderr; C{--logger} takes the place of everything here.

In a daemon stderr is gone, but whoever typed the command still waits for it to
start: until then warnings and errors reach the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    eventAsText,
    formatTime,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from zope.interface import implementer

from nanotun.config import Settings
from nanotun.logfile import DailyLogFile

if TYPE_CHECKING:
    from constantly import NamedConstant

STDERR = 2

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}


def formatLine(event: LogEvent) -> str:
    """
    Make a line of an event.

    What came from outside may hold anything: every control character is shown
    escaped, so that no text can forge a line or steer a terminal.  The lines
    of a traceback are indented below theirs.

    @return: with a newline at its end; empty if the event has no text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return ""
    text = "\n\t".join(_printable(part) for part in text.split("\n"))
    level = event.get("log_level", LogLevel.info).name
    namespace = _printable(str(event.get("log_namespace", "-")))
    return f"{formatTime(event.get('log_time'))} {level} [{namespace}] {text}\n"


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def levelFilter(logLevel: str) -> LogLevelFilterPredicate:
    """
    What passes at a C{logLevel}.

    Twisted's own lines are about Twisted (a factory starts, a factory stops):
    unless everything is asked for, only its warnings pass.
    """
    level = LEVELS[logLevel]
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    if level is not LogLevel.debug:
        for namespace in ("twisted", "log_legacy"):
            predicate.setLogLevelForNamespace(namespace, max(level, LogLevel.warn))
    return predicate


class Terminal:
    """
    The stderr that nanotun was started with, kept through twistd's fork.

    It has to be let go of once the daemon has started: whoever waits for the
    end of its output (a pipe, ssh) would wait for ever.
    """

    def __init__(self, fd: int = STDERR) -> None:
        try:
            self._fd = os.dup(fd)
        except OSError:  # Started with stderr closed.
            self._fd = -1

    def write(self, text: str) -> None:
        """Write whole lines, if anybody listens."""
        if self._fd >= 0:
            try:
                os.write(self._fd, text.encode("utf-8", "backslashreplace"))
            except OSError:
                return

    def release(self) -> None:
        """Close it.  What is written from here on is lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@implementer(ILogObserver)
class LineObserver:
    """Makes a line of each event and hands it to each sink with a level for it."""

    def __init__(self) -> None:
        self._sinks: list[tuple[NamedConstant, Callable[[str], None]]] = []

    def add(self, write: Callable[[str], None], level: NamedConstant = LogLevel.debug) -> None:
        """
        Add a sink.

        @param write: takes a line; an L{OSError} from it loses the line.
        @param level: less important events are not for this sink.
        """
        self._sinks.append((level, write))

    def __call__(self, event: LogEvent) -> None:
        """Take an event, see L{ILogObserver}."""
        line = formatLine(event)
        eventLevel = event.get("log_level", LogLevel.info)
        for level, write in self._sinks:
            if line and eventLevel >= level:
                try:
                    write(line)
                except OSError:
                    continue


class LoggedService(MultiService):
    """
    The outermost service: brings its own log observer along.

    twistd asks the application for its observer after C{makeService} and
    before it forks, so the observer is set when this service gets the
    application as its parent.
    """

    def __init__(
        self,
        settings: Settings,
        twistd: Mapping[str, Any],
        clock: IReactorTime,
        stderr: int = STDERR,
    ) -> None:
        """
        @param twistd: twistd's own options.
        @param stderr: the fd of the terminal.
        """
        super().__init__()
        self._settings = settings
        self._twistd = twistd
        self._clock = clock
        self._stderr = stderr
        self._keepTerminal = False
        self._terminal: Terminal | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Give the application its observer, then proceed as usual."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._makeObserver())
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start what is inside and then let go of the daemon's terminal."""
        super().startService()
        if self._terminal is not None and not self._keepTerminal:
            self._terminal.release()

    def _makeObserver(self) -> ILogObserver:
        lines = LineObserver()
        self._terminal = terminal = Terminal(self._stderr)
        logfile, syslog = self._twistd.get("logfile"), self._twistd.get("syslog")
        foreground = bool(self._twistd.get("nodaemon") or self._twistd.get("debug"))
        self._keepTerminal = foreground and not logfile and not syslog
        lines.add(terminal.write, LogLevel.debug if self._keepTerminal else LogLevel.warn)
        observers: list[ILogObserver] = [lines]
        if syslog:
            # Imported here: a Python may be built without syslog.
            from twisted.python.syslog import SyslogObserver

            prefix = self._twistd.get("prefix", "nanotun")
            observers.append(LegacyLogObserverWrapper(SyslogObserver(prefix).emit))  # type: ignore[arg-type]
        elif logfile:
            lines.add(self._openLogfile(logfile, foreground))
        if self._settings.logDir:
            files = DailyLogFile(
                self._settings.logDir,
                self._clock,
                lambda text: terminal.write(f"nanotun: {text}\n"),
            )
            lines.add(files.write)
        return FilteringLogObserver(
            LogPublisher(*observers), [levelFilter(self._settings.logLevel)]
        )

    def _openLogfile(self, path: str, foreground: bool) -> Callable[[str], None]:
        """
        What C{twistd --logfile} means, in nanotun's format.

        @raise SystemExit: with one sentence.
        """
        if path == "-":
            if not foreground:
                raise SystemExit("nanotun: --logfile=- needs -n: a daemon has no stdout.")
            stdout = sys.stdout  # Now: twistd replaces it soon.

            def writeOut(text: str) -> None:
                stdout.write(text)
                stdout.flush()

            return writeOut
        try:
            # Rotating renames the file.  As root, that would be the end of /dev/null.
            special = os.path.exists(path) and not os.path.isfile(path)
            file = LogFile.fromFullPath(path, **({"rotateLength": None} if special else {}))
        except OSError as error:
            raise SystemExit(
                f"nanotun: --logfile {path} cannot be written ({error.strerror}); "
                "choose another file."
            ) from None

        def write(text: str) -> None:
            file.write(text.encode("utf-8", "backslashreplace"))
            file.flush()

        return write
