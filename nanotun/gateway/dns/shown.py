"""
The records of an answer as text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from nanotun.gateway.dns.addresses import nameShown, readName
from nanotun.gateway.dns.message import (
    AAAA,
    CNAME,
    HEADER,
    HEADER_SIZE,
    IN,
    PTR,
    RECORD,
    SOA,
    A,
    WireError,
    nameEnd,
)
from nanotun.gateway.dns.types import typeText

NS, MX, TXT, SRV, DNAME = 2, 15, 16, 33, 39

#: The numbers before the name in the data of some types (RFC 1035, section 3.3.9; RFC 2782).
_NUMBERS = {
    NS: struct.Struct(""),
    CNAME: struct.Struct(""),
    PTR: struct.Struct(""),
    DNAME: struct.Struct(""),
    MX: struct.Struct("!H"),
    SRV: struct.Struct("!HHH"),
}

#: Those behind the two names of SOA (RFC 1035, section 3.3.13).
_SOA = struct.Struct("!IIIII")

_FAMILIES = {A: (AF_INET, 4), AAAA: (AF_INET6, 16)}


class ShownRecord(NamedTuple):
    """
    A record as text.

    @ivar name: whose it is; in lower case, without the final dot, and C{"."} for the root.  So
        are the names in C{data}.
    @ivar ttl: seconds.
    @ivar type: the word for it, or such as C{TYPE1234}.
    @ivar data: as in a zone file (RFC 1035, section 5.1), in one line of printable ASCII.
    """

    name: str
    ttl: int
    type: str
    data: str


def recordsOf(answer: bytes) -> list[ShownRecord]:
    """
    The records of the answer section, as far as they can be read.

    @param answer: has a header at least, and one question or none.
    """
    found: list[ShownRecord] = []
    _, _, questions, answers, _, _ = HEADER.unpack_from(answer)
    try:
        offset = nameEnd(answer, HEADER_SIZE) + 4 if questions else HEADER_SIZE
        for _ in range(answers):
            name = _name(answer, offset)
            fields = nameEnd(answer, offset)
            kind, klass, ttl, length = RECORD.unpack_from(answer, fields)
            start = fields + RECORD.size
            offset = start + length
            if offset > len(answer):
                break
            data = _data(answer, kind if klass == IN else 0, start, offset)
            found.append(ShownRecord(name, ttl, typeText(kind), data))
    except (WireError, struct.error):
        pass
    return found


def _data(message: bytes, kind: int, start: int, end: int) -> str:
    """A record's data; that of a type which is not known here as in RFC 3597, section 5."""
    show = _SHOWN.get(kind)
    if show is not None:
        try:
            return show(message, kind, start, end)
        except (WireError, struct.error):
            pass
    data = message[start:end]
    return f"\\# {len(data)} {data.hex()}".rstrip()


def _address(message: bytes, kind: int, start: int, end: int) -> str:
    family, size = _FAMILIES[kind]
    _endsAt(start + size, end)
    return inet_ntop(family, message[start:end])


def _named(message: bytes, kind: int, start: int, end: int) -> str:
    """A name with or without numbers before it."""
    numbers = _NUMBERS[kind]
    place = start + numbers.size
    _endsAt(nameEnd(message, place), end)
    return " ".join((*map(str, numbers.unpack_from(message, start)), _name(message, place)))


def _authority(message: bytes, kind: int, start: int, end: int) -> str:
    second = nameEnd(message, start)
    third = nameEnd(message, second)
    _endsAt(third + _SOA.size, end)
    names = _name(message, start), _name(message, second)
    return " ".join((*names, *map(str, _SOA.unpack_from(message, third))))


def _strings(message: bytes, kind: int, start: int, end: int) -> str:
    texts = []
    while start < end:
        first, start = start + 1, start + 1 + message[start]
        texts.append(f'"{"".join(map(_letter, message[first:start]))}"')
    _endsAt(start, end)
    return " ".join(texts)


def _letter(byte: int) -> str:
    if chr(byte) in '"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03}"


def _name(message: bytes, offset: int) -> str:
    return nameShown(readName(message, offset)) or "."


def _endsAt(place: int, end: int) -> None:
    """@raise WireError: a record's data does not end where the record does."""
    if place != end:
        raise WireError("The data has another length than the record.")


_SHOWN: Mapping[int, Callable[[bytes, int, int, int], str]] = {
    A: _address,
    AAAA: _address,
    **dict.fromkeys(_NUMBERS, _named),
    SOA: _authority,
    TXT: _strings,
}
