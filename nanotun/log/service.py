"""
Decides which events are logged, and where.

twistd would log to stdout or to C{twistd.log}.  nanotun logs to stderr and to
L{files by date<nanotun.log.file>}, as text or JSON.  Events below C{logLevel} are dropped
before they are formatted.  twistd's C{--logfile} and C{--syslog} replace stderr; its
C{--logger} replaces everything here.

A daemon has no stderr, but until it has started the user waits for the command to
return: until then warnings and errors are written to the terminal.

Any thread may log: a lock lets one event at a time be formatted and written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import (
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
)
from twisted.python.components import Componentized
from zope.interface import implementer

from nanotun.errors import ConfigError
from nanotun.log.file import DailyLogFile
from nanotun.log.format import FORMATS, forJournal
from nanotun.log.sinks import STDERR, Terminal, openLogfile

if TYPE_CHECKING:
    from constantly import NamedConstant


LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}


def levelFilter(logLevel: str) -> LogLevelFilterPredicate:
    """
    The filter for a C{logLevel}.

    Twisted's own events are about its internals (a factory starts, a factory stops):
    except at C{debug}, only its warnings and errors pass.
    """
    level = LEVELS[logLevel]
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    if level is not LogLevel.debug:
        for namespace in ("twisted", "log_legacy"):
            predicate.setLogLevelForNamespace(namespace, max(level, LogLevel.warn))
    return predicate


@implementer(ILogObserver)
class LineObserver:
    """
    Formats each event and writes the line to every sink whose level the event reaches.

    @ivar format: formats an event as a line.
    @ivar lock: held while an event is written, and to be held while this is changed.
    """

    def __init__(self, logFormat: str = "text") -> None:
        self.format = FORMATS[logFormat]
        # Reentrant: a sink may log about itself.
        self.lock = threading.RLock()
        self._sinks: list[tuple[NamedConstant, Callable[[str], None], bool]] = []

    def add(
        self,
        write: Callable[[str], None],
        level: NamedConstant = LogLevel.debug,
        journal: bool = False,
    ) -> None:
        """
        Add a sink.

        @param write: takes a line; the line is lost if it raises L{OSError}.
        @param level: the least important level that is written.
        @param journal: whether the sink is the systemd journal.
        """
        self._sinks.append((level, write, journal))

    def remove(self, write: Callable[[str], None]) -> None:
        """Forget a sink."""
        self._sinks = [sink for sink in self._sinks if sink[1] != write]

    def __call__(self, event: LogEvent) -> None:
        """Take an event, see L{ILogObserver}."""
        eventLevel = event.get("log_level", LogLevel.info)
        with self.lock:
            line = self.format(event)
            for level, write, journal in self._sinks:
                if line and eventLevel >= level:
                    try:
                        write(forJournal(line, eventLevel) if journal else line)
                    except OSError:
                        continue


@implementer(ILogFilterPredicate)
class LevelSwitch:
    """
    A filter whose level can change.

    @ivar predicate: the filter at the present level.
    """

    def __init__(self, logLevel: str) -> None:
        self.predicate = levelFilter(logLevel)

    def __call__(self, event: LogEvent) -> NamedConstant:
        """See L{ILogFilterPredicate}."""
        return self.predicate(event)


def _workingDirectory() -> str:
    try:
        return os.getcwd()
    except OSError:  # Somebody has removed it.
        return "/"


class LogOptions(NamedTuple):
    """
    How to log.

    @ivar level: C{"debug"}, C{"info"}, C{"warn"} or C{"error"}.
    @ivar directory: where the log files are; empty for none.
    @ivar format: C{"text"} or C{"json"}.
    """

    level: str
    directory: str
    format: str


def newDirectory(options: LogOptions) -> str:
    """
    The directory that logging will make in the current one, as an absolute path; empty if it
    is there, if it is elsewhere, or if there are no log files.
    """
    if not options.directory or os.path.isabs(options.directory):
        return ""
    path = os.path.join(_workingDirectory(), options.directory)
    return "" if os.path.lexists(path) else os.path.abspath(path)


class LoggedService(MultiService):
    """
    The outermost service, which sets twistd's log observer.

    twistd asks the application for its observer after C{makeService} and before it
    forks.  So the observer is set when the application becomes this service's parent.
    """

    _terminal: Terminal | None = None
    _files: DailyLogFile | None = None

    def __init__(
        self,
        options: LogOptions,
        twistd: Mapping[str, Any],
        clock: IReactorTime,
        stderr: int = STDERR,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """
        @param twistd: twistd's own options.
        @param stderr: the fd of the terminal.
        @param environment: the process's.
        """
        super().__init__()
        self._options = options
        self._twistd = twistd
        self._clock = clock
        self._stderr = stderr
        self._environment = environment
        self._keepTerminal = False
        # Relative paths are relative to this; twistd changes the working directory.
        self._base = _workingDirectory()
        self._lines = LineObserver(options.format)
        self._levels = LevelSwitch(options.level)

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Set the application's observer, and the parent."""
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._makeObserver())
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start the child services, and then close a daemon's terminal."""
        super().startService()
        if self._terminal is not None and not self._keepTerminal:
            self._terminal.release()

    def configure(self, options: LogOptions) -> None:
        """
        Log like this from now on, also while lines are being logged: each is written
        under the old options or under the new ones, and none is lost.  The same options
        again change nothing.

        @raise ConfigError: the new directory cannot be written to; nothing has changed.
        """
        files = old = self._files
        if options.directory != self._options.directory:
            files = self._makeFiles(options.directory)
            try:
                if files is not None:
                    files.open()
            except OSError as error:
                raise ConfigError(
                    f"logDir {options.directory} cannot be written to ({error.strerror}); choose "
                    "another directory."
                ) from None
        with self._lines.lock:
            self._options = options
            self._levels.predicate = levelFilter(options.level)
            self._lines.format = FORMATS[options.format]
            self._files = files
            if files is not old:
                if old is not None:
                    self._lines.remove(old.write)
                    old.close()
                if files is not None:
                    self._lines.add(files.write)

    def also(self, write: Callable[[str], None]) -> None:
        """
        Give each line to somebody else as well.

        @param write: see L{LineObserver.add}; called by one thread at a time.
        """
        self._lines.add(write)

    def _makeObserver(self) -> ILogObserver:
        lines = self._lines
        self._terminal = terminal = Terminal(self._stderr)
        logfile, syslog = self._twistd.get("logfile"), self._twistd.get("syslog")
        foreground = bool(self._twistd.get("nodaemon") or self._twistd.get("debug"))
        self._keepTerminal = foreground and not logfile and not syslog
        lines.add(
            terminal.write,
            LogLevel.debug if self._keepTerminal else LogLevel.warn,
            terminal.isJournal(self._environment),
        )
        observers: list[ILogObserver] = [lines]
        if syslog:
            # Imported here, as Python may be built without syslog.
            from twisted.python.syslog import SyslogObserver

            prefix = self._twistd.get("prefix", "nanotun")
            observers.append(LegacyLogObserverWrapper(SyslogObserver(prefix).emit))  # type: ignore[arg-type]
        elif logfile:
            lines.add(openLogfile(logfile, foreground))
        observer = FilteringLogObserver(LogPublisher(*observers), [self._levels])
        self._log = Logger(namespace="nanotun.log.file", observer=observer)
        self._files = self._makeFiles(self._options.directory)
        if self._files is not None:
            lines.add(self._files.write)
        return observer

    def _makeFiles(self, directory: str) -> DailyLogFile | None:
        if not directory:
            return None
        return DailyLogFile(
            os.path.join(self._base, directory),
            self._clock,
            lambda sentence: self._log.error("{sentence}", sentence=sentence),
        )
