"""
Padding of encrypted queries and answers (RFC 7830), so that their lengths do not tell the name;
by the blocks that RFC 8467 recommends.

Only what goes over the wire is padded: an app need not know padding, an answer that has it is
not kept in the cache, and most servers pad answers to 468 bytes, which fill the 512 that an app
without EDNS takes.
"""

from __future__ import annotations

import struct

from nanotun.gateway.dns.edns import OPTION, otherOptions
from nanotun.gateway.dns.message import (
    HEADER,
    HEADER_SIZE,
    LARGEST,
    OPT,
    OUR_SIZE,
    RECORD,
    SERVFAIL,
    Query,
    WireError,
    nameEnd,
)

#: Bytes that a query's length is a multiple of (RFC 8467, section 4.1).
BLOCK = 128

#: The option's code (RFC 7830, section 3).
PADDING = 12

#: How an OPT record begins: the root's name and the type.
_START = b"\0" + OPT.to_bytes(2, "big")


def padded(wire: bytes, query: Query) -> bytes:
    """
    Pad a query, which gets an EDNS record for that if it has none.

    @param query: what C{wire} says.
    @return: unchanged if it is signed, has other records, would be too long, or is not
        understood.
    """
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(wire)
    end = HEADER_SIZE + len(query.question)
    start = end + 1 + RECORD.size
    if not questions or answers or authorities or additionals > 1:
        return wire
    if additionals:
        if wire[end : end + len(_START)] != _START or len(wire) < start:
            return wire
        _, size, ttl, length = RECORD.unpack_from(wire, end + 1)
        options = otherOptions(wire[start:], PADDING)
        if start + length != len(wire) or options is None:
            return wire
    elif end == len(wire):
        size, ttl, options = OUR_SIZE, 0, b""
    else:
        return wire
    more = -(start + len(options) + OPTION.size) % BLOCK
    options += OPTION.pack(PADDING, more) + bytes(more)
    if start + len(options) > LARGEST:
        return wire
    header = HEADER.pack(ident, flags, 1, 0, 0, 1)
    return header + query.question + b"\0" + RECORD.pack(OPT, size, ttl, len(options)) + options


def unpadded(answer: bytes, query: Query) -> bytes:
    """
    Take the padding out of an answer, and its EDNS record if the query had none.

    @param query: as the app has sent it.
    @return: unchanged if its EDNS record is not the last one, as in signed answers, or if it is
        not understood.  An error that only EDNS can say becomes SERVFAIL without it.
    """
    try:
        start = _lastRecord(answer)
        if start < 0 or answer[start : start + len(_START)] != _START:
            return answer
        _, _, ttl, length = RECORD.unpack_from(answer, start + 1)
    except (WireError, struct.error):
        return answer
    if query.edns < 0:
        count = HEADER.unpack_from(answer)[5] - 1
        error = SERVFAIL if ttl >> 24 else answer[3] & 0x0F
        flags = bytes((answer[2], answer[3] & 0xF0 | error))
        return answer[:2] + flags + answer[4:10] + count.to_bytes(2, "big") + answer[12:start]
    data = len(answer) - length
    options = otherOptions(answer[data:], PADDING)
    if options is None:
        return answer
    return answer[: data - 2] + len(options).to_bytes(2, "big") + options


def _lastRecord(answer: bytes) -> int:
    """
    Where the last of the additional records begins; -1 if there is none.

    @raise WireError, struct.error: the message does not end with it.
    """
    _, _, questions, answers, authorities, additionals = HEADER.unpack_from(answer)
    if not additionals:
        return -1
    offset = HEADER_SIZE
    for _ in range(questions):
        offset = nameEnd(answer, offset) + 4
    start = -1
    for _ in range(answers + authorities + additionals):
        start = offset
        offset = nameEnd(answer, start)
        _, _, _, length = RECORD.unpack_from(answer, offset)
        offset += RECORD.size + length
    if offset != len(answer):
        raise WireError("The records do not end where the message does.")
    return start
