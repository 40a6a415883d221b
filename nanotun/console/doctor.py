"""
C{nanotun doctor}: find out what is wrong, and name the cure.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.python import usage

from nanotun.config.arguments import wrongUsage
from nanotun.config.options import Options
from nanotun.doctor.checks import allChecks, basicChecks, parseTarget
from nanotun.doctor.examination import examine
from nanotun.doctor.finding import Finding, ICheck, Level, exitStatus
from nanotun.doctor.machine import Machine
from nanotun.doctor.report import asJSON, asText
from nanotun.errors import ConfigError
from nanotun.timer import steadyReactor

#: Exit status for a wrong command line.
USAGE = 64

#: Exit status of an interrupted examination: to a script, it is no better than a failure.
UNKNOWN = 2


class DoctorOptions(Options):
    """The daemon's own options, and a destination to try."""

    synopsis = "Usage: nanotun doctor [options]"

    longdesc = (
        "Looks for what can keep nanotun from working with these settings, and says the cure. "
        "It changes nothing. Exit status: 0 all is well, 1 warnings, 2 failures, 64 for a "
        "wrong command line."
    )

    optParameters = [["target", None, None, "HOST:PORT that the proxy is to connect to"]]
    optFlags = [["json", None, "print an array of objects: check, level, text, cure"]]

    def postOptions(self) -> None:
        """Does nothing: errors in the settings become findings."""


def main(arguments: Sequence[str]) -> int:
    """
    Examine this machine.

    @param arguments: those after C{doctor}.
    @return: the exit status.
    """
    from twisted.internet.threads import deferToThread

    options = DoctorOptions()
    try:
        options.parseOptions(list(arguments))
        target = parseTarget(options["target"]) if options["target"] else None
    except (usage.UsageError, ConfigError) as error:
        print(f"nanotun doctor: {wrongUsage(error, 'doctor')}", file=sys.stderr)
        return USAGE
    reactor = steadyReactor()
    findings: list[Finding] = []
    checks: list[ICheck]
    try:
        options.readSettings(os.geteuid(), os.environ)
        if options.source:
            findings.append(Finding("configuration", Level.INFO, options.source))
        # Imported here because it takes a moment, and a wrong command line need not wait.
        from nanotun.daemon.checking import checkFiles

        notices, wrong = options.notices, ""
        try:
            # A script may print when it is imported, and the report is for other programs, too.
            with contextlib.redirect_stdout(sys.stderr):
                notices += checkFiles(options.settings, reactor).notices
        except ConfigError as error:
            wrong = str(error)
        checks = allChecks(options.settings, notices, target, reactor, deferToThread, wrong=wrong)
    except ConfigError as error:
        findings.append(Finding("configuration", Level.FAIL, str(error)))
        checks = basicChecks(Machine())
    examined = runUntil(reactor, lambda: examine(checks, reactor))
    if not examined:
        print("nanotun doctor: interrupted, so nothing is known.", file=sys.stderr)
        return UNKNOWN
    findings += examined
    if options["json"]:
        print(asJSON(findings))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(asText(findings, colour))
    return exitStatus(findings)


def runUntil(reactor: Any, begin: Callable[[], Deferred[list[Finding]]]) -> list[Finding]:
    """
    Run the reactor until the Deferred of C{begin} has fired.

    @param begin: called once the reactor runs; its Deferred must not fail.
    @return: the Deferred's result; empty if the reactor was interrupted before.
    """
    result: list[Finding] = []

    def done(findings: list[Finding]) -> None:
        result.extend(findings)
        with contextlib.suppress(ReactorNotRunning):  # Ctrl-C stopped it already.
            reactor.stop()

    reactor.callWhenRunning(lambda: begin().addCallback(done))
    reactor.run()
    return result
