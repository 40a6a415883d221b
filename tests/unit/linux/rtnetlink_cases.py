"""
What the kernel answers, for the tests of L{nanotun.linux}.
"""

from __future__ import annotations

import struct

#: End of a dump, without an error.
DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr with its value, padded (rtnetlink(7))."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, flags: int = 2, sequence: int = 1) -> bytes:
    """A struct nlmsghdr with its body."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def routeAnswer(index: int, sequence: int, kind: int = 24) -> bytes:
    """The answer about one route: an attribute of three bytes, then the interface."""
    body = struct.pack("=8BI", 2, 32, 0, 0, 254, 0, 0, 1, 0)
    body += attribute(15, b"abc") + attribute(4, struct.pack("=I", index))
    return message(kind, body, 0, sequence)
