"""
Protection against DNS rebinding: a web page's own name that suddenly leads into the network of
whoever looks at it, so that the page's scripts may talk to what is there.

Rules: an answer is dropped as a whole if any of its records has an address that is not on the
Internet, whichever name the record is for, as not every resolver looks at that.  It is read as
far as it can be read: a resolver may use records of an answer that has no proper end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop

from nanotun.addresses import Reach, Special, innerAddress
from nanotun.config.askedservers import allLocal
from nanotun.config.settings import Settings
from nanotun.gateway.dns.addresses import isWithin, nameShown, packName
from nanotun.gateway.dns.message import (
    AAAA,
    HEADER,
    HEADER_SIZE,
    HTTPS,
    RECORD,
    SVCB,
    A,
    Query,
    WireError,
    nameEnd,
)
from nanotun.gateway.dns.svcb import hints
from nanotun.policy.dnsnames import NamePolicy
from nanotun.policy.reserved import specialOf

#: Zones that nobody can have a name in who is not in the same network (RFC 6761, RFC 6762, RFC
#: 8375, RFC 7050, RFC 9462; ICANN's resolution 2024.07.29.06), as labels without the root.  Not
#: all of C{arpa}: whoever has an address has a zone there.
_LOCAL = tuple(
    packName(zone)[:-1]
    for zone in (
        "localhost",
        "local",
        "internal",
        "home.arpa",
        "ipv4only.arpa",
        "resolver.arpa",
    )
)

#: Servers that block names give these, so nobody needs to be told that they are dropped.
_UNSPECIFIED = ("0.0.0.0", "::")


class RebindingGuard:
    """
    See the module.  Names of one label and those that are local by convention may have any
    address.

    @param isExempt: whether a name may have any address: one in lower case, without the final
        dot, that has a dot.
    @param report: is given a sentence for the user when an answer is dropped.
    """

    def __init__(self, isExempt: Callable[[str], bool], report: Callable[[str], None]) -> None:
        self._isExempt = isExempt
        self._report = report

    def drops(self, answer: bytes, query: Query) -> bool:
        """
        Whether nobody may be given an answer.

        @param answer: matches C{query}.
        """
        found = localAddress(answer, query)
        if found is None:
            return False
        labels = query.question[:-5].lower()
        name = nameShown(labels)
        if (
            "." not in name
            or any(isWithin(labels, zone) for zone in _LOCAL)
            or self._isExempt(name)
        ):
            return False
        host, special = found
        if host not in _UNSPECIFIED:
            self._report(
                f"The answer for {name} was dropped, because it leads to {host} ({special.name}, "
                f"{special.source}) and dnsRebindProtection is on; if that is meant, give the name "
                "servers of its own in dnsRules."
            )
        return True


def guardFor(
    settings: Settings,
    names: NamePolicy,
    realNames: Collection[str],
    report: Callable[[str], None],
) -> RebindingGuard | None:
    """
    The guard that some settings ask for, or L{None}; also if the servers of C{dns} are all
    meant to know local names.

    @param names: what the settings say about names.  Those that have servers of their own may have
        any address; an entry for all names gives them none.
    @param realNames: the names of the proxies, which may have any address too.
    @param report: see L{RebindingGuard}.
    """
    if not settings.dnsRebindProtection or allLocal(settings):
        return None
    return RebindingGuard(
        lambda name: name in realNames or bool(names.ownServersFor(name)),
        report,
    )


def localAddress(answer: bytes, query: Query) -> tuple[str, Special] | None:
    """
    The first address of an answer that is not on the Internet, with what it is; L{None} if
    there is none.  The address that a NAT64 or 6to4 address stands for counts as well.

    @param answer: matches C{query}.
    """
    for host in _hosts(answer, query):
        inner = innerAddress(IPv6Address(host)) if ":" in host else None
        for each in (host, "" if inner is None else str(inner)):
            special = specialOf(each) if each else None
            if special is not None and special.reach is not Reach.GLOBAL:
                return host, special
    return None


def _hosts(answer: bytes, query: Query) -> Iterator[str]:
    """The addresses that a client may take from an answer, in their canonical text form."""
    question = query.question
    if not question:
        return
    _, _, _, count, authorities, additionals = HEADER.unpack_from(answer)
    if question[-4] << 8 | question[-3] in (HTTPS, SVCB):
        # Addresses for these may come along (RFC 9460, section 4.2).
        count += authorities + additionals
    offset = HEADER_SIZE + len(question)
    for _ in range(count):
        try:
            fields = nameEnd(answer, offset)
            kind, _, _, length = RECORD.unpack_from(answer, fields)
        except (WireError, struct.error):
            return
        offset = fields + RECORD.size + length
        data = answer[fields + RECORD.size : offset]
        if kind == A and length == len(data) == 4:
            yield inet_ntop(AF_INET, data)
        elif kind == AAAA and length == len(data) == 16:
            yield inet_ntop(AF_INET6, data)
        elif kind in (HTTPS, SVCB):
            yield from hints(data)
