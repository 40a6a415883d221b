"""
Takes options out of the EDNS record of a message (RFC 6891, section 6.1.2).
"""

from __future__ import annotations

import struct

from nanotun.gateway.dns.message import (
    HEADER,
    HEADER_SIZE,
    RECORD,
    Query,
    WireError,
    findOPT,
)

#: The option that tells servers the client's network (RFC 7871, section 6).
CLIENT_SUBNET = 8

#: An option before its data: code, length of the data.
OPTION = struct.Struct("!HH")


def withoutOption(wire: bytes, query: Query, code: int) -> bytes:
    """
    A query without one of its options.  That changes its meaning for nobody but those who
    know the option.

    @param query: what C{wire} says.
    @param code: the option's number.
    @return: the query itself if it does not have the option, or if its options do not end
        where they should.
    """
    if query.edns < 0:
        return wire
    _, _, _, *counts = HEADER.unpack_from(wire)
    try:
        found = findOPT(wire, HEADER_SIZE + len(query.question), sum(counts))
    except (WireError, struct.error):
        return wire
    kind, size, ttl, length = RECORD.unpack_from(wire, found + 1)
    start = found + 1 + RECORD.size
    kept = otherOptions(wire[start : start + length], code)
    if kept is None or len(kept) == length:
        return wire
    fields = RECORD.pack(kind, size, ttl, len(kept))
    return wire[: found + 1] + fields + kept + wire[start + length :]


def otherOptions(options: bytes, code: int) -> bytes | None:
    """
    The options but for those of one number; L{None} if they do not end where they should.

    @param options: the data of an OPT record.
    """
    kept, place = [], 0
    while place < len(options):
        if place + OPTION.size > len(options):
            return None
        each, length = OPTION.unpack_from(options, place)
        end = place + OPTION.size + length
        if end > len(options):
            return None
        if each != code:
            kept.append(options[place:end])
        place = end
    return b"".join(kept)
