"""Tests of L{nanotun.doctor.finding}, C{report} and C{examination}."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.doctor.examination import CHECK_LIMIT, examine
from nanotun.doctor.finding import Finding, Level, exitStatus
from nanotun.doctor.report import WIDTH, asJSON, asText
from nanotun.errors import EngineError
from tests.unit.fields import fieldsIn, keysOf

OK = Finding("one", Level.OK, "All right.")
INFO = Finding("two", Level.INFO, "By the way.", "Nothing much.")
WARN = Finding("three", Level.WARN, "Oh " * 40 + "dear.", "Do " * 40 + "this.")
FAIL = Finding("four", Level.FAIL, "Broken.", "Mend it.")


class StatusTests(SynchronousTestCase):
    """L{exitStatus}."""

    def test_statuses(self) -> None:
        """The worst finding decides: 0 if all is well, 1 for warnings, 2 for failures."""
        self.assertEqual(exitStatus([]), 0)
        self.assertEqual(exitStatus([OK, INFO]), 0)
        self.assertEqual(exitStatus([OK, WARN, INFO]), 1)
        self.assertEqual(exitStatus([FAIL, WARN, INFO]), 2)


class TextTests(SynchronousTestCase):
    """L{asText}."""

    def test_aligned(self) -> None:
        """Levels, names and sentences are aligned; a cure has an arrow."""
        self.assertEqual(
            asText([OK, INFO, FAIL]).splitlines(),
            [
                "ok    one   All right.",
                "info  two   By the way.",
                "            -> Nothing much.",
                "fail  four  Broken.",
                "            -> Mend it.",
                "",
                "1 failure.",
            ],
        )

    def test_width(self) -> None:
        """No line is wider than the screen, and continuation lines are aligned."""
        lines = asText([WARN, OK]).splitlines()
        self.assertLessEqual(max(map(len, lines)), WIDTH)
        self.assertTrue(lines[1].startswith(" " * 13 + "Oh"), lines)

    def test_colour(self) -> None:
        """A terminal gets colours, which take no columns."""
        plain, coloured = asText([FAIL]), asText([FAIL], True)
        self.assertIn("\x1b[31;1mfail\x1b[0m  four", coloured)
        self.assertNotIn("\x1b", plain)

    def test_summary(self) -> None:
        """The last line counts failures and warnings."""
        for findings, line in (
            ([OK, INFO], "All is well."),
            ([WARN], "1 warning."),
            ([WARN, WARN, FAIL, FAIL], "2 failures and 2 warnings."),
            ([], "All is well."),
        ):
            self.assertEqual(asText(findings).splitlines()[-1], line)


class JSONTests(SynchronousTestCase):
    """L{asJSON}."""

    def test_fields(self) -> None:
        """Each finding is an object with its level as a word, and docs/doctor.md has its fields."""
        known = fieldsIn("doctor.md", "# nanotun doctor: what is wrong, and its cure")
        self.assertLessEqual(set(keysOf(json.loads(asJSON([INFO])))), known)
        self.assertEqual(
            json.loads(asJSON([INFO])),
            [{"check": "two", "level": "info", "text": "By the way.", "cure": "Nothing much."}],
        )


class FakeCheck:
    """A check with a given result."""

    def __init__(self, result: Any, name: str = "fake") -> None:
        self.name = name
        self.result = result

    def run(self) -> Any:
        """Return the result, or raise it."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class ExamineTests(SynchronousTestCase):
    """L{examine}."""

    def examine(self, *results: Any) -> Deferred[list[Finding]]:
        """Examine checks with these results."""
        self.clock = Clock()
        return examine([FakeCheck(each) for each in results], self.clock)  # type: ignore[misc]

    def test_order(self) -> None:
        """Findings are in the checks' order, whichever ends first."""
        late: Deferred[list[Finding]] = Deferred()
        found = self.examine(late, [INFO, WARN], [OK])
        self.assertNoResult(found)
        late.callback([FAIL])
        self.assertEqual(self.successResultOf(found), [FAIL, INFO, WARN, OK])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow(self) -> None:
        """A check that hangs is given up, and the others are still reported."""
        cancelled: list[object] = []
        found = self.examine(Deferred(cancelled.append), [OK])
        self.clock.advance(CHECK_LIMIT)
        first, second = self.successResultOf(found)
        self.assertEqual((first.level, second), (Level.WARN, OK))
        self.assertIn("took longer than 12 s", first.text)
        self.assertEqual(len(cancelled), 1)

    def test_known(self) -> None:
        """A nanotun error is a failure with its own sentence."""
        (found,) = self.successResultOf(self.examine(EngineError("it broke; mend it.")))
        self.assertEqual(found, Finding("fake", Level.FAIL, "It broke; mend it."))

    def test_unknown(self) -> None:
        """A check that raises another error is reported as broken."""
        (found,) = self.successResultOf(self.examine(KeyError("x")))
        self.assertEqual((found.check, found.level), ("fake", Level.WARN))
        self.assertIn("This check itself failed: KeyError('x')", found.text)
        self.assertIn("report", found.cure)
