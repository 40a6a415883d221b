"""Tests of L{nanotun.config.times}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.times import DAY, TimeSpan, timeSpan
from nanotun.errors import ConfigError

WEEK = frozenset(range(7))


class TimeSpanTests(SynchronousTestCase):
    """L{timeSpan} and L{TimeSpan}."""

    def test_forms(self) -> None:
        """Days, hours, or both; capitals do not matter."""
        for text, span in (
            ("Mo-Fr 08:00-18:00", TimeSpan(frozenset(range(5)), 480, 1080)),
            ("mo-fr 8:00 - 18:00", TimeSpan(frozenset(range(5)), 480, 1080)),
            ("Sa-Su", TimeSpan(frozenset((5, 6)), 0, DAY)),
            ("We", TimeSpan(frozenset((2,)), 0, DAY)),
            ("Sa-Mo", TimeSpan(frozenset((5, 6, 0)), 0, DAY)),
            ("22:00-06:00", TimeSpan(WEEK, 1320, 360)),
            ("00:00-24:00", TimeSpan(WEEK, 0, DAY)),
            ("Su23:59-00:00", TimeSpan(frozenset((6,)), 1439, 0)),
        ):
            self.assertEqual(timeSpan(text), span)

    def test_refused(self) -> None:
        """Anything else is refused."""
        for text in (
            *("", "8-18", "Mo-", "-Fr", "Mo,Tu", "Monday", "Mo-Fr-Su", "Mo-Fr 08:00", "08:00"),
            *("24:00-06:00", "08:00-24:01", "08:60-09:00", "08:00-29:00", "Mo - Fr", "08:00-"),
        ):
            self.assertRaises(ValueError, timeSpan, text)
        error = self.assertRaises(ConfigError, timeSpan, "Mo 08:00-8:00")
        self.assertEqual(
            str(error),
            ": Mo 08:00-8:00 ends when it begins; leave the hours out if the whole day is meant",
        )

    def moments(self, text: str) -> list[tuple[int, int]]:
        """The minutes of a week, by day, at which a span begins and is over."""
        span = timeSpan(text)
        week = [(day, minute) for day in range(7) for minute in range(DAY)]
        states = [span.includes(*each) for each in week]
        return [week[n] for n in range(len(week)) if states[n] != states[n - 1]]

    def test_sameDay(self) -> None:
        """The first minute is in it and the last is not, on each of its days."""
        self.assertEqual(
            self.moments("Mo-Tu 08:00-18:00"), [(0, 480), (0, 1080), (1, 480), (1, 1080)]
        )
        self.assertEqual(self.moments("Tu"), [(1, 0), (2, 0)])
        self.assertEqual(self.moments("Tu 22:00-24:00"), [(1, 1320), (2, 0)])

    def test_pastMidnight(self) -> None:
        """What goes on past midnight belongs to the day on which it began, Sundays too."""
        self.assertEqual(self.moments("Fr 22:00-06:00"), [(4, 1320), (5, 360)])
        self.assertEqual(self.moments("Su 22:00-06:00"), [(0, 360), (6, 1320)])
        self.assertEqual(self.moments("Tu 22:00-00:00"), [(1, 1320), (2, 0)])
        both = self.moments("Fr-Sa 22:00-06:00")
        self.assertEqual(both, [(4, 1320), (5, 360), (5, 1320), (6, 360)])

    def test_always(self) -> None:
        """The whole of every day is always."""
        self.assertEqual(self.moments("Mo-Su"), [])
        self.assertTrue(timeSpan("00:00-24:00").includes(3, 720))
