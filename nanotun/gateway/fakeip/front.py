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
from nanotun.flow import Endpoint
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.lookup import Lookup
from nanotun.gateway.dns.message import LARGEST
from nanotun.gateway.fakeip.answers import FakeAnswers
from nanotun.gateway.fakeip.pool import HOLD, SIZE, FakePool
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.interfaces import INames
from nanotun.log.trouble import TroubleLog
from nanotun.timer import Timer

#: Seconds between two saves, each only if there are new names.  A crash loses the names of
#: this time.  A full pool takes some 50 ms to write.
SAVE_INTERVAL = 60.0

#: Names that one socket may ask for within L{HOLD} seconds, as long as they are in use; what it
#: asks for beyond that is answered by SERVFAIL.  Resolvers in programs ask from a new port each
#: time and come nowhere near it.
SOCKET_SHARE = SIZE // 16


@implementer(IAnswering)
class FakeDns:
    """
    Answers the queries that L{FakeAnswers} has an answer to, and passes all others to the
    relay.
    """

    _log = Logger()

    def __init__(self, clock: Any, answers: FakeAnswers, pool: FakePool, relay: IAnswering) -> None:
        self._pool = pool
        self.counters = relay.counters
        self._clock = clock
        self._answers = answers
        self._relay = relay
        self._trouble = TroubleLog(clock, self._log)

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
    ) -> bool:
        """See L{IAnswering.query}."""
        source = socketOf(client)
        refused = self._answers.refused
        answer = self._answers.answer(wire, self._clock.seconds(), (source,))
        if answer is None:
            return self._relay.query(wire, client, reply, overTCP, largest)
        self.counters.queries += 1
        self.counters.faked += 1
        if self._answers.refused > refused:
            self.counters.fakesRefused += 1
            self._tell(source)
        # At most 310 bytes, which fit everywhere.
        reply(answer)
        return True

    def stop(self) -> None:
        """Log what is held back."""
        self._trouble.stop()

    def _tell(self, source: Endpoint) -> None:
        """A name has got no address."""
        if self._pool.atShare((source,)) is None:
            self._trouble.report(
                f"All {SIZE:,} fake addresses are in use, so names that are new get no answer "
                "until some are free. Look for programs that ask for a great many names."
            )
            return
        who = f"The program at {source}" if source.port else f"{source.host}, by TCP,"
        self._trouble.report(
            f"{who} has asked for {SOCKET_SHARE:,} names within {HOLD:g} s and gets no answer "
            "about new ones until some are free; others are not affected."
        )


def socketOf(client: Hashable) -> Endpoint:
    """
    What a client of the relay is charged as: its socket.

    @param client: has a C{host}; with a C{port} if it asks by UDP.  All connections of a host
        are one client, so that none is remembered after its end.
    """
    return Endpoint(getattr(client, "host", ""), getattr(client, "port", 0))


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
