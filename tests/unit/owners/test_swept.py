"""Tests for L{nanotun.owners.swept}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.owners.swept import SWEPT_LIMIT, SweptSockets
from nanotun.testing import FakeProcesses


class SweptTests(SynchronousTestCase):
    """L{SweptSockets}."""

    def setUp(self) -> None:
        """A process with a socket."""
        self.processes = FakeProcesses()
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.open(60, 700)
        self.swept = SweptSockets(self.processes)

    def test_found(self) -> None:
        """A socket is where it was found, as long as it is there."""
        self.swept.take((700, 701), {700: (60, 3), 701: (60, 4)}, 0)
        self.assertEqual(self.swept.placeOf(700), (60, 3))
        self.assertIsNone(self.swept.placeOf(701))

    def test_absent(self) -> None:
        """It is counted how often a socket was nowhere, until it is found."""
        for times in (1, 2):
            self.swept.take((700, 701), {}, 0)
            self.assertEqual(self.swept.absences(700), times)
        self.swept.take((700,), {700: (60, 3)}, 0)
        self.assertEqual((self.swept.absences(700), self.swept.absences(701)), (0, 2))

    def test_changed(self) -> None:
        """Once others are suspects, it is not known any more who has no socket."""
        self.swept.take((700,), {}, 0)
        self.swept.forget(True)
        self.assertEqual(self.swept.absences(700), 0)
        self.swept.take((700,), {701: (60, 3)}, 0)
        self.assertEqual(self.swept.absences(700), 0)

    def test_limit(self) -> None:
        """What is remembered is bounded; the latest is kept."""
        for first in range(0, 3 * SWEPT_LIMIT, SWEPT_LIMIT // 2):
            inodes = range(first, first + SWEPT_LIMIT // 2)
            self.swept.take(inodes, {}, 0)
        self.assertEqual(len(self.swept._absent), SWEPT_LIMIT)
        self.assertEqual(self.swept.absences(3 * SWEPT_LIMIT - 1), 1)
