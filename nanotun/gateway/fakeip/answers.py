"""
Answers queries for C{dnsMode: fake-ip}: takes a query, and returns the answer, or L{None}
where the servers are to be asked.

Rules, for names that exist or of which nobody knows (L{nanotun.gateway.fakeip.front})::

    question                       answer
    A, AAAA                        the name's address from the pool; if there is no such
                                   name, the upstream that dials it finds out
    HTTPS, SVCB                    no data, unless the servers can be asked through the
                                   proxy; the hints in them (RFC 9460) are real addresses
    PTR of an address of the pool  its name, or NXDOMAIN
    resolver.arpa, any type        no data, so no client moves to a resolver that it
                                   discovers (RFC 9462, section 6.1)
    use-application-dns.net        NXDOMAIN, which has Firefox leave its own DNS over
                                   HTTPS off (Mozilla, "canary domain")
    any other type, class, opcode  from the servers

The servers also answer, whatever the type, for the names in L{LOCAL}, excluded names, names
with servers of their own, names that no host can have, and names of one label, which mean
something on this machine only; those of the command of C{nanotun run} mean something to the
proxy only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Hashable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

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

#: Seconds after which the name in such a query is looked at anew: whether it exists is found
#: out once an hour.
KNOWN_AGE = 60.0

_CANARY = "use-application-dns.net"
_DISCOVERY = "resolver.arpa"

_COUNTS = struct.Struct("!HH")


class FakeQuestion(NamedTuple):
    """
    A question that is answered here.

    @ivar query: the query that it is in.
    @ivar name: in lower case, without the final dot.
    @ivar faked: whether it is for the addresses of a name that gets fake ones, or for its
        HTTPS and SVCB records.
    """

    query: Query
    kind: int
    name: str
    faked: bool


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
        self._real: Collection[str] = ()
        self._served: Callable[[str], bool] = lambda name: False
        self._known: dict[bytes, tuple[Fake, bytes, float]] = {}
        self.refused = 0

    def configure(
        self, real: Collection[str], served: Callable[[str], bool] = lambda name: False
    ) -> None:
        """
        Let the servers answer for other names from now on.

        @param real: in lower case; the names below them get fake addresses.
        @param served: whether a name has servers of its own, which know its real addresses.
        """
        self._real = frozenset(real)
        self._served = served
        self.forget()

    def forget(self) -> None:
        """Look at every query anew: what is known about a name has changed."""
        self._known.clear()

    def known(self, wire: bytes, now: float) -> bytes | None:
        """
        The answer to a query that was answered before with an address, within the last
        L{KNOWN_AGE} seconds.

        @param wire: the query, or any other bytes.
        @param now: seconds, of the pool's clock.
        """
        known = self._known.get(wire[2:])
        if known is None or now >= known[2] or not self._pool.renew(known[0], now):
            return None
        return wire[:2] + known[1]

    def read(self, wire: bytes) -> FakeQuestion | None:
        """
        What a query asks.

        @param wire: the query, or any other bytes.
        @return: L{None} if it is answered by the servers.
        """
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
        if name == _CANARY or _isWithin(name, (_DISCOVERY,)):
            return FakeQuestion(query, kind, name, False)
        if kind == PTR:
            fake = numberOf(_reversed(name))
            return FakeQuestion(query, kind, name, False) if fake else None
        if kind in (A, AAAA, HTTPS, SVCB) and self.fakes(name):
            return FakeQuestion(query, kind, name, True)
        return None

    def answer(
        self,
        wire: bytes,
        question: FakeQuestion,
        now: float,
        clients: Callable[[], tuple[Hashable, ...]] = tuple,
    ) -> bytes:
        """
        Answer a query; the name in it exists.

        @param wire: the query.
        @param question: what it asks, from L{read}.
        @param now: seconds, of the pool's clock.
        @param clients: tells who asks, see L{FakePool.give}; called only where it matters.
        """
        query, kind, name, faked = question
        if faked and kind in (A, AAAA):
            return self._address(wire, question, now, clients)
        if name == _CANARY:
            return deny(wire, query, NXDOMAIN)
        if kind == PTR and not _isWithin(name, (_DISCOVERY,)):
            return self._pointer(wire, query, name)
        return deny(wire, query, NOERROR)

    def fakes(self, name: str) -> bool:
        """
        Whether a name gets a fake address.

        @param name: in lower case, without the final dot.
        """
        if not isFaked(name, self._excluded, self._real, self._singles):
            return False
        return not self._served(name)

    def _address(
        self,
        wire: bytes,
        question: FakeQuestion,
        now: float,
        clients: Callable[[], tuple[Hashable, ...]],
    ) -> bytes:
        query, kind, name, _ = question
        fake = self._pool.again(name, now) or self._pool.give(name, now, clients())
        if fake is None:
            self.refused += 1
            return errorReply(wire, query, SERVFAIL)
        data = packed4(fake.number) if kind == A else packed6(fake.number)
        answer = reply(wire, query, NOERROR, [record(kind, data)])
        if len(wire) <= KNOWN_SIZE:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[wire[2:]] = fake, answer[2:], now + KNOWN_AGE
        return answer

    def _pointer(self, wire: bytes, query: Query, name: str) -> bytes:
        fake = self._pool.find(_reversed(name))
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
