"""
Tests of what counts as a failure under CI, in tools/skips.py.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import run_tests
import skips

SEPARATOR, LINE = "=" * 79, "-" * 79

LIST = """\
# About the list.

*       there is no .*
trixie  dante is not installed
"""

OUTPUT = f"""\
tests.a
  ATests
    test_1 ...                                                        [SKIPPED]

{SEPARATOR}
[SKIPPED]
there is no road

tests.a.ATests.test_1
tests.a.ATests.test_2
{SEPARATOR}
[SKIPPED]
dante is not installed

tests.b.BTests.test_3
{LINE}
Ran 4 tests in 0.1s

PASSED (skips=3, successes=1)
"""

ROAD = [skips.Skip(f"tests.a.ATests.test_{each}", "there is no road") for each in (1, 2)]
DANTE = skips.Skip("tests.b.BTests.test_3", "dante is not installed")


class SkipsTests(SynchronousTestCase):
    """L{skips}, and what L{run_tests} makes of it."""

    def test_trial(self) -> None:
        """The names and reasons are those that trial prints."""
        self.assertEqual(list(skips.trialSkips(OUTPUT)), [*ROAD, DANTE])

    def test_go(self) -> None:
        """The names and reasons are those that go test prints."""
        test = {"Package": "a", "Test": "T1"}
        events = [
            {"Action": "output", "Output": "=== RUN   T1\n", **test},
            {"Action": "output", "Output": "    x_test.go:29: there is no road\n", **test},
            {"Action": "skip", **test},
            {"Action": "skip", "Package": "a"},
            {"Action": "pass", "Package": "a", "Test": "T2"},
        ]
        self.assertEqual(list(skips.goSkips(events)), [skips.Skip("a.T1", "there is no road")])

    def test_failures(self) -> None:
        """Each test that failed is named once, whatever its output looks like, and no other."""
        output = f"""\
{SEPARATOR}
[FAIL]
Traceback (most recent call last):
  File "a.py", line 1

twisted.trial.unittest.FailTest: one is not two

tests.a.ATests.test_1
{SEPARATOR}
[ERROR]
Traceback (most recent call last):
exceptions.DirtyReactorAggregateError: Reactor was unclean.

tests.a.ATests.test_1
tests.a.ATests.test_2
{SEPARATOR}
[SKIPPED]
there is no road

tests.a.ATests.test_3
{SEPARATOR}
[SUCCESS!?!]
Reason: 'not yet'

tests.a.ATests.test_4
{LINE}
Ran 4 tests in 0.1s

FAILED (skips=1, failures=1, errors=2, unexpectedSuccesses=1)
"""
        names = tuple(f"tests.a.ATests.test_{each}" for each in (1, 2, 4))
        self.assertEqual(self.verdict({}, output), (0, 4, 1, names))

    def test_said(self) -> None:
        """What a test has printed behind the names loses that block, and no other."""
        said = "Exception ignored in: a file"
        failed = f"{SEPARATOR}\n[FAIL]\nwrong\n\ntests.a.ATests.test_0\n{said}\n"
        output = OUTPUT.replace(SEPARATOR, failed + SEPARATOR, 1)
        self.assertEqual(list(skips.trialSkips(output)), [*ROAD, DANTE])
        self.assertEqual(skips.trialFailures(output), [])

    def test_listed(self) -> None:
        """A reason counts where the list has the whole of it, for all releases or this one."""
        for release, left in (("trixie", []), ("bookworm", [DANTE])):
            accepted = skips.reasons(LIST, release)
            self.assertEqual(skips.unlisted(iter([*ROAD, DANTE]), accepted), left)
        longer = skips.Skip("a", "today there is no road")
        self.assertEqual(skips.unlisted(iter([longer]), skips.reasons(LIST, "")), [longer])

    def test_wrong(self) -> None:
        """A wrong line is named."""
        for line in ("trixie", "* ("):
            with self.assertRaisesRegex(ValueError, "line 2: write"):
                skips.reasons(f"# About\n{line}\n", "trixie")

    def test_own(self) -> None:
        """The list can be read."""
        self.assertTrue(skips.reasons(skips.LIST.read_text(), "bookworm"))

    def verdict(self, environment: dict[str, str], output: str) -> run_tests.Counts:
        """What a run with this output and status 0 counts as."""
        self.patch(os, "environ", environment)
        self.patch(skips, "codename", lambda: "trixie")
        with redirect_stdout(StringIO()) as printed:
            found = run_tests.verdict(output, 0)
        self.printed = printed.getvalue()
        return found

    def test_underCI(self) -> None:
        """Under CI, and only there, a skip is a failure unless its reason is listed."""
        self.assertEqual(self.verdict({}, OUTPUT), (1, 0, 3, ()))
        self.assertEqual(self.printed, "")
        self.assertEqual(
            self.verdict({"CI": "true"}, OUTPUT),
            (1, 2, 1, ("tests.a.ATests.test_1", "tests.a.ATests.test_2")),
        )
        self.assertIn("tests.a.ATests.test_2: there is no road\n", self.printed)

    def test_unread(self) -> None:
        """Under CI, a skip without a reason is a failure."""
        output = f"{LINE}\nRan 2 tests in 0.1s\n\nPASSED (skips=1, successes=1)\n"
        self.assertEqual(self.verdict({"CI": "true"}, output), (1, 1, 0, ()))
