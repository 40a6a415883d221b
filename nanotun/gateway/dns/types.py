"""
The words for numbers in DNS messages: types of records and response codes.
"""

from __future__ import annotations

import re

from nanotun.gateway.dns import message

#: Types that have a word (IANA, "Resource Record (RR) TYPEs"); others have their number.
TYPES = {
    message.A: "A",
    2: "NS",
    message.CNAME: "CNAME",
    message.SOA: "SOA",
    message.PTR: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    17: "RP",
    message.SIG: "SIG",
    25: "KEY",
    message.AAAA: "AAAA",
    29: "LOC",
    33: "SRV",
    35: "NAPTR",
    39: "DNAME",
    43: "DS",
    44: "SSHFP",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    52: "TLSA",
    message.SVCB: "SVCB",
    message.HTTPS: "HTTPS",
    255: "ANY",
    257: "CAA",
}

#: Response codes, by the words that tools such as dig have for them (IANA, "DNS RCODEs").
RCODES = {
    message.NOERROR: "NOERROR",
    message.FORMERR: "FORMERR",
    message.SERVFAIL: "SERVFAIL",
    message.NXDOMAIN: "NXDOMAIN",
    message.NOTIMP: "NOTIMP",
    message.REFUSED: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
}

_NUMBERS = {word: kind for kind, word in TYPES.items()}
_NUMBER = re.compile("(?:TYPE)?([0-9]{1,5})")


def typeText(kind: int) -> str:
    """The word for a type; one without any is written as in RFC 3597, section 5: C{TYPE1234}."""
    return TYPES.get(kind, f"TYPE{kind}")


def typeNumber(text: str) -> int | None:
    """
    The type that a word or a number means, in any case.

    @return: L{None} if it means none, or one that there are no records of (RFC 6895, section 3.1).
    """
    text = text.upper()
    number = _NUMBER.fullmatch(text)
    kind = int(number[1]) if number else _NUMBERS.get(text, 0)
    isMeta = message.META <= kind < message.META_END and kind not in TYPES
    return kind if 0 < kind < 65536 and kind != message.OPT and not isMeta else None
