"""Tests for L{nanotun.owners.recorder}, with memory instead of the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import time
from typing import cast

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.interfaces import IPart
from nanotun.owners.program import SLOT, check
from nanotun.owners.recorder import ENTRIES, SO_COOKIE, Recorder
from nanotun.owners.values import Made


class FakeBpf:
    """
    A kernel that records what the test says.

    @ivar refused: which call raises, and what.
    @ivar descriptors: all that were given out.
    """

    def __init__(self) -> None:
        self.refused = ("", 0)
        self.descriptors: list[int] = []
        self.memory = mmap.mmap(-1, ENTRIES * SLOT.size)

    def root(self) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.root}."""
        return self._opened("root")

    def makeArray(self, size: int, count: int) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.makeArray}."""
        return self._opened("makeArray")

    def mapArray(self, array: int, length: int) -> mmap.mmap:
        """See L{nanotun.owners.recorder.BpfCalls.mapArray}."""
        self._check("mapArray")
        return self.memory

    def load(self, program: bytes) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.load}."""
        return self._opened("load")

    def attach(self, program: int, group: int) -> int:
        """See L{nanotun.owners.recorder.BpfCalls.attach}."""
        return self._opened("attach")

    def write(self, cookie: int, pid: int, born: int, checked: int | None = None) -> None:
        """Fill a slot."""
        checked = check(cookie, pid, born) if checked is None else checked
        SLOT.pack_into(self.memory, cookie % ENTRIES * SLOT.size, cookie, pid, born, checked)

    def open(self) -> list[int]:
        """The descriptors that are not closed."""
        return [each for each in self.descriptors if os.path.exists(f"/proc/self/fd/{each}")]

    def _opened(self, call: str) -> int:
        self._check(call)
        self.descriptors.append(os.open("/dev/null", os.O_RDONLY))
        return self.descriptors[-1]

    def _check(self, call: str) -> None:
        if self.refused[0] == call:
            raise OSError(self.refused[1], os.strerror(self.refused[1]))


class RecorderTests(SynchronousTestCase):
    """L{Recorder}."""

    def setUp(self) -> None:
        """A record that has not begun."""
        self.kernel = FakeBpf()
        self.pid, self.clock = os.getpid(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.recorder = Recorder(self.kernel, self.makeSocket)
        self.addCleanup(self.recorder.stop)
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def makeSocket(self) -> socket.socket:
        """A socket that is recorded as made by C{pid} at C{clock}."""
        made = socket.socket()
        cookie = made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
        (number,) = struct.unpack("=Q", cookie)
        if self.pid:
            self.kernel.write(number, self.pid, self.clock)
        return made

    def test_interface(self) -> None:
        """It is a part of the daemon."""
        verifyObject(IPart, self.recorder)

    def test_maker(self) -> None:
        """A socket's maker is what the kernel has noted of it."""
        self.assertIsNone(self.recorder.maker(5))
        self.recorder.start()
        self.assertTrue(self.recorder.works)
        self.kernel.write(5 + 3 * ENTRIES, 4000, 1_500_000_000)
        self.assertEqual(self.recorder.maker(5 + 3 * ENTRIES), Made(4000, 1.5))

    def test_other(self) -> None:
        """A slot of another socket is no answer, nor is an empty one."""
        self.recorder.start()
        self.kernel.write(5 + ENTRIES, 4000, 1)
        self.assertIsNone(self.recorder.maker(5))
        self.assertIsNone(self.recorder.maker(6))
        self.assertIsNone(self.recorder.maker(0))

    def test_torn(self) -> None:
        """A slot that two processors have written at the same time is no answer."""
        self.recorder.start()
        self.kernel.write(5, 4000, 1_000, check(5, 4001, 1_000))
        self.assertIsNone(self.recorder.maker(5))

    def test_refused(self) -> None:
        """Whatever the kernel refuses, the start goes on, says so and leaves nothing open."""
        for call in ("root", "makeArray", "mapArray", "load", "attach"):
            for number in (errno.EPERM, errno.ENOSYS, errno.EINVAL):
                self.kernel.refused = (call, number)
                self.recorder.start()
                self.assertFalse(self.recorder.works)
                self.assertIsNone(self.recorder.maker(5))
                self.assertEqual(self.kernel.open(), [])
                said = formatEvent(self.events[-1])
                self.assertIn(f"cannot be recorded ({os.strerror(number)}), so", said)

    def test_strange(self) -> None:
        """Where the record tells something else of our own socket, it is not used."""
        now = self.clock
        for self.pid, self.clock, why in (
            (0, now, "none of the visible control groups"),
            (os.getpid() + 1, now, "other ids"),
            (os.getpid(), now + 3_600 * 10**9, "clock"),
        ):
            self.kernel.memory = mmap.mmap(-1, ENTRIES * SLOT.size)
            self.recorder.start()
            self.assertFalse(self.recorder.works)
            self.assertEqual(self.kernel.open(), [])
            self.assertIn(why, formatEvent(self.events[-1]))

    def test_stop(self) -> None:
        """One descriptor is kept, and closed at the end."""
        self.recorder.start()
        self.assertEqual(self.kernel.open(), self.kernel.descriptors[-1:])
        self.recorder.stop()
        self.assertEqual(self.kernel.open(), [])
        self.assertFalse(self.recorder.works)
