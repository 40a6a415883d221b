"""Tests for L{nanotun.owners.program}."""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.owners.program import SLOT, check, recorder

#: For an array with descriptor 7 and 32,768 slots, in the words of the kernel's own tools.
LISTING = """
85 0 0  0 46     call get_socket_cookie
bf 7 0  0 0      r7 = r0
57 0 0  0 32767  r0 &= 32767
63 10 0 -4 0     *(u32 *)(r10 - 4) = r0
18 1 1  0 7      r1 = the array
00 0 0  0 0
bf 2 10 0 0      r2 = r10
07 2 0  0 -4     r2 += -4
85 0 0  0 1      call map_lookup_elem
15 0 0  12 0     if r0 == 0 goto +12
bf 8 0  0 0      r8 = r0
85 0 0  0 14     call get_current_pid_tgid
77 0 0  0 32     r0 >>= 32
7b 8 0  8 0      *(u64 *)(r8 + 8) = r0
bf 9 0  0 0      r9 = r0
67 9 0  0 40     r9 <<= 40
af 9 7  0 0      r9 ^= r7
85 0 0  0 125    call ktime_get_boot_ns
7b 8 0  16 0     *(u64 *)(r8 + 16) = r0
af 9 0  0 0      r9 ^= r0
7b 8 9  24 0     *(u64 *)(r8 + 24) = r9
7b 8 7  0 0      *(u64 *)(r8 + 0) = r7
b7 0 0  0 1      r0 = 1
95 0 0  0 0      exit
"""


class ProgramTests(SynchronousTestCase):
    """L{recorder}."""

    def test_bytes(self) -> None:
        """The program is, byte by byte, the one that the kernel was seen to accept."""
        expected = b""
        for line in LISTING.strip().splitlines():
            operation, target, source, offset, number = line.split()[:5]
            registers = int(source) << 4 | int(target)
            expected += struct.pack(
                "=BBhi", int(operation, 16), registers, int(offset), int(number)
            )
        self.assertEqual(recorder(7, 1 << 15), expected)

    def test_check(self) -> None:
        """A slot with a number of another socket, written at the same time, is no good."""
        one, other = (1, 4000, 10**12), (1 + (1 << 15), 4001, 10**12 + 50)
        for mixed in range(1, 7):
            cookie, pid, born = (other[n] if mixed >> n & 1 else one[n] for n in range(3))
            for whole in (one, other):
                self.assertNotEqual(check(cookie, pid, born), check(*whole))
        self.assertLess(check(*other), 1 << 64)
        self.assertEqual(SLOT.size, 32)
