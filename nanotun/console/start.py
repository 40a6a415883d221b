"""
C{nanotun start}: the daemon, in the foreground or not.  Underneath it is twistd, in
this process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Application
from twisted.scripts._twistd_unix import ServerOptions, UnixApplicationRunner

from nanotun.console.asking import run
from nanotun.console.statuses import GOOD
from nanotun.control.directory import makeRunDir
from nanotun.control.lock import findHolder, runsAlready
from nanotun.errors import DeviceError
from nanotun.options import Options
from nanotun.rundir import PIDFILE
from nanotun.service import NEEDS_ROOT


class StartOptions(Options):
    """The daemon's options and some of twistd's."""

    synopsis = "Usage: nanotun start [options]"

    optFlags = [
        ["daemon", "d", "run in the background; returns once the tunnel carries"],
        ["syslog", None, "log to syslog in the place of stderr"],
    ]

    optParameters = [
        ["pidfile", None, None, "file for the process id [default with -d: runDir/nanotun.pid]"],
        ["logfile", "l", None, "log to this file in the place of stderr"],
        ["prefix", None, "nanotun", "what syslog's lines begin with"],
    ]

    def postOptions(self) -> None:
        """The settings are read by L{main}, which says what is wrong."""

    def twistdArguments(self) -> list[str]:
        """The same for twistd; settings are read."""
        pidfile = self["pidfile"]
        if pidfile is None:
            # Nobody needs one to stop what is in the foreground.
            pidfile = os.path.join(self.settings.runDir, PIDFILE) if self["daemon"] else ""
        arguments = ["--no_save", f"--pidfile={pidfile}", f"--prefix={self['prefix']}"]
        if not self["daemon"]:
            arguments.append("--nodaemon")
        if self["syslog"]:
            arguments.append("--syslog")
        if self["logfile"] is not None:
            arguments.append(f"--logfile={self['logfile']}")
        return arguments


class Runner(UnixApplicationRunner):  # type: ignore[misc]
    """
    twistd's own way to run an application, which is made of options that are parsed
    already.
    """

    def __init__(self, config: ServerOptions, options: StartOptions) -> None:
        super().__init__(config)
        self._options = options

    def createOrGetApplication(self) -> Any:
        """See L{twisted.application.app.ApplicationRunner.createOrGetApplication}."""
        # Imported here: it installs the reactor.
        from nanotun.tap import makeService

        application = Application("nanotun")
        makeService(self._options).setServiceParent(application)
        return application


def prepare(options: StartOptions, uid: int) -> bool:
    """
    Look who runs before twistd looks at its pidfile: the lock knows better, and a
    pidfile that a crash left may by now have the number of somebody else.

    @return: whether runDir was made.
    @raise nanotun.errors.NanotunError: a nanotun runs already, or the directory for
        that is no good; nothing has changed.
    """
    runDir = options.settings.runDir
    holder = findHolder(runDir)
    if holder is not None:
        raise runsAlready(holder, runDir)
    if uid != 0:
        raise DeviceError(NEEDS_ROOT)
    if not options["daemon"] or options["pidfile"] is not None:
        return False
    made = makeRunDir(runDir, uid)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(runDir, PIDFILE))
    return made


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = StartOptions()

    def work() -> int:
        options.readSettings(os.geteuid(), os.environ)
        made = prepare(options, os.geteuid())
        config = ServerOptions()
        config.parseOptions(options.twistdArguments())
        options.parent = config
        # twistd ends by the signal that stopped it.  That is no failure here: an orderly
        # end is status 0, whoever asked for it.
        try:
            Runner(config, options).run()
        finally:
            if made:
                with contextlib.suppress(OSError):  # Others keep something there.
                    os.rmdir(options.settings.runDir)
        return GOOD

    return run("start", options, arguments, work)
