"""
Whether names exist, for C{dnsMode: fake-ip}: the servers are asked through the proxy.

A name of which that cannot be told counts as one that exists.  Each name is in one of these
states::

    state                              the next query
    not known                          asks, and waits for at most L{WAIT} seconds
    not known, but has an address      gets it at once; the name is asked for meanwhile
    asked for                          waits for the same answer
    exists, for L{EXISTS_AGE} s        gets an address
    absent, for as long as was said    gets NXDOMAIN
    absent, but that time is over      asks and waits, even if the name has an address

When no server answers, or answers come too late, none is asked for L{REST} seconds.  After that
one name is asked for, and nobody waits until an answer has come in time: so a proxy that forbids
it is asked once a minute, and programs are not held up each time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.gateway.dns.addresses import queryFor
from nanotun.gateway.dns.message import (
    NOERROR,
    NXDOMAIN,
    RCODE,
    A,
    readQuery,
)
from nanotun.gateway.dns.records import readLifetime

#: Seconds that a query waits.  Resolvers repeat theirs after five, and browsers turn to
#: another resolver, or show an error, if every name takes longer than two.
WAIT = 1.5

#: Seconds without a question after no server answered, or each answer came too late.
REST = 60.0

#: Answers in a row that took longer than L{WAIT}, after which it is not worth waiting.
LATE_LIMIT = 3

#: Seconds that a name counts as existing, and the least and the most that it counts as absent.
EXISTS_AGE = 3600.0
ABSENT_LEAST, ABSENT_MOST = 10.0, 300.0

#: Names to remember, some 3 MB, and names that are asked for at a time.
NAMES_LIMIT = 16384
ASKED_LIMIT = 1000

Ask = Callable[[str], "Deferred[bytes | None]"]


class _NameAsked:
    """A name that is asked for: since when, and who waits."""

    __slots__ = ("began", "call", "waiting")

    def __init__(self, began: float) -> None:
        self.began = began
        self.call: Deferred[bytes | None] | None = None
        # With the timers that end their waiting.
        self.waiting: list[tuple[Deferred[bool], Any]] = []


class Existence:
    """
    See the module.  It asks nobody until L{configure}.

    @param absent: called with each name that turns out not to exist.
    """

    _log = Logger()

    def __init__(self, clock: Any, absent: Callable[[str], None] = lambda name: None) -> None:
        self._clock = clock
        self._absent = absent
        self._ask: Ask | None = None
        self._mayAsk: Callable[[str], bool] = lambda name: False
        self._everyServer = False
        self._known: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._asked: dict[str, _NameAsked] = {}
        self._restUntil = 0.0
        self._late = 0
        # Whether the latest news is that no server answers in time, and whether that was logged.
        self._doubted = False
        self._told = False

    @property
    def asks(self) -> bool:
        """Whether names are asked for at the moment."""
        return self._ask is not None and self._clock.seconds() >= self._restUntil

    def configure(
        self,
        ask: Ask | None,
        mayAsk: Callable[[str], bool] = lambda name: True,
        everyServer: bool = False,
    ) -> None:
        """
        Ask in another way from now on, and forget what is known.

        @param ask: asks the servers for a name's IPv4 addresses, see
            L{nanotun.gateway.dns.bootstrap.OwnLookup.ask}; L{None} to ask nobody.
        @param mayAsk: whether the servers may hear of a name.
        @param everyServer: whether these are all servers of the relay, so that it may be
            given queries about such names, too.
        """
        self.clear()
        self._ask, self._mayAsk, self._everyServer = ask, mayAsk, everyServer

    def clear(self) -> None:
        """Forget what is known, and end a rest: the servers or the network are other ones."""
        self._known.clear()
        self._restUntil, self._late, self._doubted = 0.0, 0, False
        asked, self._asked = self._asked, {}
        for each in asked.values():
            if each.call is not None:
                each.call.cancel()
            self._tell(each, True)

    def stop(self) -> None:
        """Ask nobody any more.  Those who wait have given up before."""
        self.configure(None)

    def known(self, name: str) -> bool | None:
        """
        Whether a name exists, as far as it is known.

        @param name: in lower case, without the final dot.
        @return: true also if that cannot be found out; L{None} if L{find} can.
        """
        found = self._known.get(name)
        if found is not None and self._clock.seconds() < found[1]:
            self._known.move_to_end(name)
            return found[0]
        return None if self.mayAsk(name) else True

    def mayAsk(self, name: str) -> bool:
        """Whether the servers may be asked about a name now."""
        return self.asks and self._mayAsk(name)

    def mayRelay(self, name: str) -> bool:
        """Whether the relay may send a query about a name now, and an answer is likely."""
        return self._everyServer and not self._doubted and self.mayAsk(name)

    def wasAbsent(self, name: str) -> bool:
        """Whether a name did not exist when it was asked for last."""
        return self._known.get(name, (True, 0.0))[0] is False

    def find(self, name: str) -> Deferred[bool]:
        """
        Ask whether a name exists that is not L{known}.

        @return: fires within L{WAIT} seconds, with true also if that cannot be found out.
            Fails only if it is cancelled.
        """
        asked = self._begin(name)
        if asked is None or self._doubted:
            # There was an answer at once, too many are asked for, or there may be no answer.
            return succeed(self.known(name) is not False)
        waiter: Deferred[bool] = Deferred(lambda _: self._leave(asked, waiter))
        timer = self._clock.callLater(WAIT, self._giveUp, asked, waiter)
        asked.waiting.append((waiter, timer))
        return waiter

    def refresh(self, name: str) -> None:
        """Ask whether a name exists that is not L{known}; nobody waits for the answer."""
        self._begin(name)

    def _begin(self, name: str) -> _NameAsked | None:
        """
        Ask for a name, unless it is asked for already.

        @return: L{None} if it is not asked for now.
        """
        if name not in self._asked:
            limit = 1 if self._doubted else ASKED_LIMIT
            if self._ask is None or len(self._asked) >= limit:
                return None
            asked = self._asked[name] = _NameAsked(self._clock.seconds())
            asked.call = self._ask(name)
            asked.call.addBoth(self._answered, name, asked)
            asked.call.addErrback(self._broke)
        return self._asked.get(name)

    def _answered(self, answer: bytes | Failure | None, name: str, asked: _NameAsked) -> None:
        if self._asked.get(name) is not asked:
            return
        del self._asked[name]
        if isinstance(answer, Failure):
            # Too much is under way, which says nothing about the servers.
            self._tell(asked, True)
            return
        now = self._clock.seconds()
        if answer is None:
            self._rest(now)
            self._tell(asked, True)
            return
        late = now - asked.began >= WAIT
        self._late = self._late + 1 if late else 0
        if self._late >= LATE_LIMIT:
            self._rest(now)
        elif not late:
            self._doubted = self._told = False
        rcode = answer[3] & RCODE
        if rcode == NOERROR:
            self._note(name, True, now + EXISTS_AGE)
        elif rcode == NXDOMAIN:
            self._note(name, False, now + _absence(name, answer))
            self._absent(name)
        self._tell(asked, rcode != NXDOMAIN)

    def _broke(self, reason: Failure) -> None:
        self._log.failure("A name is not asked for: internal error", failure=reason)

    def _note(self, name: str, exists: bool, until: float) -> None:
        self._known[name] = exists, until
        self._known.move_to_end(name)
        if len(self._known) > NAMES_LIMIT:
            self._known.popitem(last=False)

    def _rest(self, now: float) -> None:
        """Ask for no more names for a while, and keep nobody waiting."""
        if not self._told:
            self._told = True
            self._log.info(
                "No server of dns answers through the proxy in time, so for now names get fake "
                "addresses whether they exist or not, and programs with search domains may stop "
                "at a name that does not exist."
            )
        self._restUntil = now + REST
        self._late, self._doubted = 0, True
        for each in list(self._asked.values()):
            self._tell(each, True)

    def _tell(self, asked: _NameAsked, exists: bool) -> None:
        waiting, asked.waiting = asked.waiting, []
        for waiter, timer in waiting:
            timer.cancel()
            waiter.callback(exists)

    def _leave(self, asked: _NameAsked, waiter: Deferred[bool]) -> None:
        """Somebody waits no more; the question goes on."""
        for each in asked.waiting:
            if each[0] is waiter:
                each[1].cancel()
        asked.waiting = [each for each in asked.waiting if each[0] is not waiter]

    def _giveUp(self, asked: _NameAsked, waiter: Deferred[bool]) -> None:
        asked.waiting = [each for each in asked.waiting if each[0] is not waiter]
        waiter.callback(True)


def _absence(name: str, answer: bytes) -> float:
    """For how many seconds a denial holds."""
    lifetime = readLifetime(answer, readQuery(queryFor(name, A)))
    seconds = 0.0 if lifetime is None else lifetime.seconds
    return max(ABSENT_LEAST, min(seconds, ABSENT_MOST))
