"""
C{dnsMode: fake-ip}: answers queries from the pool before the relay sees them, and tells the
router the names behind fake addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import isFake
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.lookup import Lookup
from nanotun.gateway.dns.message import LARGEST
from nanotun.gateway.fakeip.answers import FakeAnswers
from nanotun.gateway.fakeip.pool import HOLD, FakePool
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.interfaces import INames
from nanotun.timer import Timer

#: Seconds between two saves, each only if there are new names.  A crash loses the names of
#: this time.  A full pool takes some 50 ms to write.
SAVE_INTERVAL = 60.0


@implementer(IAnswering)
class FakeDns:
    """
    Answers the queries that L{FakeAnswers} has an answer to, and passes all others to the
    relay.
    """

    _log = Logger()

    def __init__(self, clock: Any, answers: FakeAnswers, relay: IAnswering) -> None:
        self.counters = relay.counters
        self._clock = clock
        self._answers = answers
        self._relay = relay
        self._complained = False

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
    ) -> bool:
        """See L{IAnswering.query}."""
        answer = self._answers.answer(wire, self._clock.seconds())
        if answer is None:
            return self._relay.query(wire, client, reply, overTCP, largest)
        self.counters.queries += 1
        self.counters.faked += 1
        if self._answers.exhausted and not self._complained:
            self._complained = True
            self._log.error(
                "All fake addresses are in use; names that are new get no answer until some are "
                "free. Look for a program that asks for a great many names."
            )
        # At most 310 bytes, which fit everywhere.
        reply(answer)
        return True


@implementer(INames)
class FakeIpNames:
    """
    The names behind the pool's addresses.  See L{INames}.

    @param store: keeps the pool's names from one run to the next.
    @param flowHold: seconds that a name keeps its address after a flow has begun, because the
        end of some flows is not reported.
    """

    followsFlows = True
    knowsAny = True

    def __init__(
        self, clock: Any, pool: FakePool, store: FakeStore, lookup: Lookup, flowHold: float
    ) -> None:
        self._clock = clock
        self._pool = pool
        self._store = store
        self._lookup = lookup
        self._flowHold = max(flowHold, HOLD)
        self._timer = Timer(clock, self._save)

    def start(self) -> None:
        """Read the file, and write it every L{SAVE_INTERVAL} seconds if there are new names."""
        self._store.load(self._pool, self._clock.seconds())
        self._timer.start(SAVE_INTERVAL)

    def stop(self) -> None:
        """Write the file for the next run, unless L{start} was not called."""
        if self._timer.active:
            self._timer.cancel()
            self._store.save(self._pool)

    def isFake(self, host: str) -> bool:
        """See L{INames.isFake}."""
        return isFake(host)

    def nameOf(self, host: str) -> str | None:
        """See L{INames.nameOf}."""
        fake = self._pool.find(host)
        if fake is None:
            return None
        self._pool.hold(fake, self._clock.seconds(), self._flowHold)
        return fake.name

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{INames.resolve}."""
        return self._lookup.resolve(name, family)

    def flowJoined(self, host: str) -> None:
        """See L{INames.flowJoined}."""
        self._pool.flowJoined(host)

    def flowClosed(self, host: str) -> None:
        """See L{INames.flowClosed}."""
        self._pool.flowClosed(host, self._clock.seconds())

    def _save(self) -> None:
        self._timer.start(SAVE_INTERVAL)
        self._store.save(self._pool)
