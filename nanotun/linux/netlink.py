"""
Netlink messages (netlink(7), RFC 3549) and the sockets that carry them.

The formats are those of linux/netlink.h, in the host's byte order: a message is a
header and a body, a body ends in attributes, and both are padded to four bytes.

pyroute2 does all of this and more, where routes and rules are set.  This module is for
what every start needs, and for questions that are asked for every flow or every few
seconds: pyroute2 takes a tenth of a second to import, 50 microseconds for one question and
up to a millisecond for one answer, where the kernel needs six microseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: Protocols: NETLINK_ROUTE, NETLINK_SOCK_DIAG and NETLINK_NETFILTER.
ROUTE, SOCK_DIAG, NETFILTER = 0, 4, 12

#: Message types.
NLMSG_ERROR = 2
NLMSG_DONE = 3

#: Flags of messages.
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_DUMP = 0x300

#: The bits of an attribute's type that are no flags (NLA_TYPE_MASK).
_TYPE_MASK = 0x3FFF

#: struct nlmsghdr: length, type, flags, sequence number, port id.
HEADER = struct.Struct("=IHHII")
#: struct nlattr: length, type.
ATTRIBUTE = struct.Struct("=HH")
UINT32 = struct.Struct("=I")
_ERRNO = struct.Struct("=i")

_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
#: NETLINK_GET_STRICT_CHK of Linux 4.20: the kernel filters a dump by the request's
#: attributes.  Older kernels dump everything.
_GET_STRICT_CHK = 12

#: Bytes for one recv(2); the kernel puts at most 32 KiB into one part of a dump.
READ_SIZE = 1 << 16

#: How often a dump that ran into a change is asked for again.
_TRIES = 5


class Message(NamedTuple):
    """
    One message, as the place of its body in the bytes that were received.

    @ivar kind: its type.
    @ivar start: where its body begins.
    @ivar end: where its body ends, without padding.
    """

    kind: int
    flags: int
    sequence: int
    start: int
    end: int


def openNetlink(protocol: int, blocking: bool = False, groups: Iterable[int] = ()) -> socket.socket:
    """
    A netlink socket, bound, closed on exec.

    @param protocol: such as L{ROUTE}.
    @param groups: the numbers of multicast groups to join.
    @raise OSError: the system has none to give, or does not allow it.
    """
    opened = socket.socket(getattr(socket, "AF_NETLINK", 16), socket.SOCK_RAW, protocol)
    try:
        opened.bind((0, 0))
        opened.setblocking(blocking)
        for group in groups:
            opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except OSError:
        opened.close()
        raise
    return opened


def pack(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """
    A message to the kernel.

    @param kind: its type.
    @param sequence: comes back with the answer; not 0, which is the kernel's own.
    @param body: already padded.
    """
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def packAttribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded."""
    padding = b"\0" * (-len(value) % 4)
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + padding


def messages(data: bytes) -> Iterator[Message]:
    """
    The messages of one recv(2), up to the first that is cut off.
    """
    place, end = 0, len(data)
    while place + HEADER.size <= end:
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, place)
        if length < HEADER.size or place + length > end:
            return
        yield Message(kind, flags, sequence, place + HEADER.size, place + length)
        place += (length + 3) & ~3


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """
    The attributes between two places, up to the first that makes no sense.

    @return: for each its type, and where its value begins and ends.
    """
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & _TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def findAttribute(data: bytes, start: int, end: int, kind: int) -> int:
    """Where the value of the first attribute of this type begins; 0 if there is none."""
    for each, first, _ in attributes(data, start, end):
        if each == kind:
            return first
    return 0


def attributeValues(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """The attributes between two places as values by type; of equal types the last."""
    return {kind: data[first:last] for kind, first, last in attributes(data, start, end)}


def errorOf(data: bytes, message: Message) -> int:
    """
    The errno in an NLMSG_ERROR or NLMSG_DONE message; 0 for success.
    """
    if message.start + _ERRNO.size > message.end:
        return 0
    number: int = _ERRNO.unpack_from(data, message.start)[0]
    return -number


def osError(number: int) -> OSError:
    """The exception for an errno: L{FileExistsError} and so on."""
    return OSError(number, os.strerror(number))


class Interrupted(Exception):
    """What is dumped changed while it was read, so the dump may be incomplete."""


def dump(protocol: int, kind: int, body: bytes) -> list[tuple[bytes, Message]]:
    """
    Ask the kernel for all objects of a kind, on a socket of its own; blocks until the
    kernel has answered, which it does within the call.

    @param kind: of the request.
    @param body: of the request; kernels from 4.20 on filter by it.
    @return: the messages, each with the bytes it is in.
    @raise OSError: the kernel refuses, or the objects keep changing (EINTR).
    """
    for _ in range(_TRIES):
        with openNetlink(protocol, blocking=True) as asked:
            try:
                asked.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
            except OSError:
                # Before Linux 4.20.
                pass
            asked.send(pack(kind, NLM_F_REQUEST | NLM_F_DUMP, 1, body))
            found: list[tuple[bytes, Message]] = []
            try:
                while readDump(asked.recv(READ_SIZE), found):
                    pass
            except Interrupted:
                continue
            return found
    raise osError(errno.EINTR)


def readDump(data: bytes, found: list[tuple[bytes, Message]]) -> bool:
    """
    Read one part of a dump.

    @param found: its messages are appended.
    @return: whether there is more to come.
    @raise Interrupted: ask again.
    @raise OSError: the kernel refuses.
    """
    for message in messages(data):
        if message.flags & NLM_F_DUMP_INTR:
            raise Interrupted
        if message.kind in (NLMSG_DONE, NLMSG_ERROR):
            number = errorOf(data, message)
            # ENOENT: nothing was ever put into what is asked for.
            if number not in (0, errno.ENOENT):
                raise osError(number)
            return False
        found.append((data, message))
    return True
