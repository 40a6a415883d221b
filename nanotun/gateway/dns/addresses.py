"""
Reads the addresses that an answer gives to the name in its question: those at the end of
the name's chain of aliases (RFC 1034, section 3.6.2).

Rules: names are compared without case and without compression.  A compression pointer must
lead backwards, further than the pointer before it, so no message can cause a loop.  The
aliases may be in any order.
"""

from __future__ import annotations

import re
import struct
from socket import AF_INET, AF_INET6, inet_ntop

from nanotun.gateway.dns.message import (
    AAAA,
    CNAME,
    HEADER,
    HEADER_SIZE,
    IN,
    NAME_LIMIT,
    NOERROR,
    OPCODE,
    QR,
    RCODE,
    RD,
    RECORD,
    TC,
    A,
    Query,
    WireError,
)
from nanotun.gateway.dns.records import LONGEST, readRecords

#: Aliases to follow; resolvers give up at about this number.
ALIASES_LIMIT = 16

#: Addresses to read from one answer; no app tries more.
ADDRESSES_LIMIT = 32

#: The longest name as text, in bytes (RFC 1035, section 2.3.4, without the first length
#: and the root).
_TEXT_LIMIT = 253

_DOT = ord(".")

_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rb"%b(?:\.%b)*" % (_LABEL, _LABEL))
#: What many programs take for an address (WHATWG URL, "ends in a number").
_NUMBER = re.compile(rb"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

#: A compression pointer to the name behind the header.
_QUESTION = bytes((0xC0, HEADER_SIZE))

_FAMILIES = {A: (AF_INET, 4), AAAA: (AF_INET6, 16)}


def readName(message: bytes, offset: int) -> bytes:
    """
    Read a name's labels.

    @return: in lower case, without compression and without the root.
    @raise WireError: the name does not end, is too long, or has a pointer that leads
        forward.
    """
    found = b""
    limit = offset
    size = len(message)
    while offset < size:
        length = message[offset]
        if length == 0:
            return found.lower()
        if length >= 0xC0:
            if offset + 2 > size:
                break
            offset = (length & 0x3F) << 8 | message[offset + 1]
            if offset >= limit:
                raise WireError("A compression pointer leads forward.")
            limit = offset
            continue
        end = offset + 1 + length
        found += message[offset:end]
        if length > 63 or end > size or len(found) >= NAME_LIMIT:
            break
        offset = end
    raise WireError("A name has no end.")


def nameText(labels: bytes) -> str:
    """
    A name as text, if it can be a host's name: letters, digits and hyphens (RFC 952, RFC
    1123), underscores, which are in use, and nothing that could be taken for an address.

    @param labels: from L{readName}.
    @return: in lower case, without the final dot; empty if it cannot be a host's name.
    """
    text = bytearray(labels)
    offset = count = 0
    while offset < len(labels):
        text[offset] = _DOT
        offset += 1 + labels[offset]
        count += 1
    # A dot inside a label does not separate labels.
    return checkName(bytes(text[1:])) if text.count(_DOT) == count else ""


def checkName(name: bytes) -> str:
    """
    The name, if it can be a host's name, or the empty text; see L{nameText}.

    @param name: in lower case, with dots.
    """
    if len(name) > _TEXT_LIMIT or not _NAME.fullmatch(name) or _NUMBER.fullmatch(name):
        return ""
    return name.decode("ascii")


def packName(name: str) -> bytes:
    """
    A name as a message has it: its labels and the root.

    @param name: from L{nameText}, or the like; empty for the root.
    """
    labels = name.encode("ascii").split(b".") if name else []
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def queryFor(name: str, kind: int) -> bytes:
    """
    A query of our own, as short as can be: the id 0, recursion desired, without EDNS.

    @param name: from L{nameText}.
    @param kind: the type of record.
    """
    question = packName(name) + kind.to_bytes(2, "big") + IN.to_bytes(2, "big")
    return HEADER.pack(0, RD, 1, 0, 0, 0) + question


def isWithin(name: bytes, zone: bytes) -> bool:
    """
    Whether a name is that of a zone, or below it.

    @param name: its labels, in lower case and without the root.
    @param zone: the same.
    """
    offset, end = 0, len(name) - len(zone)
    if not name.endswith(zone):
        return False
    # What looks like the zone may begin in the middle of a label.
    while offset < end:
        offset += 1 + name[offset]
    return offset == end


def nameShown(labels: bytes) -> str:
    """
    Any name as text: bytes that are no letters, digits, hyphens or underscores are written as
    in a zone file (RFC 1035, section 5.1), C{\\\\032}.

    @param labels: from L{readName}.
    """
    parts = []
    offset = 0
    while offset < len(labels):
        end = offset + 1 + labels[offset]
        label = labels[offset + 1 : end]
        parts.append("".join(chr(each) if _isPlain(each) else f"\\{each:03}" for each in label))
        offset = end
    return ".".join(parts)


def _isPlain(byte: int) -> bool:
    return (chr(byte).isalnum() and byte < 128) or byte in b"-_"


def questionName(query: Query) -> str:
    """The name in a query's question, as from L{nameText}."""
    question = query.question
    return nameText(question[:-5].lower()) if question else ""


def readAddresses(answer: bytes, query: Query) -> tuple[list[str], int]:
    """
    Read the addresses that an answer gives to a question for A or AAAA.

    @param answer: matches C{query}.
    @return: the addresses in their canonical text form, and for how many seconds they and
        the aliases that lead to them are valid.  An empty list for other questions, for
        errors, and for answers that are truncated or malformed.
    """
    question = query.question
    _, flags, _, answers, authorities, additionals = HEADER.unpack_from(answer)
    kind, klass = struct.unpack_from("!HH", question, len(question) - 4) if question else (0, 0)
    if (
        kind not in _FAMILIES
        or klass != IN
        or not answers
        or flags & (QR | TC | OPCODE | RCODE) != QR | NOERROR
    ):
        return [], 0
    try:
        return _follow(answer, question, kind, answers, answers + authorities + additionals)
    except WireError:
        return [], 0


def _follow(
    answer: bytes, question: bytes, kind: int, answers: int, count: int
) -> tuple[list[str], int]:
    family, size = _FAMILIES[kind]
    asked = question[:-5].lower()
    aliases: dict[bytes, tuple[bytes, int]] = {}
    addresses: dict[bytes, list[tuple[bytes, int]]] = {}
    for record in readRecords(answer, HEADER_SIZE + len(question), count)[:answers]:
        data = record.fields + RECORD.size
        if answer[record.fields + 2 : record.fields + 4] != b"\0\1" or record.ttl >> 31:
            continue
        if record.kind == CNAME:
            owner = readName(answer, record.start)
            aliases.setdefault(owner, (readName(answer, data), record.ttl))
        elif record.kind == kind and record.end - data == size:
            # Most records point to the question.
            isAsked = answer[record.start : record.fields] == _QUESTION
            owner = asked if isAsked else readName(answer, record.start)
            addresses.setdefault(owner, []).append((answer[data : record.end], record.ttl))
    name, seconds = asked, LONGEST
    for _ in range(ALIASES_LIMIT):
        if name in addresses or name not in aliases:
            break
        name, ttl = aliases[name]
        seconds = min(seconds, ttl)
    found = addresses.get(name, ())[:ADDRESSES_LIMIT]
    seconds = min((seconds, *(ttl for _, ttl in found)))
    return [inet_ntop(family, packed) for packed, _ in found], seconds
