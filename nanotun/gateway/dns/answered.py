"""
Remembers the names behind the addresses that the relay has handed out, so that an
upstream can be sent a flow's name.

There is one map for all clients.  They are programs of this machine, and the source address
of a query says nothing about that of the flow: the system's resolver asks for all programs,
and two sockets of a program may have two addresses.

An address can belong to several names, as with every CDN; the name that was asked for last
is taken.  A flow to a shared address may therefore be sent under another of its names.  And
an attacker who can make a program ask for a name in their zone can have the next flow to any
address sent under that name, which matters to protocols without TLS.  Neither can happen with
an upstream that is sent addresses, nor with C{dnsMode: fake-ip}.

Most answers are given from the cache, and each of these costs one assignment here, to
L{Grant.asked}.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter

from nanotun.flow import Known
from nanotun.gateway.dns.addresses import questionName, readAddresses
from nanotun.gateway.dns.message import Query

#: Seconds that a name outlives its answer.  Browsers keep an address for a minute whatever
#: its TTL is, and connection pools open new connections to the address that they have.
#: After more time than this, addresses have changed hands.
GRACE = 300.0

#: Addresses to remember; some 10 MB.
ADDRESSES_LIMIT = 16384

#: Names to remember of one address: those that were asked for last.
NAMES_LIMIT = 8

#: Answers to remember for each of them: a name is asked for with EDNS and without, and each form
#: of the question has an answer of its own in the cache, which tells its own grant.
FORMS_LIMIT = 4

#: Of an address that was never handed out.
NOTHING_KNOWN = Known()

_asked = attrgetter("asked")

#: Addresses to look at for one that has not been asked for lately.
SEARCH_LIMIT = 16


class Grant:
    """
    An answer that was given to a client.

    @ivar name: the name in the question.
    @ivar form: equal for questions about the name that share an answer of the cache.
    @ivar until: the time in seconds when the name is forgotten.
    @ivar asked: the time in seconds when the answer was last given.
    """

    __slots__ = ("asked", "form", "name", "until")

    def __init__(self, name: str, form: bytes, until: float, asked: float) -> None:
        self.name = name
        self.form = form
        self.until = until
        self.asked = asked


class _Address:
    """
    The names of one address.

    @ivar noted: the time in seconds when it was last moved to the end of the map.
    @ivar others: the time in seconds until which it may have other names than those.
    """

    __slots__ = ("grants", "noted", "others")

    def __init__(self, now: float) -> None:
        self.grants: list[Grant] = []
        self.noted = now
        self.others = now

    def asked(self) -> float:
        return max(grant.asked for grant in self.grants)

    def add(self, grant: Grant, now: float) -> None:
        """Note a grant, in the place of an earlier one for the same form of the question."""
        name, form = grant.name, grant.form
        kept = [g for g in self.grants if g.until > now and (g.name != name or g.form != form)]
        kept.sort(key=_asked)
        kept.append(grant)
        if len(kept) <= FORMS_LIMIT:
            # Most addresses have a name or two.
            self.grants = kept
            return
        counts: dict[str, int] = {}
        self.grants = []
        for each in reversed(kept):
            count = counts.get(each.name, 0)
            if not count and len(counts) == NAMES_LIMIT:
                self.others = max(self.others, each.until)
            elif count < FORMS_LIMIT:
                counts[each.name] = count + 1
                self.grants.append(each)
        self.grants.reverse()


class AnsweredNames:
    """
    Names by address.  When there are too many, the address that has not been handed out for
    longest is forgotten.

    @param limit: how many addresses to remember.
    @param wanted: whether the addresses of a name, which is in lower case and has no final
        dot, are remembered.
    """

    def __init__(
        self,
        limit: int = ADDRESSES_LIMIT,
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self._limit = limit
        self._wanted = wanted
        self._byHost: OrderedDict[str, _Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._byHost)

    def note(self, answer: bytes, query: Query, now: float, always: bool = False) -> Grant | None:
        """
        Remember the addresses of an answer that a client is given.

        @param answer: matches C{query}.
        @param now: seconds, of any clock.
        @param always: whether it counts, though the name is not wanted.
        @return: the grant; set its L{Grant.asked} when the same answer is given again.  L{None}
            if the answer has no addresses, or the name is not one that can be sent or is
            not wanted.
        """
        hosts, seconds = readAddresses(answer, query)
        if not hosts:
            return None
        name = questionName(query)
        if not name or not (always or self._wanted(name)):
            return None
        grant = Grant(name, query.key[-3:], now + seconds + GRACE, now)
        for host in hosts:
            address = self._byHost.get(host)
            if address is None:
                self._makeRoom()
                address = self._byHost[host] = _Address(now)
            else:
                self._byHost.move_to_end(host)
                address.noted = now
            address.add(grant, now)
        return grant

    def find(self, host: str, now: float) -> str | None:
        """
        The name that an address was last handed out for, or L{None}.

        @param host: an address in its canonical text form.
        """
        address = self._byHost.get(host)
        if address is None:
            return None
        # Of several that were asked for at the same time, the one noted last.
        newest = None
        for grant in address.grants:
            if grant.until > now and (newest is None or grant.asked >= newest.asked):
                newest = grant
        return None if newest is None else newest.name

    def all(self, host: str, now: float) -> Known:
        """
        The names that an address was handed out for, the one that was asked for last first.

        @param host: an address in its canonical text form.
        """
        address = self._byHost.get(host)
        if address is None:
            return NOTHING_KNOWN
        kept = [grant for grant in reversed(address.grants) if grant.until > now]
        kept.sort(key=_asked, reverse=True)
        names = tuple(dict.fromkeys(grant.name for grant in kept))
        return Known(names, address.others <= now)

    def clear(self) -> None:
        """Forget everything."""
        self._byHost.clear()

    def _makeRoom(self) -> None:
        byHost = self._byHost
        for _ in range(SEARCH_LIMIT):
            if len(byHost) < self._limit:
                return
            host, address = next(iter(byHost.items()))
            asked = address.asked()
            if asked <= address.noted:
                break
            # Given again from the cache since then, so it is kept for another round.
            address.noted = asked
            byHost.move_to_end(host)
        if len(byHost) >= self._limit:
            byHost.popitem(last=False)
