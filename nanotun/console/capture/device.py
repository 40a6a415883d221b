"""
Reads the packets of a TUN device beside nanotun, as packet(7) gives them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct

from nanotun.console.capture.packets import CapturedPacket
from nanotun.console.capture.pcapng import SNAP_LENGTH
from nanotun.errors import NanotunError

#: All protocols (linux/if_ether.h), and none: such a socket receives nothing until it is bound.
_ETH_P_ALL = 0x0003
_NO_PROTOCOL = 0

#: Numbers of asm-generic/socket.h and linux/if_packet.h that Python does not name.
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_PACKET_STATISTICS = 6

#: Bytes of packets that the kernel keeps for us: a gigabit for half a second, in which the daemon
#: is asked or processes are looked at.
_RECEIVE_BUFFER = 64 << 20

#: struct timespec and struct tpacket_stats.
_TIME = struct.Struct("@ll")
_STATISTICS = struct.Struct("=II")

_CONTROL_LENGTH = socket.CMSG_SPACE(_TIME.size)


class PacketDevice:
    """
    The packets of a device from now on.

    @ivar name: the device's.
    @ivar gone: whether it is no more; what it had may still be read.
    """

    def __init__(self, name: str, pid: int) -> None:
        """
        @param pid: the daemon's, for the error.
        @raise NanotunError: packets cannot be read; with one sentence.
        """
        self.name = name
        self.gone = False
        self._wasDown = False
        self._buffer = bytearray(SNAP_LENGTH)
        self._received = self._dropped = 0
        try:
            self._index = socket.if_nametoindex(name)
        except OSError:
            raise NanotunError(
                f"The device {name} of the daemon is not in this network namespace; try it again "
                f"with 'nsenter --net --target {pid}' before the command."
            ) from None
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NO_PROTOCOL
            )
        except OSError as error:
            raise _unreadable(name, error) from None
        try:
            with contextlib.suppress(PermissionError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind((name, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise _unreadable(name, error) from None

    def close(self) -> None:
        """Stop."""
        self._socket.close()

    def wait(self, seconds: float) -> None:
        """Return when there are packets, or after that time."""
        select.select([self._socket], [], [], seconds)

    def read(self, limit: int) -> list[CapturedPacket]:
        """
        The packets that have come since, in their order.

        @param limit: how many at most.
        """
        packets: list[CapturedPacket] = []
        while len(packets) < limit:
            try:
                packets.append(self._next())
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise _unreadable(self.name, error) from None
                # So it is told of a device that was set down, too, which may come up again.
                self._wasDown = True
        if self._wasDown and not packets:
            # The kernel tells no more of the end of one that is down.
            self.gone = not self._exists()
        return packets

    def _next(self) -> CapturedPacket:
        # With MSG_TRUNC the length is the packet's, however much of it is there.
        length, control, _, address = self._socket.recvmsg_into(
            [self._buffer], _CONTROL_LENGTH, socket.MSG_TRUNC | socket.MSG_DONTWAIT
        )
        seconds, nanoseconds = _TIME.unpack(control[0][2])
        return CapturedPacket(
            seconds * 1_000_000_000 + nanoseconds,
            bytes(memoryview(self._buffer)[:length]),
            length,
            address[2] == socket.PACKET_OUTGOING,
        )

    def counts(self) -> tuple[int, int]:
        """How many packets the device had, and how many of them the kernel had no place for."""
        told = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
        received, dropped = _STATISTICS.unpack(told)
        # The kernel begins anew each time it is asked.
        self._received += received
        self._dropped += dropped
        return self._received, self._dropped

    def _exists(self) -> bool:
        try:
            socket.if_indextoname(self._index)
        except OSError:
            return False
        return True


def _unreadable(name: str, error: OSError) -> NanotunError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NanotunError(
            f"The packets of {name} may not be read here; run it as root, with CAP_NET_RAW."
        )
    reason = os.strerror(error.errno or 0)
    return NanotunError(f"The packets of {name} cannot be read ({reason}).")
