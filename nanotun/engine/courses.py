"""
Tells the native library what the dials of an upstream have in common.
"""

from __future__ import annotations

import struct
from collections import OrderedDict

from nanotun.engine import abi
from nanotun.interfaces import Course

#: Courses that the library knows at a time: one for each order of an upstream's addresses, and
#: for each program with a log-in of its own.  Each is some hundred bytes, and one that is
#: told again costs some microseconds.
COURSES_LIMIT = 1024

_COURSE = struct.Struct("=IIIIIHH")
_ADDRESS = struct.Struct("=HH")
_STEP = struct.Struct("=BBHHH")
_FAMILY = struct.Struct("=H")


def packed(course: Course) -> bytes:
    """A course in the form that C{ns_course} takes."""
    parts = [
        _COURSE.pack(
            course.mark,
            round(course.timeout * 1000),
            round(course.stallTime * 1000),
            round(course.patience * 1000),
            course.tls,
            len(course.addresses),
            len(course.steps),
        )
    ]
    for address in course.addresses:
        (family,) = _FAMILY.unpack_from(address)
        parts += _ADDRESS.pack(family, len(address)), address
    for send, own, mask, value, tail in course.steps:
        parts += _STEP.pack(own, tail, len(send), len(value), 0), send, mask, value
    return b"".join(parts)


class CourseNumbers:
    """The courses that one stack of the library knows, by their numbers."""

    __slots__ = ("_handle", "_latest", "_library", "_limit", "_numbers")

    def __init__(self, library: abi.NativeLibrary, handle: int, limit: int = COURSES_LIMIT) -> None:
        self._library = library
        self._handle = handle
        self._limit = limit
        # The course that was used last comes last.
        self._numbers: OrderedDict[Course, int] = OrderedDict()
        # Most flows leave by the same upstream, and to find a course by its value takes a
        # while.
        self._latest: tuple[Course | None, int] = (None, 0)

    def numberOf(self, course: Course) -> int:
        """
        The number of a course, which the library is told if it does not know it.

        @raise OSError: it does not take it.
        """
        latest, number = self._latest
        if course is latest:
            return number
        number = self._numbers.get(course, 0)
        if number:
            self._numbers.move_to_end(course)
        else:
            number = self._tell(course)
        self._latest = course, number
        return number

    def _tell(self, course: Course) -> int:
        blob = packed(course)
        result = self._library.ns_course(self._handle, blob, len(blob))
        number = self._numbers[course] = abi.check(result, "ns_course")
        if len(self._numbers) > self._limit:
            _, oldest = self._numbers.popitem(last=False)
            # Dials under way, and standing decisions, keep it.
            abi.check(self._library.ns_uncourse(self._handle, oldest), "ns_uncourse")
        return number
