"""
The names behind the addresses that the relay handed out, so that a flow can go to
an upstream by name.

There is one map for all clients.  They are programs of this machine, and the
address that a query came from says nothing of the flow's: a resolver of the system
asks for all programs, and a program's two sockets may have two addresses.

An address can be several names', as with every CDN: the one that was asked for
last is taken.  So a flow to a shared address may go by another name of it; and
who can make a program ask for a name of theirs can have the next flow to any
address go by that name, which matters to protocols without TLS.  An upstream that
is sent addresses has none of that, nor has C{dnsMode: fake-ip}.

What is done for each query is one assignment, to L{Grant.asked}: the relay gives
most answers from its cache.
"""

from __future__ import annotations

from collections import OrderedDict

from nanotun.gateway.dns.addresses import questionName, readAddresses
from nanotun.gateway.dns.message import Query

#: Seconds that a name outlives its answer.  Browsers keep an address for a minute
#: whatever its TTL is, and a pool of connections opens new ones to the address it
#: has; longer than this, and addresses have changed hands.
GRACE = 300.0

#: Addresses; some 10 MB.
ADDRESSES_LIMIT = 16384

#: Names of one address, the last ones asked for.
NAMES_LIMIT = 8

#: Addresses that are looked at for one that nobody asked for lately.
SEARCH_LIMIT = 16


class Grant:
    """
    An answer that was given.

    @ivar name: what was asked for.
    @ivar until: seconds; when the name is forgotten.
    @ivar asked: seconds; when the answer was last given.
    """

    __slots__ = ("asked", "name", "until")

    def __init__(self, name: str, until: float, asked: float) -> None:
        self.name = name
        self.until = until
        self.asked = asked


class _Address:
    """
    @ivar noted: when it was last looked at for being old.
    """

    __slots__ = ("grants", "noted")

    def __init__(self, now: float) -> None:
        self.grants: list[Grant] = []
        self.noted = now

    def asked(self) -> float:
        return max(grant.asked for grant in self.grants)


class AnsweredNames:
    """
    Names by address, the address that was handed out least lately given up first.

    @param limit: addresses.
    """

    def __init__(self, limit: int = ADDRESSES_LIMIT) -> None:
        self._limit = limit
        self._byHost: OrderedDict[str, _Address] = OrderedDict()

    def __len__(self) -> int:
        return len(self._byHost)

    def note(self, answer: bytes, query: Query, now: float) -> Grant | None:
        """
        An answer goes to whoever asked.

        @param answer: matches C{query}.
        @param now: seconds, of any clock.
        @return: what to write to when the same answer is given again; L{None} if the
            answer has no addresses, or the name is none that could be sent.
        """
        hosts, seconds = readAddresses(answer, query)
        if not hosts:
            return None
        name = questionName(query)
        if not name:
            return None
        grant = Grant(name, now + seconds + GRACE, now)
        for host in hosts:
            address = self._byHost.get(host)
            if address is None:
                self._makeRoom()
                address = self._byHost[host] = _Address(now)
            else:
                self._byHost.move_to_end(host)
                address.noted = now
            kept = [each for each in address.grants if each.name != name and each.until > now]
            kept.sort(key=_asked)
            address.grants = [*kept[1 - NAMES_LIMIT :], grant]
        return grant

    def find(self, host: str, now: float) -> str | None:
        """
        The name that an address was last handed out for.

        @param host: in its canonical text form.
        """
        address = self._byHost.get(host)
        if address is None:
            return None
        # The last of those asked for at one time is the one noted last.
        newest = None
        for grant in address.grants:
            if grant.until > now and (newest is None or grant.asked >= newest.asked):
                newest = grant
        return None if newest is None else newest.name

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
            # Given again from the cache since: it has another turn.
            address.noted = asked
            byHost.move_to_end(host)
        if len(byHost) >= self._limit:
            byHost.popitem(last=False)


def _asked(grant: Grant) -> float:
    return grant.asked
