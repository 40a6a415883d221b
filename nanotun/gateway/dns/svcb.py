"""
Finds the address hints in HTTPS and SVCB records (RFC 9460, section 7.3), and takes them out for
C{dnsMode: fake-ip}: a connection to a real address would have no name for the proxy.

Rules for that: no record moves, so that no compression pointer breaks.  A hint becomes a
parameter for private use, full of zeroes, which clients pass over like any that they do not know
(section 8).  Everything else, such as ALPN, the port and the ECH keys, keeps its value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, inet_ntop

from nanotun.gateway.dns.message import (
    AAAA,
    AD,
    HEADER,
    HEADER_SIZE,
    HTTPS,
    OPT,
    RECORD,
    SVCB,
    A,
    Query,
    WireError,
    nameEnd,
)
from nanotun.gateway.dns.records import readRecords

#: Parameters (RFC 9460, section 14.3.2).
MANDATORY = 0
HINTS = (4, 6)
PRIVATE = range(65280, 65535)

_FAMILIES = {4: (AF_INET, 4), 6: (AF_INET6, 16)}

#: A parameter's number, and the length of its value.
_PARAMETER = struct.Struct("!HH")


def withoutHints(answer: bytes, query: Query) -> bytes | None:
    """
    An answer to a question for HTTPS or SVCB without any address.

    @param answer: matches C{query}.
    @return: not longer than C{answer}, and without its additional records, which may be
        addresses too (RFC 9460, section 4.2), but for that of EDNS.  L{None} if it cannot be
        read, has addresses elsewhere, or a hint that its clients must heed.
    """
    ident, flags, questions, answers, authorities, additionals = HEADER.unpack_from(answer)
    body = bytearray(answer)
    try:
        records = readRecords(
            answer, HEADER_SIZE + len(query.question), answers + authorities + additionals
        )
        count = answers + authorities
        for record in records[:count]:
            if record.kind in (A, AAAA):
                return None
            if record.kind in (HTTPS, SVCB):
                # After the priority and the target's name, which is not compressed.
                start = nameEnd(answer, record.fields + RECORD.size + 2, pointers=False)
                if start > record.end:
                    return None
                body[start : record.end] = _masked(answer[start : record.end])
    except (WireError, struct.error, ValueError):
        return None
    kept = [body[record.start : record.end] for record in records[count:] if record.kind == OPT]
    end = records[count].start if additionals else len(answer)
    rest = bytes(body[HEADER_SIZE:end])
    if rest != answer[HEADER_SIZE:end]:
        # It is no longer what the server has validated.
        flags &= ~AD
    return (
        HEADER.pack(ident, flags, questions, answers, authorities, len(kept))
        + rest
        + b"".join(kept)
    )


def hints(data: bytes) -> Iterator[str]:
    """
    The addresses in a record's hints, in their canonical text form, as far as it can be read.

    @param data: that of an HTTPS or SVCB record.
    """
    try:
        # After the priority.
        offset = nameEnd(data, 2, pointers=False)
    except WireError:
        return
    while offset + _PARAMETER.size <= len(data):
        key, size = _PARAMETER.unpack_from(data, offset)
        offset += _PARAMETER.size
        if key in _FAMILIES:
            family, each = _FAMILIES[key]
            value = data[offset : offset + size]
            for place in range(0, len(value) - each + 1, each):
                yield inet_ntop(family, value[place : place + each])
        offset += size


def _masked(parameters: bytes) -> bytes:
    """
    A record's parameters without the hints, as long as they were.

    @raise ValueError, struct.error: they cannot be read, or a hint cannot be taken out.
    """
    values = {}
    offset = 0
    while offset < len(parameters):
        key, size = _PARAMETER.unpack_from(parameters, offset)
        offset += _PARAMETER.size + size
        if offset > len(parameters) or key in values:
            raise ValueError("A parameter has no end, or is there twice.")
        values[key] = parameters[offset - size : offset]
    mandatory = values.get(MANDATORY, b"")
    if any(key in HINTS for (key,) in struct.iter_unpack("!H", mandatory)):
        raise ValueError("A hint is mandatory.")
    unused = (key for key in PRIVATE if key not in values)
    for hint in HINTS:
        if hint in values:
            key = next(unused, None)
            if key is None:
                raise ValueError("All numbers for private use are taken.")
            values[key] = bytes(len(values.pop(hint)))
    # In the order of their numbers (section 2.2).
    return b"".join(
        _PARAMETER.pack(key, len(value)) + value for key, value in sorted(values.items())
    )
