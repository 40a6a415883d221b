"""
Answers queries that nobody has to be asked about: by C{/etc/hosts}, by C{dnsRules}, and for names
that a rule about flows rejects, in this order.

A name in the hosts file has the addresses there and no others: where the file has none of the
type that was asked for, and for HTTPS and SVCB, whose hints lead elsewhere, there is no data.
Other records of it are the servers'.  What C{dnsRules} and rules say holds for every type, but
not for the proxies' own names, without which no proxy could be dialled.

Most queries are seen again soon, so what was found out is kept by the query's bytes, and a query
that the cache answers costs one look into a dictionary more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Hashable
from typing import Any, NamedTuple

from zope.interface import implementer

from nanotun.gateway.dns import made
from nanotun.gateway.dns.addresses import nameShown, packName
from nanotun.gateway.dns.hostsfile import HostsFile
from nanotun.gateway.dns.hoststable import HostsTable
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import (
    AAAA,
    HTTPS,
    IN,
    LARGEST,
    NOERROR,
    OPCODE,
    PTR,
    REFUSED,
    SVCB,
    A,
    Query,
    WireError,
    errorReply,
    isTransfer,
    readQuery,
)
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.trace import Trace
from nanotun.policy.dnsnames import NOTHING, NamePolicy

#: Queries to remember, with what becomes of them, and the most bytes of each: those of a name,
#: and what EDNS needs.
KNOWN_LIMIT = 4096
KNOWN_SIZE = 320

#: Addresses that thousands of blocked names may have, and no flow goes to.
_NOWHERE = frozenset(("0.0.0.0", "::"))

_TYPE_AND_CLASS = struct.Struct("!HH")


class _Made(NamedTuple):
    """
    An answer that was made here.

    @ivar query: what the query says.
    @ivar answer: with the id of the first who asked.
    @ivar stage: see L{Trace}, as is C{rule}.
    @ivar noted: whether the name is remembered as that of its addresses.
    """

    query: Query
    answer: bytes
    stage: str
    rule: str
    noted: bool


@implementer(IAnswering)
class RuledDns:
    """
    See the module.

    @param behind: answers what is left to it.
    @param relay: gives the answers.
    """

    def __init__(self, clock: Any, behind: IAnswering, relay: DnsRelay) -> None:
        self.counters = relay.counters
        self._clock = clock
        self._behind = behind
        self._relay = relay
        self._names = NamePolicy()
        self._hosts: HostsFile | None = None
        self._own: Collection[str] = ()
        self._says = False
        self._table = HostsTable()
        self._known: dict[bytes, _Made | None] = {}

    def configure(
        self, names: NamePolicy, hosts: HostsFile | None, own: Collection[str] = ()
    ) -> None:
        """
        Answer by others from now on.

        @param names: says what C{dnsRules} and the rules about flows say.
        @param hosts: the hosts file; L{None} if it does not count.
        @param own: names that nanotun itself may ask for by the machine's resolver, in lower
            case: of these only the hosts file counts.
        """
        self._names = names
        self._hosts = hosts
        self._own = own
        self._says = bool(names) or hosts is not None
        self._table = HostsTable()
        self._known.clear()

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        trace: Trace | None = None,
    ) -> bool:
        """See L{IAnswering.query}."""
        found = self._find(wire) if self._says else None
        if found is None:
            return self._behind.query(wire, client, reply, overTCP, largest, trace)
        counters = self.counters
        counters.queries += 1
        if found.stage == "hosts":
            counters.hosts += 1
        elif found.stage == "rule":
            counters.ruled += 1
        else:
            counters.rejected += 1
        if trace is not None:
            trace.stage, trace.rule = found.stage, found.rule
        answer = wire[:2] + found.answer[2:]
        self._relay.give(wire, found.query, answer, reply, overTCP, largest, found.noted)
        return True

    def _find(self, wire: bytes) -> _Made | None:
        """The answer to a query; L{None} if it is not for this stage."""
        if self._hosts is not None:
            table = self._hosts.table(self._clock.seconds())
            if table is not self._table:
                self._table = table
                self._known.clear()
        key = wire[2:]
        try:
            return self._known[key]
        except KeyError:
            pass
        found = self._make(wire)
        if len(key) <= KNOWN_SIZE:
            if len(self._known) >= KNOWN_LIMIT:
                self._known.clear()
            self._known[key] = found
        return found

    def _make(self, wire: bytes) -> _Made | None:
        try:
            query = readQuery(wire)
        except WireError:
            return None
        if not query.question or query.flags & OPCODE or isTransfer(query):
            return None
        kind, klass = _TYPE_AND_CLASS.unpack(query.question[-4:])
        name = nameShown(query.question[:-5].lower())
        if klass == IN:
            found = self._hosted(wire, query, name, kind)
            if found is not None:
                return found
        verdict = NOTHING if name in self._own else self._names.of(name)
        if verdict.answer is None:
            return None
        addresses = verdict.answer.addresses
        if verdict.answer.refused:
            answer = errorReply(wire, query, REFUSED)
        else:
            answer = made.addresses(addresses, wire, query)
        stage = "rejected" if verdict.rejected else "rule"
        return _Made(query, answer, stage, verdict.rule, _NOWHERE.isdisjoint(addresses))

    def _hosted(self, wire: bytes, query: Query, name: str, kind: int) -> _Made | None:
        """The answer by the hosts file; L{None} if it is not about this."""
        table = self._table
        if kind == PTR:
            pointed = table.nameOf(name)
            if not pointed:
                return None
            found = [packName(pointed)]
        elif kind in (A, AAAA, HTTPS, SVCB):
            pointed = name
            addresses = table.of(name, kind)
            if addresses is None:
                return None
            found = addresses
        else:
            return None
        if found:
            answer = made.reply(wire, query, NOERROR, [made.record(kind, each) for each in found])
        else:
            answer = made.deny(wire, query, NOERROR)
        # All bytes of an unspecified address are zero.
        noted = all(any(each) for each in found)
        return _Made(query, answer, "hosts", table.ruleOf(pointed), noted)
