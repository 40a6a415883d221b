"""
C{nanotun start}: run the daemon, in the foreground or the background, with twistd's code
in this process.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Application
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.util import untilConcludes
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner

from nanotun.config.options import DEFAULT_FILE, Options
from nanotun.console import COMMANDS, FAILED, GOOD
from nanotun.console.command import run
from nanotun.console.screen import bySubject, screen
from nanotun.console.started import tell
from nanotun.control.directory import makeRunDir, removeRunDir
from nanotun.control.lock import findHolder, runsAlready
from nanotun.daemon.service import NEEDS_ROOT
from nanotun.errors import DeviceError, WrongOption
from nanotun.rundir import PIDFILE

#: What the first screen of the help explains, and the settings among it.
EXPLAINED = {
    "-c, --config FILE": f"the settings, in YAML [{DEFAULT_FILE} if it is there]",
    "--proxy URL": "where connections go, such as socks5://host:1080",
    "--auto-route": "send the whole machine's traffic and DNS there",
    "--kill-switch": "with --auto-route: stay closed if the daemon is gone",
    "--confirm SECONDS": "with --auto-route: undo all unless 'nanotun confirm' runs",
    "-d, --daemon": "run in the background",
}
EXPLAINED_FLAGS = ("proxy", "auto-route", "kill-switch")


class StartOptions(Options):
    """The daemon's options and some of twistd's."""

    synopsis = "Usage: nanotun start [options]"

    optFlags = [
        [
            "daemon",
            "d",
            "run in the background; returns once the device is up, and says if the proxy is not",
        ],
        ["syslog", None, "log to syslog in the place of stderr"],
    ]

    optParameters = [
        ["pidfile", None, None, "file for the process id [default with -d: runDir/nanotun.pid]"],
        ["logfile", "l", None, "log to this file in the place of stderr"],
        ["prefix", None, "nanotun", "what syslog's lines begin with"],
    ]

    def getUsage(self, width: int | None = None) -> str:
        """The help: one screen, or all of it after C{--help all}."""
        if self.whole:
            return super().getUsage(width)
        own = ("pidfile", "logfile", "syslog", "prefix")
        return screen("start", "", EXPLAINED, bySubject(EXPLAINED_FLAGS, {"general": own}))

    def postOptions(self) -> None:
        """Does nothing: L{main} reads the settings and reports errors."""

    def parseArgs(self, *args: str) -> None:
        """Refuse arguments: there are only options."""
        if args and args[0] in COMMANDS:
            raise usage.UsageError(f"{args[0]!r} comes first: nanotun {args[0]} --config FILE")
        super().parseArgs(*args)

    @property
    def pidfile(self) -> str:
        """The pidfile's absolute path, or the empty string; needs the settings."""
        given: str | None = self["pidfile"]
        if given is not None:
            return os.path.abspath(given) if given else ""
        # A daemon in the foreground can be stopped without one.
        return os.path.join(self.settings.runDir, PIDFILE) if self["daemon"] else ""

    def twistdArguments(self) -> list[str]:
        """The same for twistd, except for the pidfile, which L{TwistdRunner} writes."""
        arguments = ["--no_save", "--pidfile=", f"--prefix={self['prefix']}"]
        if not self["daemon"]:
            arguments.append("--nodaemon")
        if self["syslog"]:
            arguments.append("--syslog")
        if self["logfile"] is not None:
            arguments.append(f"--logfile={self['logfile']}")
        return arguments


class TwistdRunner(UnixApplicationRunner):  # type: ignore[misc]
    """
    Runs the application as twistd does, but from options that are already parsed.

    Only the process that holds the lock writes the pidfile, and only once everything has
    started; a second nanotun that tries to start leaves it alone.  A pidfile that a
    crash left behind is overwritten.
    """

    _log = Logger()

    def __init__(self, config: ServerOptions, options: StartOptions) -> None:
        super().__init__(config)
        self._options = options
        self._written = False

    def setupEnvironment(
        self, chroot: str | None, rundir: str, nodaemon: bool, umask: int | None, pidfile: str
    ) -> None:
        """Like twistd's, but without the pidfile, which is not written yet."""
        super().setupEnvironment(chroot, rundir, nodaemon, umask, "")

    def startApplication(self, application: Any) -> None:
        """Like twistd's, followed by writing the pidfile."""
        super().startApplication(application)
        pidfile = self.config["pidfile"]
        if not pidfile:
            return
        try:
            with open(pidfile, "wb") as file:
                file.write(b"%d" % os.getpid())
            self._written = True
        except OSError as error:
            self._log.warn(
                "The pidfile {path} cannot be written ({error}); everything else works.",
                path=pidfile,
                error=error.strerror,
            )

    def removePID(self, pidfile: str) -> None:
        """Like twistd's, but only if this process wrote the pidfile."""
        if self._written:
            super().removePID(pidfile)

    def _waitForStart(self, readPipe: int) -> int:
        """
        Like twistd's, which would also print a fragment of the exception, as bytes, below
        the sentence that says everything.
        """
        if untilConcludes(os.read, readPipe, 100) == b"0":
            return tell(self._options.settings.tunName, self._options.settings.runDir)
        if self.config["syslog"] or self.config["logfile"]:
            print("nanotun: it did not start; its log says why.", file=sys.__stderr__)
        return FAILED

    def createOrGetApplication(self) -> Any:
        """See L{twisted.application.app.ApplicationRunner.createOrGetApplication}."""
        # Imported here: it installs the reactor.
        from nanotun.daemon.tap import makeService

        # Set only now: if a crash left a pidfile, twistd would say that it runs already.
        self.config["pidfile"] = self._options.pidfile
        application = Application("nanotun")
        makeService(self._options).setServiceParent(application)
        return application


def prepare(options: StartOptions, uid: int) -> bool:
    """
    Check before the start what would fail later with a log line or a traceback, so the
    user gets a plain sentence.

    @param uid: of this process.
    @return: whether runDir was made.
    @raise nanotun.errors.NanotunError: a nanotun runs already, this is not root, or a
        directory cannot be used; nothing has changed.
    """
    runDir = options.settings.runDir
    holder = findHolder(runDir)
    if holder is not None:
        raise runsAlready(holder, runDir)
    if uid != 0:
        raise DeviceError(NEEDS_ROOT)
    pidfile = options["pidfile"]
    if pidfile:
        _checkPidfile(pidfile)
    if not options["daemon"] or pidfile is not None:
        return False
    return makeRunDir(runDir, uid)


def _checkPidfile(path: str) -> None:
    """Reject a pidfile that twistd would report with a traceback."""
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(directory):
        raise WrongOption(
            f"--pidfile {path} cannot be written; choose a file in a directory that is there."
        )


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = StartOptions()

    def work() -> int:
        options.readSettings(os.geteuid(), os.environ)
        made = prepare(options, os.geteuid())
        config = ServerOptions()
        config.parseOptions(options.twistdArguments())
        options.parent = config
        # After a signal, twistd kills itself with the same signal.  Here that is no failure:
        # an orderly end has status 0, whatever caused it.
        try:
            TwistdRunner(config, options).run()
        finally:
            removeRunDir(options.settings.runDir, made)
        return GOOD

    # Hardly anything that a start makes is garbage.  Once all is started,
    # L{nanotun.daemon.service.settle} enables the collector.
    gc.disable()
    try:
        return run("start", options, arguments, work)
    finally:
        gc.enable()
