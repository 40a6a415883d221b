"""Tests of L{nanotun.log.tail}."""

from __future__ import annotations

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nanotun.log.format import FORMATS
from nanotun.log.service import LineObserver
from nanotun.log.tail import KEPT, LogTail


class LogTailTests(SynchronousTestCase):
    """L{LogTail}, which is given lines as they are written."""

    def setUp(self) -> None:
        """Nothing is logged yet."""
        self.now = 1000.0
        self.tail = LogTail(lambda: self.now)
        self.lines = LineObserver()
        self.lines.add(self.tail.write)

    def log(self, text: str, level: str = "info", **fields: object) -> None:
        """Log an event."""
        event: LogEvent = {
            "log_format": text,
            "log_level": LogLevel.lookupByName(level),
            "log_namespace": "nanotun.test",
            "log_time": self.now,
            **fields,
        }
        self.lines(event)

    def test_lines(self) -> None:
        """A line is taken apart, whether it was written as text or as JSON."""
        for form in FORMATS:
            self.lines.format = FORMATS[form]
            self.now += 1
            self.log("a [b] {c} d", "warn", c="x\x1b")
        text, other = self.tail.lines(10)
        self.assertEqual(
            text,
            {
                "number": 1,
                "time": 1001.0,
                "level": "warn",
                "namespace": "nanotun.test",
                "text": "a [b] x\\x1b d",
            },
        )
        self.assertEqual(other, {**text, "number": 2, "time": 1002.0, "text": other["text"]})
        self.assertIn("a [b] x", other["text"])

    def test_traceback(self) -> None:
        """A traceback belongs to its line."""
        for form in FORMATS:
            self.lines.format = FORMATS[form]
            self.log("It broke", "critical", log_failure=Failure(ValueError("why")))
        for each in self.tail.lines(10):
            self.assertEqual(each["level"], "critical")
            self.assertIn("It broke", each["text"])
            self.assertIn("ValueError: why", each["text"])

    def test_newest(self) -> None:
        """The newest are told, or those after one; the oldest are forgotten."""
        for number in range(KEPT + 5):
            self.log(str(number))
        self.assertEqual([each["text"] for each in self.tail.lines(2)], ["1003", "1004"])
        numbers = [each["number"] for each in self.tail.lines(KEPT, after=KEPT + 3)]
        self.assertEqual(numbers, [KEPT + 4, KEPT + 5])
        self.assertEqual(self.tail.lines(2 * KEPT)[0]["number"], 6)
        self.assertEqual(self.tail.lines(10, after=KEPT + 5), [])
