"""
What a relay needs to know of an answer's records: how long they live, and how
to leave them out when they do not fit (RFC 1035, 2181, 2308, 6891).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from nanotun.gateway.dns.message import (
    AA,
    HEADER,
    HEADER_SIZE,
    META,
    META_END,
    NOERROR,
    NXDOMAIN,
    OPCODE,
    OPT,
    QR,
    RCODE,
    RECORD,
    SIG,
    SOA,
    TC,
    Query,
    WireError,
    nameEnd,
)

#: Seconds that a cached answer lives at most, and one that says no (RFC 2308,
#: section 5: "one to three hours").
LONGEST = 86400
LONGEST_NEGATIVE = 10800

#: Records of an answer that is cached: each is written anew every second that it
#: is asked for.
RECORDS_LIMIT = 200

#: A record's data with a SOA at its shortest: two roots and five numbers.
_SOA_SIZE = 22


class Lifetime(NamedTuple):
    """
    How long an answer may be used.

    @ivar seconds: at least 1.
    @ivar ttls: the offset of each record's TTL, and its value.
    """

    seconds: int
    ttls: list[tuple[int, int]]


class Record(NamedTuple):
    """
    Where a record is.

    @ivar start: offset of its name.
    @ivar fields: offset behind its name.
    """

    start: int
    fields: int
    kind: int
    ttl: int
    end: int


def readRecords(message: bytes, offset: int, count: int) -> list[Record]:
    """
    The records from C{offset} on.

    @raise WireError: they do not end in the message, or not with it, or are too
        many.
    """
    if count > RECORDS_LIMIT:
        raise WireError("More records than are looked at.")
    found = []
    for _ in range(count):
        fields = nameEnd(message, offset)
        if fields + RECORD.size > len(message):
            raise WireError("A record has no end.")
        kind, _, ttl, length = RECORD.unpack_from(message, fields)
        end = fields + RECORD.size + length
        found.append(Record(offset, fields, kind, ttl, end))
        offset = end
    if offset != len(message):
        raise WireError("The message does not end with its last record.")
    return found


def readLifetime(answer: bytes, query: Query) -> Lifetime | None:
    """
    How long an answer may be used for the same question.

    @param answer: matches C{query}, whose key is not empty.
    @return: L{None} if it may not: an error, truncated, signed for one client,
        with EDNS options, without a time to live, or broken.
    """
    _, flags, _, answers, authorities, additionals = HEADER.unpack_from(answer)
    rcode = flags & RCODE
    if flags & (QR | TC | OPCODE) != QR or rcode not in (NOERROR, NXDOMAIN):
        return None
    offset = HEADER_SIZE + len(query.question)
    try:
        records = readRecords(answer, offset, answers + authorities + additionals)
    except WireError:
        return None
    wanted = query.question[-4] << 8 | query.question[-3]
    # An alias without what was asked for is a denial too (RFC 2308, section 2.2).
    positive = rcode == NOERROR and any(record.kind == wanted for record in records[:answers])
    seconds = LONGEST if positive else LONGEST_NEGATIVE
    authoritative = positive
    ttls = []
    for number, record in enumerate(records):
        kind, ttl = record.kind, record.ttl
        if kind == OPT:
            # An option, or the upper bits of another RCODE.
            if record.end > record.fields + RECORD.size or ttl >> 16:
                return None
            continue
        if kind == SIG or META <= kind < META_END:
            return None
        if ttl >> 31:
            return None
        if kind == SOA and not positive and answers <= number < answers + authorities:
            # RFC 2308, section 3: a denial lives as long as this record, and this
            # record as long as the lesser of its two times.
            if record.end - record.fields - RECORD.size < _SOA_SIZE:
                return None
            ttl = min(ttl, int.from_bytes(answer[record.end - 4 : record.end], "big"))
            authoritative = True
        seconds = min(seconds, ttl)
        ttls.append((record.fields + 4, ttl))
    if not authoritative or seconds < 1:
        return None
    return Lifetime(seconds, ttls)


def forCache(answer: bytes, query: Query) -> bytes:
    """The answer as a cache may give it: not authoritative, the question as asked."""
    flags = bytes((answer[2] & ~(AA >> 8), answer[3]))
    rest = answer[HEADER_SIZE + len(query.question) :]
    return answer[:2] + flags + answer[4:HEADER_SIZE] + query.question + rest


def truncate(answer: bytes, query: Query, limit: int) -> bytes:
    """
    The answer if it fits, else its header, question and EDNS record with TC set,
    so that the client asks by TCP (RFC 2181, section 9).

    @param answer: matches C{query}.
    @param limit: bytes, at least 512.
    """
    if len(answer) <= limit:
        return answer
    ident, flags, questions, *counts = HEADER.unpack_from(answer)
    end = HEADER_SIZE + len(query.question)
    extension = b""
    try:
        for record in readRecords(answer, end, sum(counts)):
            if record.kind == OPT:
                extension = answer[record.start : record.end]
    except (WireError, struct.error):
        extension = b""
    if end + len(extension) > limit:
        extension = b""
    header = HEADER.pack(ident, flags | TC, questions, 0, 0, bool(extension))
    return header + answer[HEADER_SIZE:end] + extension
