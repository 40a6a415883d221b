"""
The kernel's record of which process makes which socket.

A BPF program at the root of the control groups sees each new socket of this machine, in
every network namespace, and notes its maker in memory that is shared with this process
(L{nanotun.owners.program}).  So reading the record takes a microsecond and no system call,
and no right but the one to begin it.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.interfaces import IPart
from nanotun.owners.program import SLOT, check, recorder
from nanotun.owners.values import Made

#: Sockets that are remembered, a power of two: those of the last ten seconds at 3,000 a
#: second.  One mebibyte.
ENTRIES = 1 << 15

#: asm-generic/socket.h; Python has no name for it.
SO_COOKIE = 57

#: Seconds between two clocks that show the same time.
CLOCK_TOLERANCE = 1.0


class BpfCalls(Protocol):
    """What is asked of the kernel.  Every descriptor is the caller's to close."""

    def root(self) -> int:
        """
        A descriptor of the root of the control groups of version 2.

        @raise OSError: there are none, or we may not see them.
        """

    def makeArray(self, size: int, count: int) -> int:
        """
        Make an array that programs write to.

        @param size: bytes of an entry.
        @return: its descriptor.
        @raise OSError: the kernel refuses.
        """

    def mapArray(self, array: int, length: int) -> mmap.mmap:
        """
        Map an array into memory, to be read.  It stays when its descriptor is closed.

        @raise OSError: the kernel refuses.
        """

    def load(self, program: bytes) -> int:
        """
        Load a program for new sockets.

        @return: its descriptor.
        @raise OSError: the kernel refuses.
        """

    def attach(self, program: int, group: int) -> int:
        """
        Have a program run for each new socket of a control group and of those below it.

        @return: a descriptor; when it is closed, whyever, the program runs no longer.
        @raise OSError: the kernel refuses.
        """


@implementer(IPart)
class Recorder:
    """
    Has the kernel record the makers of sockets.  Where it does not, or until it is
    started, nothing is known of any socket.

    Begins before privileges are dropped: it needs CAP_BPF and CAP_NET_ADMIN, and
    CAP_SYS_ADMIN where no control groups are mounted.

    @param makeSocket: makes the socket with which the record is tried out.
    """

    _log = Logger()

    name = "the record of sockets"

    def __init__(
        self, calls: BpfCalls, makeSocket: Callable[[], socket.socket] = socket.socket
    ) -> None:
        self._calls = calls
        self._makeSocket = makeSocket
        self._records: mmap.mmap | None = None
        self._link = -1

    @property
    def works(self) -> bool:
        """Whether new sockets are recorded."""
        return self._records is not None

    def start(self) -> None:
        """See L{IPart.start}.  Where the kernel refuses, processes are searched for."""
        try:
            self._begin()
            self._try()
        except OSError as error:
            self.stop()
            self._log.info(
                "New sockets cannot be recorded ({error}), so where a rule is about processes, "
                "nanotun has to search for that of each connection, which takes longer on a busy "
                "machine; the record needs Linux 5.8 or newer, root and a visible control group "
                "hierarchy.",
                error=error.strerror or str(error),
            )

    def stop(self) -> None:
        """See L{IPart.stop}."""
        if self._link >= 0:
            os.close(self._link)
            self._link = -1
        if self._records is not None:
            self._records.close()
            self._records = None

    def maker(self, cookie: int) -> Made | None:
        """
        What is recorded of a socket.

        @param cookie: the kernel's number for it; 0 if that is not known.
        @return: L{None} if it is older than the record, or many sockets were made since.
        """
        if self._records is None or not cookie:
            return None
        slot = (cookie & ENTRIES - 1) * SLOT.size
        known, pid, born, checked = SLOT.unpack_from(self._records, slot)
        if known != cookie or checked != check(cookie, pid, born):
            return None
        return Made(pid, born / 1e9)

    def _begin(self) -> None:
        calls = self._calls
        with ExitStack() as stack:

            def mine(descriptor: int) -> int:
                stack.callback(os.close, descriptor)
                return descriptor

            root = mine(calls.root())
            array = mine(calls.makeArray(SLOT.size, ENTRIES))
            self._records = calls.mapArray(array, SLOT.size * ENTRIES)
            program = mine(calls.load(recorder(array, ENTRIES)))
            self._link = calls.attach(program, root)

    def _try(self) -> None:
        """@raise OSError: a socket of our own is not recorded as ours."""
        with self._makeSocket() as made:
            cookie = made.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
            found = self.maker(*struct.unpack("=Q", cookie))
        if found is None:
            raise OSError(errno.ENODATA, "this process is in none of the visible control groups")
        if found.pid != os.getpid():
            raise OSError(errno.ENODATA, "processes have other ids in this container")
        if abs(time.clock_gettime(time.CLOCK_BOOTTIME) - found.born) > CLOCK_TOLERANCE:
            raise OSError(errno.ENODATA, "the kernel's clock is another one in this container")
