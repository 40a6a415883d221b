"""
Tests of the build's tools, in tools/, and of the sample configuration.  The build itself
is tested by C{make build} and C{make wheel}.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import makeSettings
from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import golang
from run_tests import Counts, goCounts, showGo, trialCounts


class TrialCountsTests(SynchronousTestCase):
    """L{run_tests.trialCounts}."""

    def test_passed(self) -> None:
        """Successes and expected failures count as passed; skips are counted separately."""
        output = "Ran 5 tests in 0.1s\n\nPASSED (skips=1, expectedFailures=1, successes=3)\n"
        self.assertEqual(trialCounts(output), Counts(4, 0, 1))

    def test_failed(self) -> None:
        """Failures, errors and unexpected successes count as failed."""
        output = (
            "Ran 6 tests in 0.1s\n\n"
            "FAILED (failures=1, errors=2, unexpectedSuccesses=1, successes=2)\n"
        )
        self.assertEqual(trialCounts(output), Counts(2, 4, 0))

    def test_nothing(self) -> None:
        """Output without a summary, or without any test, is a failure."""
        for output in ("", "Segmentation fault\n", "Ran 0 tests in 0.0s\n\nPASSED\n"):
            self.assertEqual(trialCounts(output), Counts(0, 1, 0))


class GoCountsTests(SynchronousTestCase):
    """L{run_tests.goCounts}."""

    def test_counts(self) -> None:
        """Tests are counted and packages are not; a package that does not build is a failure."""
        events = [
            {"Action": "pass", "Package": "a", "Test": "T1"},
            {"Action": "skip", "Package": "a", "Test": "T2"},
            {"Action": "pass", "Package": "a"},
            {"Action": "fail", "Package": "b", "Test": "T3"},
            {"Action": "fail", "Package": "b"},
            {"Action": "fail", "Package": "c"},
        ]
        self.assertEqual(goCounts(events), Counts(1, 2, 1, ("b.T3", "c")))

    def test_crash(self) -> None:
        """What the tests that ran had said is shown when their package ends with a crash."""
        events = [
            {"Action": "run", "Package": "a", "Test": "T1"},
            {"Action": "output", "Package": "a", "Test": "T1", "Output": "quiet\n"},
            {"Action": "pass", "Package": "a", "Test": "T1"},
            {"Action": "run", "Package": "a", "Test": "T2"},
            {"Action": "output", "Package": "a", "Test": "T2", "Output": "panic: no\n"},
            {"Action": "output", "Package": "a", "Output": "FAIL a\n"},
            {"Action": "fail", "Package": "a"},
        ]
        with redirect_stdout(StringIO()) as printed:
            showGo(events)
        self.assertEqual(printed.getvalue(), "panic: no\nFAIL a\nfail a 0s\n")

    def test_nothing(self) -> None:
        """A run without any test is a failure."""
        self.assertEqual(goCounts([{"Action": "pass", "Package": "a"}]), Counts(0, 1, 0))


class FindGoTests(SynchronousTestCase):
    """L{golang.findGo}."""

    def fakeGo(self, version: str) -> str:
        """Make a program C{go} that reports a version, and return its directory."""
        directory = Path(self.mktemp())
        directory.mkdir()
        script = directory / "go"
        script.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
        script.chmod(0o755)
        return str(directory.resolve())

    def test_newEnough(self) -> None:
        """The first go on the path that is new enough is used; older ones are skipped."""
        old, broken, new = (self.fakeGo(v) for v in ("go1.26.2", "nonsense", "go1.27rc1"))
        self.patch(os, "environ", {"PATH": f"{old}:{broken}:{new}"})
        self.assertEqual(golang.findGo(), os.path.join(new, "go"))

    def test_minimumIsOfGoMod(self) -> None:
        """The minimum is the version in netstack/go.mod."""
        minimum = "go {}.{}.{}\n".format(*golang.MINIMUM)
        self.assertIn(minimum, (ROOT / "netstack" / "go.mod").read_text())


class BuildLibraryTests(SynchronousTestCase):
    """L{golang.buildLibrary}."""

    def test_replaced(self) -> None:
        """
        The library is another file than before, complete when it appears, and
        never writable by others; nothing else is left beside it.
        """
        output = Path(self.mktemp(), "lib.so")
        output.parent.mkdir()
        output.write_text("old")
        # As a daemon has it mapped.
        mapped = output.open()
        self.addCleanup(mapped.close)
        seen: list[str] = []

        def run(command: list[str], **_: object) -> None:
            made = Path(command[command.index("-o") + 1])
            seen.append(output.read_text())
            made.write_text("new")
            made.chmod(0o777)

        self.patch(golang, "findGo", lambda: "go")
        self.patch(golang, "checkMachine", lambda: None)
        self.patch(subprocess, "run", run)
        self.addCleanup(os.umask, os.umask(0))
        golang.buildLibrary(output)
        self.assertEqual(seen, ["old"])
        self.assertEqual((output.read_text(), mapped.read()), ("new", "old"))
        self.assertEqual(output.stat().st_mode & 0o7777, 0o755)
        self.assertEqual(os.listdir(output.parent), ["lib.so"])


class DocumentTests(SynchronousTestCase):
    """etc/nanotun.yaml."""

    def setUp(self) -> None:
        path = ROOT / "etc" / "nanotun.yaml"
        if not path.exists():
            raise SkipTest("not run from a checkout")
        self.text = path.read_text()

    def test_valid(self) -> None:
        """The sample is a valid configuration without any edit."""
        makeSettings(parseFile(self.text, "nanotun.yaml", KEYS), {}, "nanotun.yaml")

    def test_complete(self) -> None:
        """It shows every setting; those behind a # show their default, and are valid too."""
        lines = [line.lstrip("# ") for line in self.text.splitlines()]
        for key in KEYS.values():
            if key.default is not None:
                shown = "''" if key.default == "" else key.default
                self.assertIn(f"{key.name}: {shown}", lines)
        # The last line counts: before it, some show what a value of several lines looks like.
        last = {line.partition(":")[0]: line for line in lines}
        uncommented = "\n".join(line for name, line in last.items() if name in KEYS)
        self.assertEqual(set(parseFile(uncommented, "n", KEYS)), set(KEYS))
