"""Tests of L{nanotun.policy.nametable}."""

from __future__ import annotations

import random
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.policy import nametable
from nanotun.policy.nametable import NameTable


def parents(name: str) -> list[str]:
    """The name and those above it."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


class NameTableTests(SynchronousTestCase):
    """L{NameTable}."""

    def randomNames(self, seed: int, many: int) -> list[str]:
        """Names of one to five short labels, so that many are below others."""
        chance = random.Random(seed)
        return [
            ".".join(
                "".join(chance.choices("abcd", k=chance.randint(1, 3)))
                for _ in range(chance.randint(1, 5))
            )
            for _ in range(many)
        ]

    def test_likeASet(self) -> None:
        """The table has those of 20,000 names that a set has, and finds the longest of them."""
        names = self.randomNames(1, 20_000)
        table, expected = NameTable(), set(names)
        table.update(name.encode() for name in names)
        self.assertEqual(len(table), len(expected))
        for name in self.randomNames(2, 5000):
            found = next((each for each in parents(name) if each in expected), "")
            self.assertEqual(table.within(name.encode()).decode(), found, name)
            self.assertEqual(name.encode() in table, name in expected, name)

    def test_below(self) -> None:
        """A name is found by itself and by what is below it, but not by its end alone."""
        table = NameTable()
        table.update([b"corp.example"])
        self.assertEqual(table.within(b"corp.example"), b"corp.example")
        self.assertEqual(table.within(b"a.b.corp.example"), b"corp.example")
        self.assertEqual(table.within(b"mycorp.example"), b"")
        self.assertEqual(table.within(b"example"), b"")
        self.assertNotIn(b"a.corp.example", table)

    def test_growth(self) -> None:
        """However many names come at once, half of the table stays free."""
        table = NameTable()
        names = [b"%d.example" % number for number in range(5000)]
        for name in names:
            table.update([name])
        self.assertEqual(len(table), len(names))
        self.assertTrue(all(name in table for name in names))
        self.assertGreaterEqual(len(table._slots), 2 * len(names))
        expected = NameTable(5000)
        size = len(expected._slots)
        expected.update(names)
        self.assertEqual(len(expected._slots), size)

    def test_emptyHash(self) -> None:
        """A name whose hash is that of an empty slot is kept and found like any other."""
        with mock.patch.object(nametable, "_hash", lambda name: 0):
            table = NameTable()
            self.assertNotIn(b"a.example", table)
            table.update([b"a.example"])
            self.assertIn(b"a.example", table)
            self.assertEqual(table.within(b"a.example"), b"a.example")

    def test_narrowHash(self) -> None:
        """Where hashes have 32 bits, two of them make a number that fits into the table."""
        for number in (0, 1, -1, 2**31 - 1, -(2**31)):
            with mock.patch.object(nametable, "hash", lambda name, it=number: it, create=True):
                wide = nametable._wide(b"a")
            self.assertTrue(-(2**63) <= wide < 2**63, wide)
        with mock.patch.object(nametable, "_hash", nametable._wide):
            table = NameTable()
            names = [b"%d.example" % number for number in range(2000)]
            table.update(names)
            self.assertTrue(all(name in table for name in names))
            self.assertNotIn(b"x.example", table)
