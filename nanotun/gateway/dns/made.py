"""
Answers that are made here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from socket import AF_INET, AF_INET6, inet_pton

from nanotun.gateway.dns.message import (
    AAAA,
    HEADER_SIZE,
    IN,
    NOERROR,
    RECORD,
    SOA,
    A,
    Query,
    errorReply,
)

#: Seconds.  Whoever has an answer of ours when nanotun stops, or changes its mind, keeps it for
#: this long; asking again costs a moment.
TTL = 10

#: A compression pointer to the question's name.
OWNER = b"\xc0\x0c"

#: Serial, refresh, retry, expire, minimum (RFC 1035, section 3.3.13).
_TIMES = struct.pack("!IIIII", 1, 3600, 600, 86400, TTL)
_COUNTS = struct.Struct("!HH")


def record(kind: int, data: bytes) -> bytes:
    """A record of the question's name, valid for L{TTL} seconds."""
    return OWNER + RECORD.pack(kind, IN, TTL, len(data)) + data


def deny(wire: bytes, query: Query, rcode: int) -> bytes:
    """An answer of no data, or of no such name, valid for L{TTL} seconds (RFC 2308)."""
    return reply(wire, query, rcode, (), record(SOA, OWNER + OWNER + _TIMES))


def reply(
    wire: bytes, query: Query, rcode: int, answers: Sequence[bytes], authority: bytes = b""
) -> bytes:
    """
    An answer to a query.

    @param answers: the records of the answer section.
    @param authority: that of the authority section, or empty.
    """
    bare = errorReply(wire, query, rcode)
    end = HEADER_SIZE + len(query.question)
    counts = _COUNTS.pack(len(answers), bool(authority))
    return bare[:6] + counts + bare[10:end] + b"".join(answers) + authority + bare[end:]


def addresses(hosts: tuple[str, ...], wire: bytes, query: Query) -> bytes:
    """An answer with those of the addresses that the question is for, or without data."""
    kind, klass = _COUNTS.unpack(query.question[-4:])
    if klass != IN:
        return errorReply(wire, query, NOERROR)
    family = {A: AF_INET, AAAA: AF_INET6}.get(kind)
    found = [
        record(kind, inet_pton(family, host))
        for host in hosts
        if family is not None and (":" in host) == (family == AF_INET6)
    ]
    if not found:
        return deny(wire, query, NOERROR)
    return reply(wire, query, NOERROR, found)
