"""
Answers queries for C{dnsMode: fake-ip}: takes a query, and returns the answer, or L{None}
where the servers are to be asked.

Rules::

    question                       answer
    A, AAAA                        the name's address from the pool, whether the name
                                   exists or not; the upstream that dials it finds out
    HTTPS, SVCB                    no data (RFC 9460): hints would be real addresses
    PTR of an address of the pool  its name, or NXDOMAIN
    resolver.arpa, any type        no data, so no client moves to a resolver that it
                                   discovers (RFC 9462, section 6.1)
    use-application-dns.net        NXDOMAIN, which has Firefox leave its own DNS over
                                   HTTPS off (Mozilla, "canary domain")
    any other type, class, opcode  from the servers

The servers also answer, whatever the type, for the names in L{LOCAL}, excluded names, names
that no host can have, and names of one label, which mean something on this machine only;
those of the command of C{nanotun run} mean something to the proxy only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Hashable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from nanotun.gateway.dns.addresses import packName, questionName
from nanotun.gateway.dns.made import deny, record, reply
from nanotun.gateway.dns.message import (
    AAAA,
    HTTPS,
    IN,
    NOERROR,
    NXDOMAIN,
    OPCODE,
    PTR,
    SERVFAIL,
    SVCB,
    A,
    Query,
    WireError,
    errorReply,
    readQuery,
)
from nanotun.gateway.fakeip.pool import Fake, FakePool, numberOf, packed4, packed6

#: Names that mean something on this machine and nothing to a proxy, with all names below them
#: (RFC 6761, RFC 6762, RFC 8375).  Questions in C{arpa} about the pool's addresses are
#: answered here.
LOCAL = ("localhost", "local", "arpa")

#: Queries to remember with their answers, and the most bytes of each: those of a name, and
#: what EDNS needs.
KNOWN_LIMIT = 4096
KNOWN_SIZE = 320

_CANARY = "use-application-dns.net"
_DISCOVERY = "resolver.arpa"

_COUNTS = struct.Struct("!HH")


class FakeAnswers:
    """
    See the module.

    @param pool: gives names their addresses.
    @param exclude: names that the servers answer for, with all names below them; in lower
        case.
    @param singles: whether names of one label get addresses, too.
    @ivar refused: queries answered by SERVFAIL because all addresses were in use, or the
        client's share of them.
    """

    def __init__(
        self, pool: FakePool, exclude: tuple[str, ...] = (), singles: bool = False
    ) -> None:
        self._pool = pool
        self._singles = singles
        self._excluded = {*LOCAL, *exclude}
        self._real: set[str] = set()
        self._known: dict[bytes, tuple[Fake, bytes]] = {}
        self.refused = 0

    def setReal(self, real: tuple[str, ...]) -> None:
        """
        Let the servers answer for these names from now on, but not for the names below them.

        @param real: in lower case; they replace those of the call before.
        """
        if self._real != set(real):
            self._real = set(real)
            self._known.clear()

    def answer(
        self, wire: bytes, now: float, clients: Callable[[], tuple[Hashable, ...]] = tuple
    ) -> bytes | None:
        """
        Answer a query.

        @param wire: the query, or any other bytes.
        @param now: seconds, of the pool's clock.
        @param clients: tells who asks, see L{FakePool.give}; called only where it matters.
        @return: the answer, or L{None} if the servers are to be asked.
        """
        known = self._known.get(wire[2:])
        if known is not None and self._pool.renew(known[0], now):
            return wire[:2] + known[1]
        try:
            query = readQuery(wire)
        except WireError:
            return None
        if not query.question or query.flags & OPCODE:
            return None
        kind, klass = _COUNTS.unpack(query.question[-4:])
        name = questionName(query)
        if klass != IN or not name:
            return None
        if _isWithin(name, (_DISCOVERY,)):
            return deny(wire, query, NOERROR)
        if name == _CANARY:
            return deny(wire, query, NXDOMAIN)
        if kind == PTR:
            return self._pointer(wire, query, name)
        if kind not in (A, AAAA, HTTPS, SVCB) or not self.fakes(name):
            return None
        if kind in (HTTPS, SVCB):
            return deny(wire, query, NOERROR)
        return self._address(wire, query, kind, name, now, clients)

    def fakes(self, name: str) -> bool:
        """
        Whether a name gets a fake address.

        @param name: in lower case, without the final dot.
        """
        return isFaked(name, self._excluded, self._real, self._singles)

    def _address(
        self,
        wire: bytes,
        query: Query,
        kind: int,
        name: str,
        now: float,
        clients: Callable[[], tuple[Hashable, ...]],
    ) -> bytes:
        fake = self._pool.again(name, now) or self._pool.give(name, now, clients())
        if fake is None:
            self.refused += 1
            return errorReply(wire, query, SERVFAIL)
        data = packed4(fake.number) if kind == A else packed6(fake.number)
        answer = reply(wire, query, NOERROR, [record(kind, data)])
        if len(wire) <= KNOWN_SIZE:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[wire[2:]] = fake, answer[2:]
        return answer

    def _pointer(self, wire: bytes, query: Query, name: str) -> bytes | None:
        host = _reversed(name)
        if not numberOf(host):
            return None
        fake = self._pool.find(host)
        if fake is None:
            return deny(wire, query, NXDOMAIN)
        return reply(wire, query, NOERROR, [record(PTR, packName(fake.name))])


def isFaked(
    name: str, excluded: Collection[str], real: Collection[str], singles: bool = False
) -> bool:
    """
    Whether a name gets a fake address.

    @param name: in lower case, without the final dot.
    @param excluded: names that do not, with all names below them.
    @param real: names that do not, without those below them.
    @param singles: whether names of one label do.
    """
    return (singles or "." in name) and name not in real and not _isWithin(name, excluded)


def _isWithin(name: str, zones: Collection[str]) -> bool:
    """Whether a name is one of C{zones}, or below one of them."""
    while name not in zones:
        _, dot, name = name.partition(".")
        if not dot:
            return False
    return True


def _reversed(name: str) -> str:
    """
    The address that a name in C{arpa} stands for (RFC 1035, section 3.5; RFC 3596, section
    2.5), in its canonical text form, or the empty text.
    """
    labels = name.split(".")
    if len(labels) == 6 and labels[4:] == ["in-addr", "arpa"]:
        host = ".".join(reversed(labels[:4]))
        family = AF_INET
    elif len(labels) == 34 and labels[32:] == ["ip6", "arpa"]:
        digits = "".join(reversed(labels[:32]))
        host = ":".join(digits[at : at + 4] for at in range(0, len(digits), 4))
        family = AF_INET6
    else:
        return ""
    try:
        return inet_ntop(family, inet_pton(family, host))
    except OSError:
        return ""
