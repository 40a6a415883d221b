"""
Tests for L{nanotun.router.crowds}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Crowd, CrowdKind
from nanotun.log.trouble import REPORT_INTERVAL, TroubleLog
from nanotun.router.crowds import CrowdLog, sentenceOf


class CrowdTests(SynchronousTestCase):
    """L{sentenceOf} and L{CrowdLog}."""

    def test_sentences(self) -> None:
        """Each kind of crowd is a sentence with what it needs to be found."""
        for kind, uid, limit, words in (
            (CrowdKind.PROGRAM, 1000, 2048, "The programs of uid 1000 have 2048 unanswered"),
            (CrowdKind.PROGRAM, 0, 2048, "The programs of uid 0 have 2048 unanswered"),
            (CrowdKind.PROGRAM, -1, 2048, "Programs that nanotun cannot tell apart have 2048"),
            (CrowdKind.SOURCE, -1, 2048, "192.0.2.7 has 2048 unanswered connections under way"),
            (CrowdKind.MACHINE, -1, 3072, "This machine has 3072 unanswered connections"),
            (CrowdKind.OTHERS, -1, 3072, "Other machines have 3072 unanswered connections"),
            (CrowdKind.MACHINE, -1, 0, "This machine and others have as many unanswered"),
            (CrowdKind.HALF_OPEN, -1, 4096, "4096 connections were accepted and are not"),
            (CrowdKind.HALF_OPEN, -1, 0, "Many connections were accepted and are not"),
        ):
            sentence = sentenceOf(Crowd(kind, "192.0.2.7", uid, limit, 5))
            self.assertTrue(sentence.startswith(words), sentence)
            self.assertTrue(sentence.endswith("the one that has waited longest."), sentence)

    def test_oneNetwork(self) -> None:
        """The addresses of one IPv6 network are one machine's, and so one sentence."""
        one, other = (
            sentenceOf(Crowd(CrowdKind.SOURCE, host, -1, 2048, 5))
            for host in ("2001:db8:1::9", "2001:db8:1::a:b")
        )
        self.assertEqual(one, other)
        self.assertTrue(one.startswith("2001:db8:1::/64 has 2048 unanswered"), one)

    def test_once(self) -> None:
        """A crowd is logged once, and then its connections are counted."""
        clock = Clock()
        crowd = Crowd(CrowdKind.PROGRAM, "198.18.0.2", 1000, 2048, 1)
        lines: list[str] = []
        logger = Logger(
            observer=lambda event: lines.append(formatEvent(event)),  # type: ignore[arg-type]
            namespace="test",
        )
        log = CrowdLog(TroubleLog(clock, logger))
        log.report(crowd)
        self.assertEqual(lines, [sentenceOf(crowd)])
        log.report(crowd._replace(times=700))
        log.report(crowd._replace(times=34))
        self.assertEqual(len(lines), 1)
        clock.advance(REPORT_INTERVAL)
        self.assertEqual(lines[1:], [f"{sentenceOf(crowd)} (734 more in 10 s)"])
