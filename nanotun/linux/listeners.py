"""
Tells whether a connection would find a listener: sock_diag(7), asked for the one socket that the
kernel would give it to.  Any user may ask, and a socket that asks does so in the network namespace
it was made in.

The formats are those of linux/inet_diag.h.
"""

from __future__ import annotations

import socket
import struct

from nanotun.linux import netlink

_BY_FAMILY = 20

#: struct inet_diag_req_v2 up to the socket's id: family, protocol, extensions, states.
_REQUEST = struct.Struct("=BBBxI")

#: struct inet_diag_sockid: the listener's port and the asker's, in network byte order, their
#: addresses, an interface, and a cookie, here of no particular socket (INET_DIAG_NOCOOKIE).
_ID = struct.Struct("!HH16s16sI8s")
_NO_COOKIE = b"\xff" * 8

#: A port that the asker may have; an established connection from there would be found instead.
_DISCARD = 9

#: struct inet_diag_msg begins with the family and the state.
_STATE = 1
_LISTEN = 10


def openAsking() -> socket.socket:
    """
    A socket for L{isListening}.

    @raise OSError: the system has none to give.
    """
    return netlink.openNetlink(netlink.SOCK_DIAG, blocking=True)


def isListening(asking: socket.socket, host: str, port: int) -> bool:
    """
    Whether a connection from a loopback address to itself would be accepted.

    @param asking: from L{openAsking}.
    @param host: a literal address.
    @raise OSError: the kernel does not say.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = socket.inet_pton(family, host).ljust(16, b"\0")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
    body += _ID.pack(port, _DISCARD, packed, packed, 0, _NO_COOKIE)
    asking.send(netlink.pack(_BY_FAMILY, netlink.NLM_F_REQUEST, 1, body))
    data = asking.recv(netlink.READ_SIZE)
    return any(
        message.kind == _BY_FAMILY and data[message.start + _STATE] == _LISTEN
        for message in netlink.messages(data)
    )
