"""Tests of L{nanotun.config.values}; L{tests.unit.config.test_settings} tests its errors too."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.values import parseDuration, wholePath
from nanotun.errors import ConfigError


class DurationTests(SynchronousTestCase):
    """L{parseDuration}."""

    def test_accepted(self) -> None:
        """Go's notation gives seconds."""
        for text, seconds in {
            "300ms": 0.3,
            "30s": 30,
            "1m": 60,
            "2m30s": 150,
            "1h": 3600,
            "1.5s": 1.5,
            "0s": 0,
        }.items():
            self.assertAlmostEqual(parseDuration(text), seconds)

    def test_rejected(self) -> None:
        """Everything else is an error."""
        for text in ("", "5", "s", "-1s", "1 s", "1d", "1s2", "1e3s", "s1", "1..5s", "1s\n", "٣s"):
            self.assertRaises(ValueError, parseDuration, text)


class PathTests(SynchronousTestCase):
    """L{wholePath}."""

    def test_whole(self) -> None:
        """A relative path, or a value that is not a path, is refused."""
        self.assertEqual(wholePath("/run/nanotun"), "/run/nanotun")
        for value in ("", "run", "./run", "/a\0b", 7, None):
            error = self.assertRaises(ConfigError, wholePath, value)
            self.assertIn("must be a directory's path that begins with /, not", str(error))
