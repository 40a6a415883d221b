"""
The TCP sockets of this machine that have nanotun's mark, and how to end one: sock_diag(7).

The formats and numbers are those of linux/sock_diag.h and linux/inet_diag.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from nanotun.addresses import SOCKET_MARK
from nanotun.linux import netlink

_BY_FAMILY = 20
_DESTROY = 21

#: All states but TIME_WAIT (6), CLOSE (7) and LISTEN (10), in which nothing waits.
_STATES = 0xFFF & ~(1 << 6 | 1 << 7 | 1 << 10)

#: struct inet_diag_req_v2 up to the socket's id, which begins with the ports.
_REQUEST = struct.Struct("=BBBBI")
#: struct inet_diag_sockid: ports and addresses in network byte order, interface, cookie.
_ID = struct.Struct("!HH16s16s12s")
#: struct inet_diag_msg has the id after this: family, state, timer, retransmits.
_FAMILY = struct.Struct("=BBBB")

#: INET_DIAG_REQ_BYTECODE, and its condition about a mark: struct inet_diag_bc_op with where
#: to go on, and struct inet_diag_markcond.
_BYTECODE = 1
_MARK_CONDITION = struct.Struct("=BBHII")
_BC_MARK = 10

_ALL_BITS = 0xFFFFFFFF


class MarkedSocket(NamedTuple):
    """
    @ivar local: its own address.
    @ivar remote: its peer's.
    @ivar ident: what the kernel knows it by.
    """

    family: int
    local: str
    remote: str
    ident: bytes


def markedSockets(mark: int = SOCKET_MARK) -> list[MarkedSocket]:
    """
    All connections, also those that are being opened.

    @raise OSError: the kernel refuses, for instance because the process may not.
    """
    size = _MARK_CONDITION.size
    # Where it does not hold, jump past the end, which is one operation away.
    condition = _MARK_CONDITION.pack(_BC_MARK, size, size + 4, mark, _ALL_BITS)
    found: list[MarkedSocket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + bytes(_ID.size)
        body += netlink.packAttribute(_BYTECODE, condition)
        for data, message in netlink.dump(netlink.SOCK_DIAG, _BY_FAMILY, body):
            found += _read(data, message)
    return found


def destroy(ended: MarkedSocket) -> None:
    """
    End a connection: its owner sees ECONNABORTED, and the other side a reset, if one arrives.
    Harmless if it has ended already.

    @raise OSError: EOPNOTSUPP if the kernel cannot (CONFIG_INET_DIAG_DESTROY).
    """
    body = _REQUEST.pack(ended.family, socket.IPPROTO_TCP, 0, 0, _ALL_BITS) + ended.ident
    with netlink.openNetlink(netlink.SOCK_DIAG, blocking=True) as asked:
        flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
        asked.send(netlink.pack(_DESTROY, flags, 1, body))
        data = asked.recv(netlink.READ_SIZE)
    for message in netlink.messages(data):
        number = netlink.errorOf(data, message)
        if number not in (0, errno.ENOENT):
            raise netlink.osError(number)


def _read(data: bytes, message: netlink.Message) -> Iterator[MarkedSocket]:
    place = message.start + _FAMILY.size
    if message.kind != _BY_FAMILY or place + _ID.size > message.end:
        return
    family = data[message.start]
    size = 4 if family == socket.AF_INET else 16
    _, _, local, remote, _ = _ID.unpack_from(data, place)
    yield MarkedSocket(
        family,
        socket.inet_ntop(family, local[:size]),
        socket.inet_ntop(family, remote[:size]),
        data[place : place + _ID.size],
    )
