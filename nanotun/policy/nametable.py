"""
Names by their hash: one array of 64-bit numbers, so that a name takes 17 to 34 bytes, and
the garbage collector, which would stop for every one of a million names, has nothing to look at.

Two names with the same hash would be taken for each other.  With a million names that is the
fate of one query in 18 million million, and nobody can look for such a pair: Python keys its
hash of bytes anew in each process (SipHash, PEP 456).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable

#: Slots for each name, at least.  When more are taken, the table is made anew, twice as large.
SLOTS = 2

#: Slots of the smallest table: 8 KB.
_LEAST = 1 << 10


def _wide(name: bytes) -> int:
    """A hash of 64 bits, signed, where C{hash} has 32."""
    number = (hash(name) & 0xFFFFFFFF) << 32 | hash(name + b"\0") & 0xFFFFFFFF
    return number - (1 << 64) if number >> 63 else number


_hash: Callable[[bytes], int] = hash if sys.hash_info.width == 64 else _wide


class NameTable:
    """
    A set of names that only grows.

    @param expected: about how many there will be.
    """

    def __init__(self, expected: int = 0) -> None:
        self._count = 0
        self._resize(max(_LEAST, 1 << (expected * SLOTS).bit_length()))

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: bytes) -> bool:
        slots, mask = self._slots, self._mask
        number = _hash(name) or 1
        at = number & mask
        while (found := slots[at]) and found != number:
            at = (at + 1) & mask
        return bool(found)

    def _resize(self, size: int) -> None:
        self._mask = size - 1
        self._slots = array("q", bytes(8 * size))

    def update(self, names: Iterable[bytes]) -> None:
        """Add names, in lower case and without a final dot."""
        slots, mask, count = self._slots, self._mask, self._count
        limit = (mask + 1) // SLOTS
        for name in names:
            number = _hash(name) or 1  # 0 is an empty slot.
            at = number & mask
            while (found := slots[at]) and found != number:
                at = (at + 1) & mask
            if found:
                continue
            slots[at] = number
            count += 1
            if count > limit:
                self._grow()
                slots, mask = self._slots, self._mask
                limit = (mask + 1) // SLOTS
        self._count = count

    def _grow(self) -> None:
        before = self._slots
        self._resize(2 * len(before))
        slots, mask = self._slots, self._mask
        for number in before:
            if number:
                at = number & mask
                while slots[at]:
                    at = (at + 1) & mask
                slots[at] = number

    def within(self, name: bytes) -> bytes:
        """
        The longest of the names that a name is, or is below.

        @param name: in lower case and without a final dot.
        @return: empty for none.
        """
        slots, mask = self._slots, self._mask
        while True:
            number = _hash(name) or 1
            at = number & mask
            while found := slots[at]:
                if found == number:
                    return name
                at = (at + 1) & mask
            at = name.find(b".") + 1
            if not at:
                return b""
            name = name[at:]
