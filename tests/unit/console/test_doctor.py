"""Tests of L{nanotun.console.doctor} and L{nanotun.console.run.helper}."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.console import doctor
from nanotun.console.doctor import DoctorOptions, runUntil
from nanotun.console.run.helper import Notes
from nanotun.doctor.finding import Finding, Level

FOUND = [Finding("x", Level.OK, "Well.")]


class FakeReactor:
    """A reactor that only makes the calls it was given."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.stopped = 0

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        """Keep the call for later."""
        self.calls.append(call)

    def run(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()

    def stop(self) -> None:
        """Count the stops."""
        self.stopped += 1
        if self.stopped > 1:
            raise ReactorNotRunning


class RunTests(SynchronousTestCase):
    """L{runUntil}."""

    def test_fired(self) -> None:
        """The reactor runs until there is a result."""
        reactor = FakeReactor()
        self.assertEqual(runUntil(reactor, lambda: succeed(FOUND)), FOUND)
        self.assertEqual(reactor.stopped, 1)

    def test_interruptedLate(self) -> None:
        """Ctrl-C at the very moment of the result is no error."""
        reactor = FakeReactor()
        reactor.stopped = 1
        self.assertEqual(runUntil(reactor, lambda: succeed(FOUND)), FOUND)

    def test_interrupted(self) -> None:
        """If the reactor ends before there is a result, the result is empty."""
        self.assertEqual(runUntil(FakeReactor(), Deferred), [])


class OptionsTests(SynchronousTestCase):
    """L{DoctorOptions}, and the command in a process of its own."""

    def test_lazy(self) -> None:
        """Missing settings are no error of the command line."""
        options = DoctorOptions()
        options.parseOptions(["--json"])
        self.assertTrue(options["json"])

    def doctor(self, *arguments: str) -> tuple[int, list[dict[str, str]]]:
        """Status and findings; without a proxy, nothing is sent."""
        command = (
            "import sys; from nanotun.console.doctor import main; sys.exit(main(sys.argv[1:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", command, "--json", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.stderr, "")
        return done.returncode, json.loads(done.stdout)

    def test_noProxy(self) -> None:
        """Missing settings are a failure, and checks that need none run nevertheless."""
        status, found = self.doctor()
        self.assertEqual(status, 2)
        self.assertEqual((found[0]["check"], found[0]["level"]), ("configuration", "fail"))
        self.assertIn("No proxy is set: give --proxy", found[0]["text"])
        self.assertIn("program", [each["check"] for each in found])

    def test_interrupted(self) -> None:
        """An interrupted examination does not claim that all is well."""
        self.patch(doctor, "runUntil", lambda reactor, begin: [])
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = doctor.main(["--proxy", "direct://"])
        self.assertEqual((status, out.getvalue()), (2, ""))
        self.assertIn("interrupted", err.getvalue())

    def test_files(self) -> None:
        """A file that a start would refuse is told of; the rest is examined nevertheless."""
        told: list[tuple[str, str]] = []

        def checks(settings: object, notices: tuple[str, ...], *more: object, wrong: str) -> object:
            told.append(("".join(notices), wrong))
            return []

        self.patch(doctor, "allChecks", checks)
        self.patch(doctor, "runUntil", lambda reactor, begin: FOUND)
        for arguments in (
            ("--proxy", "https://h?insecure=1"),
            ("--proxy", "h", "--rule", "{to: reject, domains: 'file:/nowhere.txt'}"),
        ):
            with redirect_stdout(io.StringIO()):
                self.assertEqual(doctor.main(arguments), 0)
        (risk, nothing), (well, wrong) = told
        self.assertIn("Nobody checks the certificate", risk)
        self.assertIn("The list file /nowhere.txt cannot be read", wrong)
        self.assertEqual((nothing, well), ("", ""))

    def test_badFile(self) -> None:
        """A mistake in the file is a failure that names the line."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text("proxy: direct://\nmtu: 12\n")
        status, found = self.doctor("--config", str(path))
        self.assertEqual(status, 2)
        self.assertRegex(found[0]["text"], "line 2: .*mtu")


class NotesTests(SynchronousTestCase):
    """L{Notes}."""

    def test_warnings(self) -> None:
        """Only warnings and worse are kept, until they are taken."""
        notes = Notes()
        verifyObject(ILogObserver, notes)
        log = Logger(observer=LogPublisher(cast(ILogObserver, notes)))
        log.info("no")
        log.warn("yes {what}", what=1)
        self.assertEqual((notes.take(), notes.take()), (["yes 1"], []))
