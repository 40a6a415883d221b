"""
Tests for L{nanotun.log.trouble}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.log.trouble import CAUSE_LIMIT, REPORT_INTERVAL, TroubleLog


class TroubleTests(SynchronousTestCase):
    """
    Tests for L{TroubleLog}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.logged: list[str] = []
        log = Logger(
            observer=lambda event: self.logged.append(formatEvent(event)),  # type: ignore[arg-type]
            namespace="test",
        )
        self.trouble = TroubleLog(self.clock, log)

    def report(self, cause: str, times: int = 1) -> list[str]:
        """Report, and take what was logged since the last time."""
        for _ in range(times):
            self.trouble.report(cause)
        logged, self.logged[:] = self.logged[:], []
        return logged

    def pass_(self) -> list[str]:
        """Let an interval pass, and take what was logged."""
        self.clock.advance(REPORT_INTERVAL)
        return self.report("", 0)

    def test_flood(self) -> None:
        """
        The first error of a cause is logged at once, the others as a count.
        """
        self.assertEqual(self.report("down", 2000), ["down"])
        self.assertEqual(self.pass_(), ["down (1999 more in 10 s)"])
        self.assertEqual(self.report("down", 3), [])
        self.assertEqual(self.pass_(), ["down (3 more in 10 s)"])

    def test_times(self) -> None:
        """
        What happened several times is one line, and the count is of all.
        """
        self.trouble.report("down", 5)
        self.trouble.report("down", 3)
        self.assertEqual(self.report("", 0), ["down"])
        self.assertEqual(self.pass_(), ["down (7 more in 10 s)"])

    def test_other(self) -> None:
        """
        At another level and with another limit it does the same.
        """
        events: list[LogEvent] = []
        log = Logger(observer=events.append, namespace="test")  # type: ignore[arg-type]
        self.trouble = TroubleLog(self.clock, log, LogLevel.info, 2)
        for cause in "abcb":
            self.trouble.report(cause)
        self.clock.advance(REPORT_INTERVAL)
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["a", "b", "b (1 more in 10 s)", "1 more flows failed for other causes"],
        )
        self.assertEqual({event["log_level"] for event in events}, {LogLevel.info})
        self.trouble.stop()

    def test_over(self) -> None:
        """
        A cause that is over is forgotten, and logged at once if it comes back.
        """
        self.report("down")
        self.assertEqual(self.pass_(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.report("down"), ["down"])

    def test_causes(self) -> None:
        """
        Each cause has its own line, up to a limit.
        """
        for number in range(CAUSE_LIMIT):
            self.assertEqual(self.report(f"cause {number}"), [f"cause {number}"])
        self.assertEqual(self.report("one more", 5), [])
        self.assertEqual(self.pass_(), ["5 more flows failed for other causes"])

    def test_stop(self) -> None:
        """
        Stopping logs the counts that are still held back.
        """
        self.report("down", 4)
        self.trouble.stop()
        self.assertEqual(self.report("", 0), ["down (3 more)"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.trouble.stop()
        self.assertEqual(self.report("", 0), [])
