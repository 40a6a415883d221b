"""
Tests for L{nanotun.owners.established} on this machine's own kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.addresses import SOCKET_MARK
from nanotun.owners.established import markSocket

#: Tells the descriptors and inodes of two sockets, and then the marks of both.
HOLDER = """
import os, socket, sys
held = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
for each in held:
    print(each.fileno(), os.fstat(each.fileno()).st_ino, flush=True)
sys.stdin.readline()
print(*(each.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) for each in held), flush=True)
"""


class MarkSocketTests(SynchronousTestCase):
    """L{markSocket}."""

    def test_marks(self) -> None:
        """It marks another process's socket, and none that is not the one that was meant."""
        if os.geteuid() != 0:
            raise SkipTest("only root may mark a socket of another process")
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(child.communicate)
        assert child.stdout is not None
        (one, inode), (other, _) = (map(int, child.stdout.readline().split()) for _ in range(2))
        self.assertTrue(markSocket(child.pid, one, inode, SOCKET_MARK))
        self.assertFalse(markSocket(child.pid, other, inode, SOCKET_MARK))
        with self.assertRaises(OSError):
            markSocket(child.pid, 999, inode, SOCKET_MARK)
        self.assertEqual(child.communicate("\n")[0].split(), [str(SOCKET_MARK), "0"])
        self.assertRaises(ProcessLookupError, markSocket, child.pid, one, inode, 0)
