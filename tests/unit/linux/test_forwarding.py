"""Tests of L{nanotun.linux.forwarding}."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.forwarding import MAX_AGE, Forwarding, switches


class SwitchesTests(SynchronousTestCase):
    """L{switches}."""

    def setUp(self) -> None:
        """A kernel's directory of switches."""
        self.root = Path(self.mktemp())

    def write(self, name: str, text: str) -> None:
        """Set an interface's switch."""
        (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / name / "forwarding").write_text(text)

    def test_any(self) -> None:
        """Each interface is asked, and first the one that stands for all."""
        for name, text in (("up0", "2\n"), ("all", "1\n"), ("lo", "0\n")):
            self.write(name, text)
        found = list(switches((str(self.root), str(self.root / "none"))))
        self.assertEqual((found[0], sorted(found)), (True, [False, True, True]))

    def test_gone(self) -> None:
        """An interface that goes meanwhile does not forward."""
        self.write("lo", "0\n")
        (self.root / "up0").mkdir()
        self.assertEqual(list(switches((str(self.root),))), [False])

    def test_here(self) -> None:
        """This machine says something."""
        self.assertTrue(list(switches()))


class ForwardingTests(SynchronousTestCase):
    """L{Forwarding}."""

    def setUp(self) -> None:
        """Make one whose kernel the test makes up."""
        self.clock = Clock()
        self.found: list[bool] = [False, False]
        self.broken = False
        self.readings = 0
        self.forwarding = Forwarding(self.clock.seconds, self.read)

    def read(self) -> Iterable[bool]:
        """What the kernel says."""
        self.readings += 1
        if self.broken:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.found

    def test_any(self) -> None:
        """One interface that forwards is enough, and if nobody knows, it does."""
        self.assertFalse(self.forwarding.forwards())
        for self.found, self.broken in (([False, True], False), ([False], True)):
            self.forwarding.forget()
            self.assertTrue(self.forwarding.forwards())

    def test_remembers(self) -> None:
        """The answer is used for a while, until it is forgotten."""
        for _ in range(3):
            self.forwarding.forwards()
        self.assertEqual(self.readings, 1)
        self.clock.advance(MAX_AGE)
        self.forwarding.forwards()
        self.assertEqual(self.readings, 2)
        self.forwarding.forget()
        self.forwarding.forwards()
        self.assertEqual(self.readings, 3)

    def test_stopsEarly(self) -> None:
        """It reads no further than to the first interface that forwards."""

        def endless() -> Iterator[bool]:
            while True:
                yield True

        self.assertTrue(Forwarding(self.clock.seconds, endless).forwards())
