"""
Tests of L{nanotun.routing.firewall.generation}, with bytes; the kernel's are in
tests/e2e/test_firewall_changes.py.
"""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.routing.firewall.generation import generation, parse

#: As Linux 6.18 gives it: generation 258, of process 7 named nft.
ANSWER = bytes.fromhex(
    "2c0000000f0a00000100000007000000"  # struct nlmsghdr
    "00000002"  # struct nfgenmsg
    "0800010000000102"
    "0800020000000007"
    "080003006e667400"
)


class ParseTests(SynchronousTestCase):
    """L{parse} and L{generation}."""

    def test_number(self) -> None:
        """The number is read wherever it is in the message."""
        self.assertEqual(parse(ANSWER), 258)
        self.assertEqual(parse(ANSWER[:20] + ANSWER[28:] + ANSWER[20:28]), 258)

    def test_none(self) -> None:
        """A message that is cut off, or of another type, has no number."""
        for length in range(28):
            self.assertEqual(parse(ANSWER[:length]), 0)
        error = struct.pack("=IHHIIi", 36, 2, 0, 1, 7, -95)
        self.assertEqual(parse(error.ljust(36, b"\0")), 0)
        self.assertEqual(parse(ANSWER[:20] + b"\0" * 24), 0)

    def test_kernel(self) -> None:
        """The kernel answers with a number."""
        self.assertGreaterEqual(generation(), 0)
