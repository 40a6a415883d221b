"""Tests of L{nanotun.metrics.labels}."""

from __future__ import annotations

import operator

from twisted.trial.unittest import SynchronousTestCase

from nanotun.metrics.labels import bounded


class BoundedTests(SynchronousTestCase):
    """L{bounded}."""

    def test_few(self) -> None:
        """Up to the limit each set of labels is there, in order, with what it has."""
        rows = [(("b",), 1.0), (("a",), 2.0)]
        self.assertEqual(list(bounded(rows, operator.add, limit=2).items()), rows)

    def test_twice(self) -> None:
        """A set of labels that comes twice is there once."""
        rows = [(("a",), 1.0), (("b",), 5.0), (("a",), 2.0)]
        self.assertEqual(bounded(rows, operator.add), {("a",): 3.0, ("b",): 5.0})
        self.assertEqual(bounded(rows, min), {("a",): 1.0, ("b",): 5.0})

    def test_many(self) -> None:
        """Those beyond the limit are one, whose labels say so; what is there stays."""
        rows = [(("a", "1"), 1.0), (("b", "2"), 2.0), (("c", "3"), 4.0), (("a", "1"), 8.0)]
        self.assertEqual(
            bounded(rows, operator.add, limit=1),
            {("a", "1"): 9.0, ("other", "other"): 6.0},
        )

    def test_kept(self) -> None:
        """Labels that have few values anyway are kept of all."""
        rows = [(("proxy", "#1"), 1.0), (("proxy", "#2"), 2.0), (("drop", "#3"), 4.0)]
        self.assertEqual(
            bounded(rows, operator.add, kept=1, limit=1),
            {("proxy", "#1"): 1.0, ("proxy", "other"): 2.0, ("drop", "other"): 4.0},
        )
