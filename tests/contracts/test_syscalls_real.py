"""
Tests for L{nanotun.owners.syscalls} on this machine's own kernel.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import subprocess
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.owners import syscalls
from nanotun.owners.syscalls import LinuxBpf, takeDescriptor

#: Tells the descriptor of a socket, and then SO_KEEPALIVE of it each time it is asked.
HOLDER = """
import socket, sys
held = socket.socket()
print(held.fileno(), flush=True)
for line in sys.stdin:
    print(held.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), flush=True)
"""


class TakeDescriptorTests(SynchronousTestCase):
    """L{takeDescriptor}."""

    def setUp(self) -> None:
        """A process with a socket."""
        if os.geteuid() != 0:
            raise SkipTest("only root may take a descriptor of another process")
        self.child = subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end)
        self.descriptor = int(self.answer())

    def end(self) -> None:
        """Kill it and wait."""
        self.child.kill()
        self.child.communicate()

    def answer(self) -> str:
        """A line of the process."""
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def test_same(self) -> None:
        """What is set on the descriptor is set for the other process, even once it is closed."""
        with takeDescriptor(self.child.pid, self.descriptor) as taken:
            self.assertFalse(taken.get_inheritable())
            link = os.readlink(f"/proc/{self.child.pid}/fd/{self.descriptor}")
            self.assertEqual(link, f"socket:[{os.fstat(taken.fileno()).st_ino}]")
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert self.child.stdin is not None
        print(file=self.child.stdin, flush=True)
        self.assertEqual(self.answer(), "1")

    def test_none(self) -> None:
        """No socket, no descriptor and no process are an OSError, and nothing stays open."""
        before = os.listdir("/proc/self/fd")
        self.assertRaises(OSError, takeDescriptor, self.child.pid, 0)
        self.assertRaises(OSError, takeDescriptor, self.child.pid, 999)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
        self.end()
        self.assertRaises(ProcessLookupError, takeDescriptor, self.child.pid, self.descriptor)


class LinuxBpfTests(SynchronousTestCase):
    """L{LinuxBpf}, where it does not work."""

    def test_unknown(self) -> None:
        """On a machine whose numbers are not known no system call is made at random."""
        self.patch(syscalls, "_call", None)
        self.patch(platform, "machine", lambda: "riscv64")
        error = self.assertRaises(OSError, LinuxBpf().makeArray, 32, 1)
        self.assertEqual(error.errno, errno.ENOSYS)
        self.patch(platform, "machine", lambda: "x86_64")
        self.patch(sys, "maxsize", (1 << 31) - 1)
        self.assertRaises(OSError, LinuxBpf().load, b"")

    def test_refused(self) -> None:
        """What the kernel refuses is an OSError, and nothing stays open."""
        before = os.listdir("/proc/self/fd")
        self.assertRaises(OSError, LinuxBpf().makeArray, 0, 0)
        self.assertRaises(OSError, LinuxBpf().load, bytes(8))
        self.assertRaises(OSError, LinuxBpf().attach, 0, 0)
        self.assertEqual(os.listdir("/proc/self/fd"), before)
