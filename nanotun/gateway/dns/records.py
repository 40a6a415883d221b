"""
Reads the records of an answer: how long the answer may be kept, and how to cut it when it
does not fit (RFC 1035, RFC 2181, RFC 2308, RFC 6891).
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

#: The most seconds to keep an answer, and to keep a denial (RFC 2308, section 5: "one to
#: three hours").
LONGEST = 86400
LONGEST_NEGATIVE = 10800

#: The most records of an answer that is kept: their TTLs are written again in each second in
#: which the answer is given.
RECORDS_LIMIT = 200

_TTL = struct.Struct("!I")

#: The shortest data of a SOA record, in bytes: two roots and five numbers.
_SOA_SIZE = 22


class Lifetime(NamedTuple):
    """
    How long an answer may be kept.

    @ivar seconds: at least 1.
    @ivar ttls: the offset of each record's TTL, and its value in seconds.
    @ivar positive: whether it has data of the type that was asked for, and is no denial.
    """

    seconds: int
    ttls: list[tuple[int, int]]
    positive: bool


class Record(NamedTuple):
    """
    Where a record is in a message.

    @ivar start: the offset of its name.
    @ivar fields: the offset after its name.
    @ivar kind: its type.
    @ivar ttl: seconds.
    @ivar end: the offset after the record.
    """

    start: int
    fields: int
    kind: int
    ttl: int
    end: int


def readRecords(message: bytes, offset: int, count: int) -> list[Record]:
    """
    Read the records from C{offset} to the end of the message.

    @param count: how many there are, as the header says.
    @raise WireError: they do not end where the message ends, or there are too many.
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
    How long an answer may be kept for the same question.

    @param answer: matches C{query}, whose key is not empty.
    @return: L{None} if it may not be kept: it is an error, truncated, signed for one client,
        without a time to live, malformed, or has EDNS options.
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
    # An alias without a record of the type in question is a denial too (RFC 2308, section
    # 2.2).
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
            # RFC 2308, section 3: a denial is valid for as long as this record, and this
            # record for the lesser of its two times.
            if record.end - record.fields - RECORD.size < _SOA_SIZE:
                return None
            ttl = min(ttl, int.from_bytes(answer[record.end - 4 : record.end], "big"))
            authoritative = True
        seconds = min(seconds, ttl)
        ttls.append((record.fields + 4, ttl))
    if not authoritative or seconds < 1:
        return None
    return Lifetime(seconds, ttls, positive)


def aged(answer: bytes, query: Query, seconds: int) -> bytes:
    """
    An answer as it is some time later: each TTL less by that time, and not less than 0 (RFC 8484,
    section 5.1).

    @param answer: matches C{query}.
    @return: the answer itself if its records cannot be read.
    """
    _, _, questions, *counts = HEADER.unpack_from(answer)
    offset = HEADER_SIZE + (len(query.question) if questions else 0)
    try:
        records = readRecords(answer, offset, sum(counts))
    except WireError:
        return answer
    message = bytearray(answer)
    for record in records:
        # That of an OPT record is no time.
        if record.kind != OPT:
            _TTL.pack_into(message, record.fields + 4, max(0, record.ttl - seconds))
    return bytes(message)


def forCache(answer: bytes, query: Query) -> bytes:
    """The answer as a cache may give it: not authoritative, the question as in the query."""
    flags = bytes((answer[2] & ~(AA >> 8), answer[3]))
    rest = answer[HEADER_SIZE + len(query.question) :]
    return answer[:2] + flags + answer[4:HEADER_SIZE] + query.question + rest


def truncate(answer: bytes, query: Query, limit: int) -> bytes:
    """
    Cut an answer that does not fit to its header, question and EDNS record, with TC set, which
    has the client ask by TCP (RFC 2181, section 9).

    @param answer: matches C{query}.
    @param limit: the most bytes, at least 512.
    @return: the answer itself if it fits.
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
