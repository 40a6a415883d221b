"""
Tests for L{nanotun.engine.courses}.
"""

from __future__ import annotations

import errno
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.engine.courses import CourseNumbers, packed
from nanotun.interfaces import Course, Step, Tail
from tests.unit.engine.engine_cases import HANDLE, FakeLibrary

FOUR = b"\2\0\x04\x38\x7f\0\0\1" + bytes(8)
UNIX = b"\1\0/run/proxy\0"

#: Greeting, and request with the destination.
STEPS = (
    Step(b"\5\1\0", False, b"\xff\xff", b"\5\0"),
    Step(b"\5\1\0", True, b"\xff\xff\0\0", b"\5\0\0\1", Tail.SOCKS_ADDRESS),
)


def courseTo(port: int) -> Course:
    """A course without a handshake."""
    return Course((FOUR[:2] + port.to_bytes(2, "big") + FOUR[4:],), 5.0)


class PackedTests(SynchronousTestCase):
    """
    Tests for L{packed}.
    """

    def test_form(self) -> None:
        """
        A course has the library's form: numbers, addresses, then each step with its bytes.
        """
        self.assertEqual(
            packed(Course((FOUR, UNIX), 10.0, 0x6E61, 30.0, 3.0, STEPS, 4)),
            b"".join(
                (
                    b"\x61\x6e\0\0\x10\x27\0\0\x30\x75\0\0\xb8\x0b\0\0\4\0\0\0\2\0\2\0",
                    b"\2\0\x10\0" + FOUR,
                    b"\1\0\x0d\0" + UNIX,
                    b"\0\0\3\0\2\0\0\0\5\1\0\xff\xff\5\0",
                    b"\1\1\3\0\4\0\0\0\5\1\0\xff\xff\0\0\5\0\0\1",
                )
            ),
        )


class CourseNumbersTests(SynchronousTestCase):
    """
    Tests for L{CourseNumbers}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.library = FakeLibrary()
        self.library.results["ns_course"] = [1, 2, 3, 4]
        library: Any = self.library
        self.courses = CourseNumbers(library, HANDLE, limit=2)

    def test_once(self) -> None:
        """
        The library is told a course once, also if another one is used in between, and whichever
        of two equal values stands for it.
        """
        for _ in range(3):
            self.assertEqual(self.courses.numberOf(courseTo(1)), 1)
            self.assertEqual(self.courses.numberOf(courseTo(2)), 2)
        blob = packed(courseTo(1))
        self.assertEqual(self.library.named("ns_course")[0], (HANDLE, blob, len(blob)))
        self.assertEqual(len(self.library.named("ns_course")), 2)

    def test_limit(self) -> None:
        """
        Of too many, the one is given up that was not used for longest.
        """
        for port, number in ((1, 1), (2, 2), (1, 1), (3, 3), (1, 1), (2, 4)):
            self.assertEqual(self.courses.numberOf(courseTo(port)), number)
        self.assertEqual(self.library.named("ns_uncourse"), [(HANDLE, 2), (HANDLE, 3)])

    def test_refused(self) -> None:
        """
        What the library does not take is an error, and is not remembered.
        """
        self.library.results["ns_course"] = [-errno.EINVAL, 7]
        self.assertRaises(OSError, self.courses.numberOf, courseTo(1))
        self.assertEqual(self.courses.numberOf(courseTo(1)), 7)
