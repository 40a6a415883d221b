"""Tests of L{nanotun.policy.nameindex}."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.domains import Pattern, pattern
from nanotun.policy.nameindex import NameIndex
from nanotun.policy.names import NameSet

LABELS = ("a", "b", "www", "x-y")


def someName(chance: random.Random) -> str:
    """A name by chance, of few labels, so that many of them are about each other."""
    return ".".join(chance.choice(LABELS) for _ in range(chance.randint(1, 4)))


def somePatterns(chance: random.Random) -> tuple[Pattern, ...] | None:
    """The C{domains} of a rule by chance."""
    if chance.random() < 0.1:
        return None
    marks = ("", "", "=", "*.") if chance.random() < 0.3 else ("", "=")
    return tuple(
        pattern(chance.choice(marks) + someName(chance)) for _ in range(chance.randint(1, 3))
    )


class NameIndexTests(SynchronousTestCase):
    """L{NameIndex}."""

    def test_complete(self) -> None:
        """The index excludes no rule that has the name, and keeps the rules' order."""
        chance = random.Random(16)
        left = 0
        for _ in range(200):
            rules = [somePatterns(chance) for _ in range(chance.randint(0, 12))]
            index = NameIndex(rules)
            for _ in range(10):
                name = someName(chance)
                found = index.about(name)
                self.assertEqual(found, sorted(set(found)))
                having = [
                    number
                    for number, each in enumerate(rules)
                    if each is None or NameSet(each, {}).find(name)
                ]
                self.assertLessEqual(set(having), set(found), (name, rules))
                left += len(rules) - len(found)
        # It would be no index if it excluded nothing.
        self.assertGreater(left, 1000)

    def test_exact(self) -> None:
        """Of rules with plain names only, none is left that does not have the name."""
        rules = [[pattern(text)] for text in ("b.a", "=a", "a", "c", "=x.b.a")]
        index = NameIndex(rules)
        for name, expected in (
            ("a", [1, 2]),
            ("x.a", [2]),
            ("b.a", [0, 2]),
            ("x.b.a", [0, 2, 4]),
            ("y.x.b.a", [0, 2]),
            ("ba", []),
            ("", []),
        ):
            self.assertEqual(index.about(name), expected, name)

    def test_others(self) -> None:
        """Whatever has to be compared with each name is always left."""
        texts = ("*.a", "~^x", "file:/list", "=b")
        index = NameIndex([*([pattern(text)] for text in texts), None])
        self.assertEqual(index.about("c"), [0, 1, 2, 4])
        self.assertEqual(index.about("b"), [0, 1, 2, 3, 4])
