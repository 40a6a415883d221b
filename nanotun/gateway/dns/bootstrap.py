"""
Finds the addresses of DNS servers that are given by name.

Such a name is asked for at other servers, those of the same list that need no look-up
themselves, each by its own way.  The relay has no part in it: no script, no rule, no hosts file,
no fake address and no cache comes in between, so that finding a server never waits for that
server.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from nanotun.addresses import mayDial
from nanotun.errors import UpstreamError
from nanotun.gateway.dns.addresses import queryFor, readAddresses
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.exchange import Deadlines, Exchange, Waiter
from nanotun.gateway.dns.message import AAAA, LARGEST, NOERROR, NXDOMAIN, RCODE, A, readQuery
from nanotun.interfaces import DnsServer

#: Look-ups of servers' names at a time: two for each server that is being found.  Each may hold
#: three sockets when servers are silent.
LOOKUP_LIMIT = 64

#: Seconds that addresses are good for, and the seconds once none of them could be reached.
ADDRESS_AGE = 60.0
UNREACHED_AGE = 5.0

#: Addresses of each family to try.
FAMILY_LIMIT = 4


class OwnLookupError(UpstreamError):
    """
    A name cannot be looked up.  The text says why, without a subject of its own and without the
    period, as in brackets: "no DNS server answers".
    """


class AddressError(UpstreamError):
    """
    A server's address cannot be found.  The text follows "The DNS server X ", as that of
    L{TalkError<nanotun.gateway.dns.talks.TalkError>}.
    """


class OwnLookup:
    """
    Asks servers on behalf of nanotun itself.

    @param limit: how many questions may be under way.
    """

    def __init__(self, clock: IReactorTime, limit: int = LOOKUP_LIMIT) -> None:
        self._limit = limit
        self._deadlines = Deadlines(clock)
        self._asked: dict[Exchange, Deferred[bytes | None]] = {}

    def ask(self, name: str, kind: int, servers: ServerQueries) -> Deferred[bytes | None]:
        """
        Ask servers a question.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param kind: the type of record.
        @return: fires with the answer, whatever it says, or with L{None} if no server answers,
            which is known after 4.5 s.  Fails with L{OwnLookupError} if too many questions are
            under way, and may be cancelled.
        """
        if len(self._asked) >= self._limit:
            return fail(OwnLookupError("too many names are being looked up"))
        wire = queryFor(name, kind)
        exchange = Exchange(
            wire, readQuery(wire), servers, self._deadlines, self._done, self._truncated, wire
        )
        found: Deferred[bytes | None] = Deferred(lambda _: self._giveUp(exchange))
        self._asked[exchange] = found
        # A truncated answer leaves it there, so that the servers are asked again by TCP.
        exchange.waiters = [Waiter(self, wire[:2], True, LARGEST, found.callback)]
        exchange.begin(False)
        return found

    def resolve(self, name: str, family: int, servers: ServerQueries) -> Deferred[list[str]]:
        """
        Look a name up.

        @param name: from L{nanotun.gateway.dns.addresses.nameText}.
        @param family: 4 or 6.
        @return: fires with the addresses that may be dialled, in the server's order; none if the
            name has none.  Fails with L{OwnLookupError}, and may be cancelled.
        """
        kind = A if family == 4 else AAAA

        def read(answer: bytes | None) -> list[str]:
            if answer is None:
                raise OwnLookupError("no DNS server answers")
            rcode = answer[3] & RCODE
            if rcode not in (NOERROR, NXDOMAIN):
                raise OwnLookupError(f"DNS error {rcode}")
            found, _ = readAddresses(answer, readQuery(queryFor(name, kind)))
            return [address for address in found if mayDial(address)]

        return self.ask(name, kind, servers).addCallback(read)

    def stop(self) -> None:
        """Give up all questions; each fails with C{CancelledError}."""
        for found in list(self._asked.values()):
            found.cancel()
        self._deadlines.stop()

    def _done(self, exchange: Exchange, answer: bytes | None) -> None:
        self._asked.pop(exchange).callback(answer)

    def _truncated(self, exchange: Exchange, answer: bytes) -> None:
        """Nothing to do: the question waits for a whole answer."""

    def _giveUp(self, exchange: Exchange) -> None:
        del self._asked[exchange]
        exchange.cancel()


class ServerAddresses:
    """
    The addresses of one server.

    @param lookUp: looks a name up, given the family, as L{OwnLookup.resolve} does; not called
        for a server whose address is known.
    """

    def __init__(
        self,
        server: DnsServer,
        lookUp: Callable[[str, int], Deferred[list[str]]],
        clock: IReactorTime,
    ) -> None:
        self._server = server
        self._lookUp = lookUp
        self._clock = clock
        self._found = [server.host] if server.literal else list(server.addresses)
        self._isFixed = bool(self._found)
        self._until = math.inf if self._isFixed else -math.inf
        self._reached = ""
        self._asking = self._moved = False
        self._waiting: list[Deferred[list[str]]] = []

    def get(self) -> Deferred[list[str]]:
        """
        Find the addresses to try.

        @return: fires with them, the one that was reached last at the front, else IPv4 first.
            Fails with L{AddressError}, and may be cancelled.
        """
        if self._clock.seconds() < self._until:
            return succeed(list(self._found))
        found: Deferred[list[str]] = Deferred(self._waiting.remove)
        self._waiting.append(found)
        if not self._asking:
            self._asking = True
            both = [self._lookUp(self._server.host, family) for family in (4, 6)]
            DeferredList(both, consumeErrors=True).addCallback(self._take)
        return found

    def reached(self, address: str) -> None:
        """Note that the server was reached at an address, which is the first to try from now on."""
        self._reached = address
        self._found.sort(key=self._isOther)

    def noneReached(self) -> None:
        """Note that the server was reached at none, so that its name is looked up again soon."""
        if not self._isFixed:
            self._until = min(self._until, self._clock.seconds() + UNREACHED_AGE)

    def forget(self) -> None:
        """Look the name up again, as the machine is in another network."""
        if not self._isFixed:
            self._until = -math.inf
            self._found.clear()
            self._reached = ""
            self._moved = self._asking

    def _isOther(self, address: str) -> bool:
        """A key to sort by: the address that was reached last comes first."""
        return address != self._reached

    def _take(self, results: list[Any]) -> None:
        # Of each family, whether it was looked up, and its addresses or a failure.
        self._asking = False
        waiting, self._waiting = self._waiting, []
        found: list[str] = []
        failures: list[Failure] = []
        for _, result in results:
            if isinstance(result, Failure):
                failures.append(result)
            else:
                found += result[:FAMILY_LIMIT]
        age = ADDRESS_AGE
        if not found and failures:
            # While nobody answers, those of before are better than none.
            found, age = self._found, UNREACHED_AGE
        moved, self._moved = self._moved, False
        if found:
            self._found = sorted(found, key=self._isOther)
            # What was asked in another network is not kept.
            self._until = -math.inf if moved else self._clock.seconds() + age
            for each in waiting:
                each.callback(list(self._found))
            return
        failure = self._failure(failures)
        for each in waiting:
            each.errback(failure)

    def _failure(self, failures: list[Failure]) -> Failure:
        """Why there is no address."""
        for each in failures:
            if not each.check(OwnLookupError):
                return each
        why = failures[0].getErrorMessage() if failures else "it has no address"
        server = self._server
        return Failure(
            AddressError(
                f"cannot be asked, because {server.host} cannot be looked up ({why}); give its "
                f"address, as in {{server: '{server}', address: 192.0.2.53}}"
            )
        )
