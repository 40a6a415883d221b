"""
The few system calls that make a TUN device, behind one small interface.

Structures and numbers are those of C{linux/if_tun.h} and C{linux/if.h}.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Protocol

CLONE_DEVICE = "/dev/net/tun"

#: ioctl requests.
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0

#: Flags of TUNSETIFF.  EXCL: an existing device is an error.
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000

#: Flags of TUNSETOFFLOAD: which unfinished packets the reader of the fd accepts.
TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
#: Of Linux 6.2 and newer.
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40

#: struct ifreq with ifr_flags: a name of at most 15 bytes, flags, padding.
IFREQ = struct.Struct("16sH22x")
NAME_LIMIT = 15


class TunSystem(Protocol):
    """What L{nanotun.tun.device} asks of the operating system."""

    def open(self) -> int:
        """A new fd of the clone device, non-blocking, closed on exec."""

    def attach(self, fd: int, name: str, flags: int) -> str:
        """Make the device C{name} on C{fd}; returns the name that the kernel gave it."""

    def index(self, name: str) -> int:
        """The index of the device, in this process's network namespace."""

    def setOffload(self, fd: int, flags: int) -> None:
        """Set which unfinished packets may be read from the fd."""

    def close(self, fd: int) -> None:
        """Close the fd, which removes the device."""


class LinuxTunSystem:
    """The real calls.  All raise L{OSError}."""

    def open(self) -> int:
        """See L{TunSystem.open}."""
        return os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def attach(self, fd: int, name: str, flags: int) -> str:
        """See L{TunSystem.attach}."""
        answer = fcntl.ioctl(fd, TUNSETIFF, IFREQ.pack(name.encode(), flags))
        return IFREQ.unpack(answer)[0].rstrip(b"\0").decode()

    def index(self, name: str) -> int:
        """See L{TunSystem.index}."""
        return socket.if_nametoindex(name)

    def setOffload(self, fd: int, flags: int) -> None:
        """See L{TunSystem.setOffload}."""
        fcntl.ioctl(fd, TUNSETOFFLOAD, flags)

    def close(self, fd: int) -> None:
        """See L{TunSystem.close}."""
        os.close(fd)
