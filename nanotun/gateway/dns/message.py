"""
The part of the DNS wire format that a relay needs to read queries (RFC 1035, RFC 6891).

Rules: every step leads forward and stays inside the message, so no message can cause a loop
or an unexpected error.  A compression pointer ends a name and is never followed.  A message
that is well formed but not understood is passed on unchanged.  Names are compared without
case (RFC 1035, section 2.3.3).  Types and classes never are: type 65 is the letter A.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

#: Bytes before the question section.
HEADER_SIZE = 12

#: The most bytes by UDP to a client that does not announce more (RFC 1035, section 4.2.1).
PLAIN_SIZE = 512

#: The most bytes by TCP, where a length of two bytes comes first (RFC 1035, section 4.2.2).
LARGEST = 65535

#: Response codes (RFC 1035, section 4.1.1).
NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5

#: Record types.
A = 1
CNAME = 5
SOA = 6
PTR = 12
SIG = 24
AAAA = 28
OPT = 41
SVCB = 64
HTTPS = 65
IXFR = 251
AXFR = 252
#: From this type up to 255: questions that are not for data (RFC 6895, section 3.1).
META = 128
META_END = 256

#: The class of the Internet.
IN = 1

#: Flags of the header's second word.
QR = 0x8000
TC = 0x0200
AA = 0x0400
RD = 0x0100
RA = 0x0080
AD = 0x0020
CD = 0x0010
OPCODE = 0x7800
RCODE = 0x000F

#: In the TTL of an OPT record (RFC 6891, section 6.1.3; RFC 3225).
DNSSEC_OK = 0x8000

#: The UDP size that our own answers announce, which fits every path (DNS flag day 2020).
OUR_SIZE = 1232

#: The longest name, in bytes (RFC 1035, section 3.1).
NAME_LIMIT = 255

#: Records of a query to read.  A query has one or two; an UPDATE may have many, and they do
#: not matter here.
RECORDS_LIMIT = 16

HEADER = struct.Struct("!HHHHHH")
#: A record after its name: type, class, TTL, length of the data.
RECORD = struct.Struct("!HHIH")


class WireError(ValueError):
    """A message that ends too early, or is no DNS message."""


class Query(NamedTuple):
    """
    What L{readQuery} found in a query.

    @ivar flags: the header's second word.
    @ivar question: the bytes of the question section, which has one question or none.
    @ivar limit: the most bytes that an answer by UDP may have.
    @ivar edns: the TTL field of the OPT record, four bytes as a number, or -1 without an OPT
        record.
    @ivar key: equal for queries that a cached answer may be given to; empty if the answer may
        not be shared.
    """

    flags: int
    question: bytes
    limit: int
    edns: int
    key: bytes


def nameEnd(message: bytes, offset: int, pointers: bool = True) -> int:
    """
    Step over a name.

    @param pointers: whether it may end with a compression pointer; a query's first name has
        nothing to point to.
    @return: the offset after the name.
    @raise WireError: the name does not end in the message, or is too long.
    """
    last = min(len(message), offset + NAME_LIMIT)
    while offset < last:
        length = message[offset]
        if length == 0:
            return offset + 1
        if length >= 0xC0:
            if not pointers or offset + 2 > len(message):
                break
            return offset + 2
        if length > 63:
            break
        offset += 1 + length
    raise WireError("A name has no end.")


def readQuery(wire: bytes) -> Query:
    """
    Read a query's header, question and EDNS record.

    @raise WireError: it is no query (too short for a header, or an answer), or its question
        is malformed, or it has several questions (RFC 9619).
    """
    if len(wire) < HEADER_SIZE:
        raise WireError("Too short for a header.")
    _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(wire)
    if flags & QR or questions > 1:
        raise WireError("Not a query, or several in one.")
    end = HEADER_SIZE
    if questions:
        end = nameEnd(wire, end, pointers=False) + 4
        if end > len(wire):
            raise WireError("The question has no end.")
    question = wire[HEADER_SIZE:end]
    plain = flags & (OPCODE | TC | AA | RA | 0x40 | RCODE) == 0 and questions == 1
    if not answers and not authorities and not additionals:
        key = _key(flags, question, -1) if plain and end == len(wire) else b""
        return Query(flags, question, PLAIN_SIZE, -1, key)
    try:
        found = findOPT(wire, end, answers + authorities + additionals)
    except (WireError, struct.error):
        # Left to the server, whose answer is passed on as it is.
        return Query(flags, question, LARGEST, -1, b"")
    if found < 0:
        return Query(flags, question, PLAIN_SIZE, -1, b"")
    _, size, edns, length = RECORD.unpack_from(wire, found + 1)
    alone = not answers and not authorities and additionals == 1
    # Only without options and in version 0: an option (client subnet, cookie) may change the
    # answer, or make it an answer for this client alone.
    alone = alone and length == 0 and edns & ~DNSSEC_OK == 0 and found + 11 == len(wire)
    key = _key(flags, question, edns) if plain and alone else b""
    return Query(flags, question, max(size, PLAIN_SIZE), edns, key)


def findOPT(message: bytes, offset: int, records: int) -> int:
    """
    Find the OPT record.

    @return: its offset, or -1.
    @raise WireError, struct.error: the message ends too early, or has too many records.
    """
    found = -1
    if records > RECORDS_LIMIT:
        raise WireError("More records than are looked at.")
    for _ in range(records):
        start = offset
        offset = nameEnd(message, start)
        kind, _, _, length = RECORD.unpack_from(message, offset)
        if kind == OPT and offset == start + 1:
            found = start
        offset += RECORD.size + length
        if offset > len(message):
            raise WireError("A record has no end.")
    return found


def _key(flags: int, question: bytes, edns: int) -> bytes:
    """
    All that an answer depends on, besides the server: the question, RD, AD, CD, and EDNS with
    its DO bit.  Empty for questions that are not for data.
    """
    kind = question[-4] << 8 | question[-3]
    if META <= kind < META_END or kind == OPT:
        return b""
    extension = 0 if edns < 0 else 2 if edns & DNSSEC_OK else 1
    options = (flags & RD) >> 8, flags & (AD | CD), extension
    return question[:-4].lower() + question[-4:] + bytes(options)


def isQuestion(header: bytes) -> bool:
    """
    Whether the first L{HEADER_SIZE} bytes begin a query that a resolver answers: QR, opcode and
    RCODE are 0, one question, no answer.
    """
    _, flags, questions, answers, _, _ = HEADER.unpack_from(header)
    return flags & (QR | OPCODE | RCODE) == 0 and questions == 1 and not answers


def isTransfer(query: Query) -> bool:
    """Whether a whole zone, or its changes, are asked for (RFC 5936, RFC 1995)."""
    question = query.question
    return bool(question) and (question[-4] << 8 | question[-3]) in (IXFR, AXFR)


def answerable(stream: bytes, place: int = 0) -> tuple[int, bool]:
    """
    How far the messages of a stream go that the relay can answer; each comes after two bytes
    of length.  A header tells, but for transfers, of which the whole message is needed.

    @param place: where to begin: the result for the stream's beginning.
    @return: the end of the last whole one, and whether one that the relay cannot answer begins
        there.
    """
    while place + 2 + HEADER_SIZE <= len(stream):
        start = place + 2
        end = start + (stream[place] << 8 | stream[place + 1])
        if end < start + HEADER_SIZE or not isQuestion(stream[start : start + HEADER_SIZE]):
            return place, True
        if end > len(stream):
            break
        try:
            if isTransfer(readQuery(stream[start:end])):
                return place, True
        except WireError:
            # The relay says so.
            pass
        place = end
    return place, False


def matches(answer: bytes, ident: bytes, query: Query) -> bool:
    """
    Whether C{answer} answers the query that was sent with C{ident}: the id, QR, opcode and
    question agree, or it L{lacksQuestion} and the others do.

    @param ident: two bytes.
    """
    question = query.question
    count = 1 if question else 0
    if (
        len(answer) < HEADER_SIZE
        or answer[:2] != ident
        or answer[2] & 0xF8 != 0x80 | query.flags >> 8 & 0x78
    ):
        return False
    if lacksQuestion(answer, query):
        return True
    if len(answer) < HEADER_SIZE + len(question) or answer[4] != 0 or answer[5] != count:
        return False
    theirs = answer[HEADER_SIZE : HEADER_SIZE + len(question)]
    return theirs == question or (
        theirs[-4:] == question[-4:] and theirs[:-4].lower() == question[:-4].lower()
    )


def lacksQuestion(answer: bytes, query: Query) -> bool:
    """
    Whether an answer is an error without the question that was asked: FORMERR, SERVFAIL, NOTIMP
    or REFUSED.  Servers that do not know EDNS send it (RFC 6891, section 7), and some others.

    @param answer: at least a header.
    """
    _, flags, *counts, _ = HEADER.unpack_from(answer)
    if not query.question or any(counts):
        return False
    return flags & RCODE in (FORMERR, SERVFAIL, NOTIMP, REFUSED)


def withQuestion(answer: bytes, query: Query) -> bytes:
    """
    An answer that L{lacksQuestion} with the question.  Its EDNS record is kept, if that is all
    it has; none is added, since a client takes its absence for a server without EDNS.
    """
    ident, flags, _, _, _, additionals = HEADER.unpack_from(answer)
    extension = b""
    try:
        if additionals == 1 and findOPT(answer, HEADER_SIZE, 1) == HEADER_SIZE:
            length = RECORD.unpack_from(answer, HEADER_SIZE + 1)[3]
            # What comes after it is of no section.
            extension = answer[HEADER_SIZE : HEADER_SIZE + 1 + RECORD.size + length]
    except (WireError, struct.error):
        pass
    return HEADER.pack(ident, flags, 1, 0, 0, bool(extension)) + query.question + extension


def errorReply(wire: bytes, query: Query | None, rcode: int) -> bytes:
    """
    An answer without data.

    @param wire: the query, at least a header.
    @param query: what C{wire} says, or L{None} if it could not be read.
    @param rcode: the response code.
    """
    ident, flags, *_ = HEADER.unpack_from(wire)
    flags = QR | RA | flags & (OPCODE | RD | CD) | rcode
    if query is None:
        return HEADER.pack(ident, flags, 0, 0, 0, 0)
    extension = b""
    if query.edns >= 0:
        # RFC 6891, section 6.1.1: an answer has one if the query has.
        extension = b"\0" + RECORD.pack(OPT, OUR_SIZE, query.edns & DNSSEC_OK, 0)
    header = HEADER.pack(ident, flags, bool(query.question), 0, 0, bool(extension))
    return header + query.question + extension
