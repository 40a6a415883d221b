"""Tests of L{nanotun.policy.wildcard}."""

from __future__ import annotations

import random
import re

from twisted.trial.unittest import SynchronousTestCase

from nanotun.policy.wildcard import wildcardOf


class WildcardTests(SynchronousTestCase):
    """L{wildcardOf}."""

    def test_likeRegex(self) -> None:
        """Of 20,000 wildcards, each takes the names that its regular expression takes."""
        chance = random.Random(7)
        for _ in range(20_000):
            text = "".join(chance.choices("ab.*", k=chance.randint(1, 7)))
            if "*" not in text:
                text += "*"
            name = "".join(chance.choices("ab.", k=chance.randint(1, 9)))
            whole = ".+".join(map(re.escape, text.split("*")))
            expected = re.fullmatch(whole, name) is not None
            self.assertEqual(wildcardOf(text).takes(name), expected, (text, name))
            below = rf"(?:^|\.){'.*'.join(map(re.escape, text.split('*')))}$"
            expected = re.search(below, name) is not None
            found = wildcardOf(text, least=0, below=True).takes(name)
            self.assertEqual(found, expected, (text, name))

    def test_many(self) -> None:
        """Many stars and a name that is almost meant take no time; as a regex, centuries."""
        wildcard = wildcardOf("a*" * 50 + "b")
        self.assertFalse(wildcard.takes("a" * 252 + "c"))
        self.assertFalse(wildcardOf("a*" * 50 + "ab*b").takes("a" * 252 + "b"))
        self.assertTrue(wildcard.takes("a" * 252 + "b"))
